/** The genesis file, all that a verifier trusts (docs/protocol.md, section 2). */
import { decodeUtf8, fromHex, toHex, Unreadable } from "./bytes";
import { genesisId, keyId } from "./hashes";
import { type Json, type JsonObject, parseJson } from "./json";
import { PUBLIC_KEY_BYTES } from "./signatures";

export const GENESIS_BYTES_MAX = 16 << 20;
const AMOUNT_MAX = (1n << 63n) - 1n;

export interface Seat {
  readonly keyId: Uint8Array;
  readonly stake: bigint;
}

export interface Genesis {
  readonly id: Uint8Array;
  readonly network: string;
  readonly city: string;
  readonly rule: string;
  readonly consensus: string;
  readonly quorum: "two-thirds" | "majority";
  readonly operator: Uint8Array;
  readonly numHashes: bigint;
  readonly seats: readonly Seat[];
  /** Of the seats, in their order. */
  readonly publicKeys: readonly Uint8Array[];
}

const REQUIRED = ["network", "city", "rule", "consensus", "operator", "committee"];
const MEMBERS = new Set([
  ...REQUIRED,
  "format",
  "rule_options",
  "consensus_options",
  "quorum",
  "num_hashes",
  "hold_rounds",
  "balances",
]);
const NAMED_RULE = /^[a-z0-9-]{1,63}\/[0-9]{1,9}$/;

/** A genesis from its file, byte for byte; `Unreadable` names the member that breaks a rule. */
export function readGenesis(file: Uint8Array): Genesis {
  if (file.length > GENESIS_BYTES_MAX) throw new Unreadable(`more than ${GENESIS_BYTES_MAX} bytes`);
  const members = object(parseJson(decodeUtf8(file)), "the file", MEMBERS);
  for (const name of REQUIRED) if (!members.has(name)) throw new Unreadable(`${name}: is missing`);
  integer(members.get("format") ?? 1n, "format", 1n, 1n);
  object(members.get("rule_options") ?? new Map(), "rule_options");
  object(members.get("consensus_options") ?? new Map(), "consensus_options");
  integer(members.get("hold_rounds") ?? 8n, "hold_rounds", 1n, 1000n);
  const quorum = members.get("quorum") ?? "two-thirds";
  if (quorum !== "two-thirds" && quorum !== "majority")
    throw new Unreadable('quorum: is neither "two-thirds" nor "majority"');
  checkBalances(members.get("balances") ?? new Map());
  return {
    id: genesisId(file),
    network: text(members, "network", /^[a-z0-9][a-z0-9-]{0,62}$/),
    city: text(members, "city", /^[a-z][a-z0-9-]{0,62}$/),
    rule: text(members, "rule", NAMED_RULE),
    consensus: text(members, "consensus", NAMED_RULE),
    quorum,
    operator: fromHex(members.get("operator"), PUBLIC_KEY_BYTES, "operator"),
    numHashes: integer(members.get("num_hashes") ?? 10_000n, "num_hashes", 1n, 1n << 32n),
    ...readCommittee(members.get("committee") as Json),
  };
}

function readCommittee(value: Json): Pick<Genesis, "seats" | "publicKeys"> {
  if (!Array.isArray(value) || value.length < 1 || value.length > 1024)
    throw new Unreadable("committee: no list of 1 to 1024 seats");
  const publicKeys: Uint8Array[] = [];
  const seats: Seat[] = [];
  const names = new Set(["public_key", "stake"]);
  value.forEach((given, index) => {
    const place = `committee[${index}]`;
    const seat = object(given, place, names);
    const publicKey = fromHex(seat.get("public_key"), PUBLIC_KEY_BYTES, `${place}.public_key`);
    publicKeys.push(publicKey);
    const stake = integer(seat.get("stake") ?? 1n, `${place}.stake`, 1n, AMOUNT_MAX);
    seats.push({ keyId: keyId(publicKey), stake });
  });
  if (new Set(seats.map((seat) => toHex(seat.keyId))).size !== seats.length)
    throw new Unreadable("committee: a key stands in it twice");
  return { seats, publicKeys };
}

function checkBalances(value: Json): void {
  for (const [asset, balances] of object(value, "balances")) {
    if (!/^[a-z0-9-]{1,32}$/.test(asset)) throw new Unreadable(`balances: ${asset} is no asset`);
    let sum = 0n;
    for (const [key, amount] of object(balances, `balances.${asset}`)) {
      fromHex(key, 32, `balances.${asset}.${key}`);
      sum += integer(amount, `balances.${asset}.${key}`, 0n, AMOUNT_MAX);
    }
    if (sum > AMOUNT_MAX) throw new Unreadable(`balances.${asset}: more than 2^63 - 1 in all`);
  }
}

function object(value: Json, name: string, members?: ReadonlySet<string>): JsonObject {
  if (!(value instanceof Map)) throw new Unreadable(`${name}: is no object`);
  const unknown = members && [...value.keys()].find((member) => !members.has(member));
  if (unknown !== undefined) throw new Unreadable(`${name}: member ${unknown} is unknown`);
  return value;
}

function text(members: JsonObject, name: string, form: RegExp): string {
  const value = members.get(name);
  if (typeof value !== "string" || !form.test(value))
    throw new Unreadable(`${name}: not as ${form.source}`);
  return value;
}

function integer(value: Json, name: string, least: bigint, most: bigint): bigint {
  if (typeof value !== "bigint" || value < least || value > most)
    throw new Unreadable(`${name}: no integer from ${least} to ${most}`);
  return value;
}
