/** Signed acknowledgements: a city's promise of a final state (docs/protocol.md, section 13). */
import { be, concat, decodeUtf8, equal, fromHex, Unreadable } from "./bytes";
import type { Genesis } from "./genesis";
import { type Json, parseJson } from "./json";
import { climb } from "./log";
import { SIGNATURE_BYTES, signed } from "./signatures";
import { parts, type Step, Trail } from "./steps";

const FILE_BYTES_MAX = 32 << 10;
const MEMBERS = [
  ...["format", "genesis", "tx_id", "root", "signature", "path"],
  ...["leaf_index", "size", "received_ms", "final_by_ms"],
];

export interface Promised {
  readonly genesis: Uint8Array;
  readonly txId: Uint8Array;
  readonly root: Uint8Array;
  readonly signature: Uint8Array;
  readonly path: readonly Uint8Array[];
  readonly leafIndex: bigint;
  readonly size: bigint;
  readonly receivedMs: bigint;
  readonly finalByMs: bigint;
}

/** Whether a file is a promise's, and no receipt's. */
export function isPromise(file: Uint8Array): boolean {
  if (file.length > FILE_BYTES_MAX) return false;
  const value = parseJson(decodeUtf8(file));
  return value instanceof Map && value.has("final_by_ms");
}

/** A promise from its file. */
export function readPromise(file: Uint8Array): Promised {
  if (file.length > FILE_BYTES_MAX) throw new Unreadable("more than {0} bytes", FILE_BYTES_MAX);
  const members = parseJson(decodeUtf8(file));
  if (!(members instanceof Map)) throw new Unreadable("{0}: is no object", "JSON");
  const given = (name: string) => members.get(name) as Json;
  const missing = MEMBERS.find((name) => !members.has(name));
  if (missing !== undefined) throw new Unreadable("{0}: is missing", missing);
  if (members.size !== MEMBERS.length) throw new Unreadable("{0}: has unknown members", "JSON");
  const path = given("path");
  if (!Array.isArray(path) || path.length > 32)
    throw new Unreadable("{0}: no list of {1} to {2}", "path", 0, 32);
  if (given("format") !== 1n) throw new Unreadable("{0}: is not {1}", "format", 1);
  const size = integer(given("size"), "size", 1n, (1n << 32n) - 1n);
  const finalByMs = integer(given("final_by_ms"), "final_by_ms", 0n, (1n << 63n) - 1n);
  return {
    genesis: fromHex(given("genesis"), 32, "genesis"),
    txId: fromHex(given("tx_id"), 32, "tx_id"),
    root: fromHex(given("root"), 32, "root"),
    signature: fromHex(given("signature"), SIGNATURE_BYTES, "signature"),
    path: path.map((hash, index) => fromHex(hash, 32, `path[${index}]`)),
    leafIndex: integer(given("leaf_index"), "leaf_index", 0n, size - 1n),
    size,
    receivedMs: integer(given("received_ms"), "received_ms", 0n, finalByMs),
    finalByMs,
  };
}

function integer(value: Json, name: string, least: bigint, most: bigint): bigint {
  if (typeof value !== "bigint" || value < least || value > most)
    throw new Unreadable("{0}: no integer from {1} to {2}", name, least, most);
  return value;
}

/**
 * Checks a promise with the genesis file of its city.
 *
 * @throws Failed the check that names it invalid.
 */
export function verifyPromise(
  genesis: Genesis,
  promise: Promised,
  onStep: (step: Step) => void,
): void {
  const trail = new Trail(onStep);
  trail.step("genesis", "genesis", equal(promise.genesis, genesis.id), {
    expected: genesis.id,
    got: promise.genesis,
  });
  const context = "citychain/acknowledgement/v1";
  const named = [
    ["genesis", genesis.id],
    ["root", promise.root],
    ["size", be(promise.size, 4)],
    ["received_ms", be(promise.receivedMs, 8)],
    ["final_by_ms", be(promise.finalByMs, 8)],
  ] as const;
  const message = concat(...named.map(([, part]) => part));
  trail.step(
    "signature",
    "promise signature",
    signed(genesis.operator, message, context, promise.signature),
    { context, signed: parts(...named) },
  );
  const { root } = climb(promise.txId, promise.leafIndex, promise.size, promise.path);
  trail.step("inclusion", "promise inclusion", root !== undefined && equal(root, promise.root), {
    expected: promise.root,
    ...(root ? { got: root } : {}),
  });
}
