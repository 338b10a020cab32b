/** The last rounds of a city: all that the live view ever holds, however long it is open. */

import type { Round } from "../api";

/** A place in the graph. */
export interface Spot {
  round: number;
  seq: number;
}

/** A round as the server tells of it; each parent is how many rounds back, and its seq there. */
export interface ToldRound {
  round: Round;
  nodes: [back: number, seq: number][][];
  codes: Record<string, string>;
  of: number;
}

/** Rounds that are held and drawn. */
export const ROUNDS_MAX = 40;

/** Nodes of a round that are held and drawn. */
export const NODES_MAX = 500;

export class RoundWindow {
  #rounds: ToldRound[] = [];

  /** Oldest first. */
  get rounds(): readonly ToldRound[] {
    return this.#rounds;
  }

  /** Takes a newer round; one that is no newer than the last begins anew. */
  add(told: ToldRound): void {
    const last = this.#rounds.at(-1);
    if (last && told.round.round <= last.round.round) this.#rounds = [];
    const nodes = told.nodes.slice(0, NODES_MAX);
    this.#rounds = [...this.#rounds.slice(1 - ROUNDS_MAX), { ...told, nodes }];
  }

  clear(): void {
    this.#rounds = [];
  }

  /** The column of a round, and -1 where it is not held. */
  column(round: number): number {
    // Rounds follow each other but where some were skipped, so it is near where it would stand.
    const last = this.#rounds.length - 1;
    for (let at = last; at >= 0; at--) {
      const here = this.#rounds[at]?.round.round as number;
      if (here === round) return at;
      if (here < round) return -1;
    }
    return -1;
  }

  /** A round's votes came. */
  certify(round: number, votes: string[]): void {
    const at = this.column(round);
    const told = this.#rounds[at];
    if (!told) return;
    this.#rounds = [...this.#rounds];
    this.#rounds[at] = { ...told, round: { ...told.round, votes } };
  }
}

/** The nodes that one builds on. */
export function parentsOf(told: ToldRound, seq: number): Spot[] {
  const parents = told.nodes[seq] ?? [];
  return parents.map(([back, place]) => ({ round: told.round.round - back, seq: place }));
}
