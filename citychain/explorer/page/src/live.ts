/** A city as it happens: what the live view draws of what the explorer tells. */

import { batch, signal } from "@preact/signals";
import { decided, type Head, type Round } from "./api";
import { RoundWindow, type ToldRound } from "./dag/window";
import { type Certified, Feed, type Told } from "./feed";

export type Connection = "connecting" | "open" | "lost";

/** Sums of the last so many ms make the rate, each second anew. */
const RATE_MS = 10_000;
const RATE_EVERY_MS = 1_000;
/** Rounds of which is known when they were heard of. */
const SEEN_MAX = 1_000;
/** Values of a figure's course. */
const COURSE = 40;

/** One city, watched until it is closed. */
export class LiveCity {
  readonly connection = signal<Connection>("connecting");
  readonly head = signal<Head | null>(null);
  readonly pending = signal<number | null>(null);
  readonly trouble = signal<string | null>(null);
  readonly skipped = signal(0);
  /** Transactions a second, its last values. */
  readonly rates = signal<readonly number[]>([]);
  /** Seconds from sealed to approved, as seen from here. */
  readonly latencies = signal<readonly number[]>([]);
  /** Grows with each change of the window. */
  readonly turn = signal(0);
  readonly window = new RoundWindow();

  readonly #seen: { round: number; at: number; size: number }[] = [];
  #drawing = 0;
  #began = 0;
  readonly #clock: ReturnType<typeof setInterval>;
  readonly #feed: Feed;

  constructor(city: string) {
    this.#clock = setInterval(() => this.#count(), RATE_EVERY_MS);
    const lost = () => {
      this.connection.value = "lost";
    };
    this.#feed = new Feed(city, (told) => batch(() => this.#take(told)), lost);
  }

  close(): void {
    clearInterval(this.#clock);
    cancelAnimationFrame(this.#drawing);
    this.#feed.close();
  }

  #take(told: Told): void {
    if (told.trouble !== undefined) {
      this.trouble.value = told.trouble;
      return;
    }
    this.trouble.value = null;
    if (told.head && told.rounds) this.#begin(told.head, told.rounds);
    if (told.round) this.#addRound(told.round, told);
    if (Array.isArray(told.certified))
      for (const { certified } of told.certified) this.#certify(certified);
    else if (told.certified) this.#certify(told.certified);
    if (told.waiting) {
      this.pending.value = told.waiting.pending;
      if (told.waiting.head) this.#raise(told.waiting.head);
    }
    this.#draw();
  }

  #begin(head: Head, rounds: (Round | ToldRound)[]): void {
    this.connection.value = "open";
    this.head.value = head;
    this.#began = performance.now();
    this.#seen.length = 0;
    this.window.clear();
    const whole = rounds.map((each) =>
      "nodes" in each ? each : { round: each, nodes: [], codes: {}, of: decided(each) },
    );
    whole.sort((a, b) => a.round.round - b.round.round);
    for (const each of whole) this.window.add(each);
  }

  #addRound(round: Round, told: Told): void {
    this.window.add({
      round,
      nodes: told.nodes ?? [],
      codes: told.codes ?? {},
      of: told.of ?? decided(round),
    });
    this.skipped.value += told.skipped ?? 0;
    this.#seen.push({ round: round.round, at: performance.now(), size: decided(round) });
    if (this.#seen.length > SEEN_MAX) this.#seen.shift();
    this.#raise({
      sealed_round: round.round,
      approved_round: 0,
      size: round.first_index + decided(round),
    });
  }

  #certify({ round, votes }: Certified): void {
    this.window.certify(round, votes);
    this.#raise({ sealed_round: 0, approved_round: round, size: 0 });
    const seen = this.#seen.find((each) => each.round === round);
    if (seen)
      this.latencies.value = course(this.latencies.value, (performance.now() - seen.at) / 1000);
  }

  #count(): void {
    const now = performance.now();
    if (this.connection.value !== "open" || now - this.#began < RATE_EVERY_MS) return;
    const since = Math.max(this.#began, now - RATE_MS);
    let sum = 0;
    for (const { at, size } of this.#seen) if (at >= since) sum += size;
    this.rates.value = course(this.rates.value, (sum * 1000) / (now - since));
  }

  /** A head never falls back, whatever order messages come in. */
  #raise(head: Head): void {
    const was = this.head.value ?? head;
    this.head.value = {
      sealed_round: Math.max(was.sealed_round, head.sealed_round),
      approved_round: Math.max(was.approved_round, head.approved_round),
      size: Math.max(was.size, head.size),
    };
  }

  /** Has the page drawn at most once a frame; a hidden one waits, and holds no more than before. */
  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      this.turn.value++;
    });
  }
}

/** The last values with one more. */
function course(values: readonly number[], value: number): number[] {
  return [...values.slice(1 - COURSE), value];
}
