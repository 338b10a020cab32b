/** Fixed layouts: checkpoints, nodes, leaves (docs/protocol.md, sections 6 and 8). */
import { be, concat, counted, decodeUtf8, encodeUtf8, Unreadable } from "./bytes";
import type { Seat } from "./genesis";
import { tag, tagged } from "./hashes";

export interface PohEntry {
  readonly prev: Uint8Array;
  readonly numHashes: bigint;
  readonly mixin: Uint8Array;
  readonly hash: Uint8Array;
}

export interface Checkpoint {
  readonly genesis: Uint8Array;
  readonly round: bigint;
  readonly previous: Uint8Array;
  readonly root: Uint8Array;
  readonly size: bigint;
  readonly rule: string;
  readonly recordHash: Uint8Array;
  readonly committee: readonly Seat[];
  readonly nextCommittee: readonly Seat[] | undefined;
  readonly entry: PohEntry;
  /** What the entry must mix in: the hash of all before it. */
  readonly mixin: Uint8Array;
}

/** Reads a layout from its beginning to its end. */
class Reader {
  private at = 0;

  constructor(private readonly data: Uint8Array) {}

  take(length: number): Uint8Array {
    if (length > this.data.length - this.at) throw new Unreadable("the layout ends too early");
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  number(length: number): bigint {
    return this.take(length).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  seats(): Seat[] {
    const count = Number(this.number(2));
    if (count < 1 || count > 1024)
      throw new Unreadable("{0}: no list of {1} to {2}", "committee", 1, 1024);
    return Array.from({ length: count }, () => ({ keyId: this.take(32), stake: this.number(8) }));
  }

  flag(): boolean {
    const flag = this.number(1);
    if (flag > 1n) throw new Unreadable("a flag that is neither 0 nor 1");
    return flag === 1n;
  }

  before(): Uint8Array {
    return this.data.subarray(0, this.at);
  }

  end(): void {
    if (this.at !== this.data.length) throw new Unreadable("bytes follow the layout");
  }
}

export function readCheckpoint(data: Uint8Array): Checkpoint {
  const reader = new Reader(data);
  if (reader.number(2) !== 1n) throw new Unreadable("another version of the layout");
  const fields = {
    genesis: reader.take(32),
    round: reader.number(8),
    previous: reader.take(32),
    root: reader.take(32),
    size: reader.number(8),
    rule: decodeUtf8(reader.take(Number(reader.number(1)))),
    recordHash: reader.take(32),
    committee: reader.seats(),
    nextCommittee: reader.flag() ? reader.seats() : undefined,
  };
  const mixin = tagged("mixin", reader.before());
  const entry = {
    prev: reader.take(32),
    numHashes: reader.number(8),
    mixin: reader.take(32),
    hash: reader.take(32),
  };
  reader.end();
  return { ...fields, mixin, entry };
}

/** A transaction's place in the history of a city. */
export interface Place {
  readonly round: bigint;
  readonly seq: number;
  readonly txId: Uint8Array;
}

/** What a node's id is the hash of, each part with its name. */
export function nodeParts(
  rule: string,
  genesis: Uint8Array,
  place: Place,
  parents: readonly Uint8Array[],
  pop: Uint8Array,
): [name: string, part: Uint8Array][] {
  return [
    ["tag", tag("node")],
    ["rule", counted(encodeUtf8(rule), 1)],
    ["genesis", genesis],
    ["round", be(place.round, 8)],
    ["seq", be(place.seq, 4)],
    ["transaction", place.txId],
    ["parents", concat(be(parents.length, 1), ...parents)],
    ...(pop.length > 0 ? ([["pop", pop]] as [string, Uint8Array][]) : []),
  ];
}

export function approvedLeaf(nodeId: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(1), nodeId);
}

export function rejectedLeaf(place: Place, code: string, reason: string): Uint8Array {
  return concat(
    Uint8Array.of(2),
    be(place.round, 8),
    be(place.seq, 4),
    place.txId,
    counted(encodeUtf8(code), 1),
    counted(encodeUtf8(reason), 1),
  );
}
