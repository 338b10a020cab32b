/** Transactions: their form and the rules of their fields (docs/protocol.md, section 4). */
import { encodeUtf8, equal, toHex, Unreadable } from "./bytes";
import { transactionId } from "./hashes";
import type { Value } from "./problems";
import {
  ACTIONS,
  type ActionKind,
  type Message,
  SignedTransaction,
  TransactionBody,
} from "./schema";
import { PUBLIC_KEY_BYTES, SIGNATURE_BYTES } from "./signatures";
import { readWire } from "./wire";

/** A rule of section 4 is broken; the code is the one by which a city refuses it. */
export class Refused extends Unreadable {
  constructor(
    readonly code: "MALFORMED" | "TOO_LARGE" | "SCHEME_NOT_ALLOWED",
    field: Value,
  ) {
    super("{0}: {1}", field, code);
  }
}

type Actions = { [K in ActionKind]: Message<(typeof ACTIONS)[K]["kind"]> };
/** What a transaction does, by the name of its kind. */
export type Action = { [K in ActionKind]: { kind: K } & Actions[K] }[ActionKind];

const KINDS = Object.keys(ACTIONS) as ActionKind[];
const STAKE_MAX = (1n << 63n) - 1n;

/** A submitted transaction from its bytes. */
export function readEnvelope(data: Uint8Array): SignedTransaction {
  const envelope = strictly(SignedTransaction, data);
  checkEnvelope(envelope);
  return envelope;
}

/** The body that an envelope carries. */
export function readBody(data: Uint8Array): TransactionBody {
  const body = strictly(TransactionBody, data);
  checkObjects(body.reads, "reads");
  checkObjects(body.writes, "writes");
  rule(body.dependsOn.length <= 4 && distinct(body.dependsOn), "depends_on");
  rule(body.dependsOn.every(is32), "depends_on");
  rule(body.createdAtMs >= 1n, "created_at_ms");
  rule(body.validUntilMs === undefined || body.validUntilMs > body.createdAtMs, "valid_until_ms");
  rule(is32(body.genesis), "genesis");
  rule(is32(body.author), "author");
  rule(body.nonce.length === 8, "nonce");
  rule(
    KINDS.some((kind) => body[kind] !== undefined),
    "action",
  );
  checkAction(actionOf(body));
  return body;
}

export function actionOf(body: TransactionBody): Action {
  const kind = KINDS.find((each) => body[each] !== undefined) as ActionKind;
  return { kind, ...body[kind] } as Action;
}

/** A transaction as a ledger keeps it: every rule holds, and its key is given by id. */
export function readStored(envelope: SignedTransaction): { body: TransactionBody; id: Uint8Array } {
  checkEnvelope(envelope);
  const body = readBody(envelope.body);
  if (envelope.keyId === undefined || !equal(envelope.keyId, body.author))
    throw new Unreadable("not in its stored form: key_id must be the author's");
  return { body, id: transactionId(envelope.body) };
}

function strictly<S extends typeof SignedTransaction | typeof TransactionBody>(
  schema: S,
  data: Uint8Array,
): Message<S> {
  try {
    return readWire(schema, data, false);
  } catch (error) {
    if (error instanceof Unreadable) throw new Refused("MALFORMED", error.problem);
    throw error;
  }
}

function checkEnvelope({ scheme, publicKey, keyId, signature }: SignedTransaction): void {
  rule(scheme !== 0, "scheme");
  if (scheme !== 1) throw new Refused("SCHEME_NOT_ALLOWED", "scheme");
  rule((publicKey === undefined) !== (keyId === undefined), "signer");
  rule(publicKey === undefined || publicKey.length === PUBLIC_KEY_BYTES, "public_key");
  rule(keyId === undefined || is32(keyId), "key_id");
  rule(signature.length === SIGNATURE_BYTES, "signature");
}

function checkObjects(entries: readonly { object: string }[], field: string): void {
  most(entries.length, 16, field);
  for (const { object } of entries) {
    most(encodeUtf8(object).length, 128, field);
    rule(object !== "" && !object.startsWith("$"), field);
  }
  rule(new Set(entries.map((entry) => entry.object)).size === entries.length, field);
}

function checkAction(action: Action): void {
  if ("asset" in action) rule(/^[a-z0-9-]{1,32}$/.test(action.asset), "asset");
  if ("amount" in action) rule(action.amount >= 1n, "amount");
  if ("to" in action) rule(is32(action.to), "to");
  if ("city" in action) rule(is32(action.city), "city");
  if ("txId" in action) rule(is32(action.txId), "tx_id");
  if ("proof" in action) rule(action.proof.length > 0, "proof");
  if ("publicKey" in action) rule(action.publicKey.length === PUBLIC_KEY_BYTES, "public_key");
  switch (action.kind) {
    case "data":
      most(encodeUtf8(action.contentType).length, 64, "content_type");
      break;
    case "candidacy":
    case "withdrawal":
      rule(isStake(action.stake), "stake");
      break;
    case "presence":
      rule(Math.abs(action.latitudeE7) <= 900_000_000, "latitude_e7");
      rule(Math.abs(action.longitudeE7) <= 1_800_000_000, "longitude_e7");
      rule(action.firstRound <= action.lastRound, "last_round");
      rule(is32(action.anchor), "anchor");
      checkKeyed(action.witnesses, 16, "witnesses");
      rule(action.witnesses.every(hasSignature), "witnesses");
      break;
    case "equivocation":
      rule(is32(action.firstHash) && is32(action.secondHash), "first_hash");
      rule(action.firstSignature.length === SIGNATURE_BYTES, "first_signature");
      rule(action.secondSignature.length === SIGNATURE_BYTES, "second_signature");
      rule(!equal(action.firstHash, action.secondHash), "second_hash");
      break;
    case "recovery":
      rule(action.fromRound >= 1n, "from_round");
      rule(is32(action.previous), "previous");
      rule(action.seats.length > 0, "seats");
      checkKeyed(action.seats, 256, "seats");
      rule(
        action.seats.every((seat) => isStake(seat.stake)),
        "seats",
      );
      break;
    case "peer":
      rule(action.genesisFile.length > 0, "genesis_file");
      most(action.genesisFile.length, 262_144, "genesis_file");
      break;
    case "delivery":
      rule(/^[A-Z0-9_]{0,32}$/.test(action.refusalCode), "refusal_code");
      rule(action.refusalCode !== "" || action.refusalReason === "", "refusal_reason");
      most(encodeUtf8(action.refusalReason).length, 255, "refusal_reason");
      break;
    case "settlement":
      rule(is32(action.payer), "payer");
      break;
    case "anchor":
      rule(action.checkpoint.length >= 42, "checkpoint");
      most(action.checkpoint.length, 131_072, "checkpoint");
      break;
  }
}

function checkKeyed(entries: readonly { keyId: Uint8Array }[], count: number, field: string): void {
  const ids = entries.map((entry) => entry.keyId);
  rule(ids.length <= count && ids.every(is32) && distinct(ids), field);
}

const is32 = (data: Uint8Array) => data.length === 32;
const isStake = (stake: bigint) => stake >= 1n && stake <= STAKE_MAX;
const hasSignature = (one: { signature: Uint8Array }) => one.signature.length === SIGNATURE_BYTES;

function distinct(ids: readonly Uint8Array[]): boolean {
  return new Set(ids.map(toHex)).size === ids.length;
}

function rule(holds: boolean, field: string): void {
  if (!holds) throw new Refused("MALFORMED", field);
}

function most(value: number, limit: number, field: string): void {
  if (value > limit) throw new Refused("TOO_LARGE", field);
}
