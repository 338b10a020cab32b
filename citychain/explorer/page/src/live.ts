/** What the explorer's server tells as it happens. */

import { batch, signal } from "@preact/signals";
import { decided, type Head, type Round, type State } from "./api";
import { RoundWindow, type ToldRound } from "./dag/window";

export type Connection = "connecting" | "open" | "lost";

/** A transaction that is followed reached a state. */
export interface Reached {
  tx_id: string;
  state: State;
  round?: number;
  seq?: number;
  code?: string;
}

interface Certified {
  round: number;
  votes: string[];
}

type Told = Partial<Omit<ToldRound, "round">> & {
  city?: string;
  head?: Head;
  rounds?: (Round | ToldRound)[];
  round?: Round;
  skipped?: number;
  /** At the beginning all that are known; then each as it comes. */
  certified?: Certified | { certified: Certified }[];
  transaction?: Reached;
  waiting?: { pending: number; head?: Head };
  trouble?: string;
};

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;
/** Sums of the last so many ms make the rate, each second anew. */
const RATE_MS = 10_000;
const RATE_EVERY_MS = 1_000;
/** Rounds of which is known when they were heard of. */
const SEEN_MAX = 1_000;
/** Values of a figure's course. */
const COURSE = 40;

/** One city, watched over a connection that is made anew whenever it breaks. */
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

  readonly #city: string;
  readonly #followed = new Map<string, (reached: Reached) => void>();
  readonly #seen: { round: number; at: number; size: number }[] = [];
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #closed = false;
  #drawing = 0;
  #began = 0;
  readonly #clock: ReturnType<typeof setInterval>;
  readonly #online = () => this.#connect();

  constructor(city: string) {
    this.#city = city;
    addEventListener("online", this.#online);
    this.#clock = setInterval(() => this.#count(), RATE_EVERY_MS);
    this.#connect();
  }

  /** Follows transactions; `told` hears of each state. At most 64 can be followed. */
  follow(ids: readonly string[], told: (reached: Reached) => void): void {
    for (const id of ids) this.#followed.set(id, told);
    this.#send({ follow: ids });
  }

  close(): void {
    this.#closed = true;
    removeEventListener("online", this.#online);
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
    cancelAnimationFrame(this.#drawing);
    this.#socket?.close();
  }

  #send(message: object): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #connect(): void {
    clearTimeout(this.#timer);
    if (this.#closed || (this.#socket && this.#socket.readyState <= WebSocket.OPEN)) return;
    const url = new URL("live", document.baseURI);
    url.hash = "";
    url.search = "";
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#send({ watch: this.#city });
      if (this.#followed.size > 0) this.#send({ follow: [...this.#followed.keys()] });
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket && !this.#closed) batch(() => this.#take(JSON.parse(data)));
    };
    socket.onclose = () => {
      if (socket !== this.#socket || this.#closed) return;
      this.connection.value = "lost";
      const wait = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures++);
      this.#timer = setTimeout(() => this.#connect(), wait * (0.5 + Math.random() / 2));
    };
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
    if (told.transaction) {
      const reached = told.transaction;
      reached.state = reached.state.toLowerCase() as State;
      this.#followed.get(reached.tx_id)?.(reached);
      if (reached.state === "approved" || reached.state === "rejected")
        this.#followed.delete(reached.tx_id);
    }
    this.#draw();
  }

  #begin(head: Head, rounds: (Round | ToldRound)[]): void {
    this.#failures = 0;
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
