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
  if (file.length > GENESIS_BYTES_MAX)
    throw new Unreadable("more than {0} bytes", GENESIS_BYTES_MAX);
  const members = object(parseJson(decodeUtf8(file)), "JSON", MEMBERS);
  for (const name of REQUIRED)
    if (!members.has(name)) throw new Unreadable("{0}: is missing", name);
  integer(members.get("format") ?? 1n, "format", 1n, 1n);
  object(members.get("rule_options") ?? new Map(), "rule_options");
  object(members.get("consensus_options") ?? new Map(), "consensus_options");
  integer(members.get("hold_rounds") ?? 8n, "hold_rounds", 1n, 1000n);
  const quorum = members.get("quorum") ?? "two-thirds";
  if (quorum !== "two-thirds" && quorum !== "majority")
    throw new Unreadable("{0}: is neither {1} nor {2}", "quorum", "two-thirds", "majority");
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
    throw new Unreadable("{0}: no list of {1} to {2}", "committee", 1, 1024);
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
    throw new Unreadable("{0}: one stands twice", "committee");
  return { seats, publicKeys };
}

function checkBalances(value: Json): void {
  for (const [asset, balances] of object(value, "balances")) {
    if (!/^[a-z0-9-]{1,32}$/.test(asset))
      throw new Unreadable("{0}: is no asset", `balances.${asset}`);
    let sum = 0n;
    for (const [key, amount] of object(balances, `balances.${asset}`)) {
      fromHex(key, 32, `balances.${asset}.${key}`);
      sum += integer(amount, `balances.${asset}.${key}`, 0n, AMOUNT_MAX);
    }
    if (sum > AMOUNT_MAX)
      throw new Unreadable("{0}: more than {1} in all", `balances.${asset}`, AMOUNT_MAX);
  }
}

function object(value: Json, name: string, members?: ReadonlySet<string>): JsonObject {
  if (!(value instanceof Map)) throw new Unreadable("{0}: is no object", name);
  const unknown = members && [...value.keys()].find((member) => !members.has(member));
  if (unknown !== undefined) throw new Unreadable("{0}: member {1} is unknown", name, unknown);
  return value;
}

function text(members: JsonObject, name: string, form: RegExp): string {
  const value = members.get(name);
  if (typeof value !== "string" || !form.test(value))
    throw new Unreadable("{0}: not as {1}", name, form.source);
  return value;
}

function integer(value: Json, name: string, least: bigint, most: bigint): bigint {
  if (typeof value !== "bigint" || value < least || value > most)
    throw new Unreadable("{0}: no integer from {1} to {2}", name, least, most);
  return value;
}
