/**
 * The messages of proto/citychain/v1 that proofs consist of, as tables that the wire form and the
 * JSON form are read by (docs/protocol.md, sections 3, 4, 12 and 18).
 */

export type Scalar = "bytes" | "string" | "uint64" | "uint32" | "sint32" | "bool" | "Scheme";
export interface Schema {
  readonly [name: string]: Field;
}
export interface Field<K extends Scalar | Schema = Scalar | Schema, M extends Mark = Mark> {
  readonly number: number;
  readonly kind: K;
  readonly mark: M;
  /** Fields of a message with the same `oneof` exclude each other. */
  readonly oneof?: string;
}
/** A `plain` field has its default where it is not written; a `maybe` is undefined. */
type Mark = "plain" | "maybe" | "repeated";

type Value<K> = K extends "bytes"
  ? Uint8Array
  : K extends "string"
    ? string
    : K extends "uint64"
      ? bigint
      : K extends "bool"
        ? boolean
        : K extends Scalar
          ? number
          : K extends Schema
            ? Message<K>
            : never;
export type Message<S extends Schema> = {
  -readonly [F in keyof S]: S[F] extends Field<infer K, infer M>
    ? M extends "repeated"
      ? Value<K>[]
      : M extends "maybe"
        ? Value<K> | undefined
        : Value<K>
    : never;
};

function plain<K extends Scalar>(number: number, kind: K): Field<K, "plain"> {
  return { number, kind, mark: "plain" };
}
function maybe<K extends Scalar | Schema>(
  number: number,
  kind: K,
  oneof?: string,
): Field<K, "maybe"> {
  return { number, kind, mark: "maybe", ...(oneof === undefined ? {} : { oneof }) };
}
function repeated<K extends Scalar | Schema>(number: number, kind: K): Field<K, "repeated"> {
  return { number, kind, mark: "repeated" };
}

export const DEFAULTS = {
  bytes: new Uint8Array(0),
  string: "",
  uint64: 0n,
  uint32: 0,
  sint32: 0,
  bool: false,
  Scheme: 0,
} as const;

export function isDefault(value: unknown): boolean {
  return value instanceof Uint8Array
    ? value.length === 0
    : value === "" || value === 0n || value === 0 || value === false;
}

/** A message in which nothing is written. */
export function empty<S extends Schema>(schema: S): Message<S> {
  const message: Record<string, unknown> = {};
  for (const [name, { kind, mark }] of Object.entries(schema)) {
    if (mark === "repeated") message[name] = [];
    else if (mark === "maybe") message[name] = undefined;
    else message[name] = DEFAULTS[kind as Scalar];
  }
  return message as Message<S>;
}

// --- transactions

export const SignedTransaction = {
  body: plain(1, "bytes"),
  scheme: plain(2, "Scheme"),
  publicKey: maybe(3, "bytes", "signer"),
  keyId: maybe(4, "bytes", "signer"),
  signature: plain(5, "bytes"),
};
export type SignedTransaction = Message<typeof SignedTransaction>;

const Vote = { keyId: plain(1, "bytes"), signature: plain(2, "bytes") };

const amounts = { to: plain(2, "bytes"), amount: plain(3, "uint64") };
const Stake = { asset: plain(1, "string"), stake: plain(2, "uint64") };
export const ACTIONS = {
  data: maybe(16, { contentType: plain(1, "string"), content: plain(2, "bytes") }, "action"),
  transfer: maybe(17, { asset: plain(1, "string"), ...amounts }, "action"),
  presence: maybe(
    18,
    {
      latitudeE7: plain(1, "sint32"),
      longitudeE7: plain(2, "sint32"),
      accuracyM: plain(3, "uint32"),
      firstRound: plain(4, "uint64"),
      lastRound: plain(5, "uint64"),
      anchor: plain(6, "bytes"),
      witnesses: repeated(7, Vote),
    },
    "action",
  ),
  candidacy: maybe(19, Stake, "action"),
  withdrawal: maybe(20, Stake, "action"),
  witness: maybe(21, { publicKey: plain(1, "bytes"), revoked: plain(2, "bool") }, "action"),
  equivocation: maybe(
    22,
    {
      publicKey: plain(1, "bytes"),
      round: plain(2, "uint64"),
      firstHash: plain(3, "bytes"),
      firstSignature: plain(4, "bytes"),
      secondHash: plain(5, "bytes"),
      secondSignature: plain(6, "bytes"),
    },
    "action",
  ),
  recovery: maybe(
    23,
    {
      fromRound: plain(1, "uint64"),
      previous: plain(2, "bytes"),
      seats: repeated(3, { keyId: plain(1, "bytes"), stake: plain(2, "uint64") }),
    },
    "action",
  ),
  peer: maybe(24, { genesisFile: plain(1, "bytes") }, "action"),
  remittance: maybe(
    25,
    {
      asset: plain(1, "string"),
      city: plain(2, "bytes"),
      to: plain(3, "bytes"),
      amount: plain(4, "uint64"),
    },
    "action",
  ),
  delivery: maybe(
    26,
    {
      city: plain(1, "bytes"),
      txId: plain(2, "bytes"),
      asset: plain(3, "string"),
      to: plain(4, "bytes"),
      amount: plain(5, "uint64"),
      proof: plain(6, "bytes"),
      refusalCode: plain(7, "string"),
      refusalReason: plain(8, "string"),
    },
    "action",
  ),
  settlement: maybe(
    27,
    {
      txId: plain(1, "bytes"),
      payer: plain(2, "bytes"),
      city: plain(3, "bytes"),
      asset: plain(4, "string"),
      amount: plain(5, "uint64"),
      returned: plain(6, "bool"),
      proof: plain(7, "bytes"),
    },
    "action",
  ),
  anchor: maybe(
    28,
    { city: plain(1, "bytes"), checkpoint: plain(2, "bytes"), proof: plain(3, "bytes") },
    "action",
  ),
  reward: maybe(
    29,
    {
      epoch: plain(1, "uint64"),
      asset: plain(2, "string"),
      to: plain(3, "bytes"),
      amount: plain(4, "uint64"),
    },
    "action",
  ),
};
export type ActionKind = keyof typeof ACTIONS;

export const TransactionBody = {
  genesis: plain(1, "bytes"),
  author: plain(2, "bytes"),
  nonce: plain(3, "bytes"),
  createdAtMs: plain(4, "uint64"),
  validUntilMs: maybe(5, "uint64"),
  dependsOn: repeated(6, "bytes"),
  reads: repeated(7, { object: plain(1, "string"), version: plain(2, "uint64") }),
  writes: repeated(8, { object: plain(1, "string"), expectedVersion: plain(2, "uint64") }),
  ...ACTIONS,
};
export type TransactionBody = Message<typeof TransactionBody>;

// --- receipts

export const Certificate = {
  round: plain(1, "uint64"),
  checkpointHash: plain(2, "bytes"),
  votes: repeated(3, Vote),
};
export type Certificate = Message<typeof Certificate>;

const Handover = {
  checkpoint: plain(1, "bytes"),
  certificate: maybe(2, Certificate),
  publicKeys: repeated(3, "bytes"),
  recovery: maybe(4, SignedTransaction),
};
export type Handover = Message<typeof Handover>;

export const Receipt = {
  genesis: plain(1, "bytes"),
  txId: plain(2, "bytes"),
  transaction: maybe(3, SignedTransaction),
  publicKey: plain(4, "bytes"),
  node: maybe(5, {
    nodeId: plain(1, "bytes"),
    txId: plain(2, "bytes"),
    parents: repeated(3, { nodeId: plain(3, "bytes") }),
    round: plain(4, "uint64"),
    seq: plain(5, "uint32"),
    pop: plain(8, "bytes"),
  }),
  rejection: maybe(6, { code: plain(1, "string"), reason: plain(2, "string") }),
  round: plain(7, "uint64"),
  seq: plain(8, "uint32"),
  leafIndex: plain(9, "uint64"),
  inclusion: repeated(10, "bytes"),
  checkpoint: plain(11, "bytes"),
  certificate: maybe(12, Certificate),
  handovers: repeated(13, Handover),
};
export type Receipt = Message<typeof Receipt>;

export const LevelReceipt = { levels: repeated(1, Receipt), top: maybe(2, Receipt) };
export type LevelReceipt = Message<typeof LevelReceipt>;
