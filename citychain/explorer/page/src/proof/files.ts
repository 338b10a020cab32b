/** Receipt files: protobuf's JSON form, each value in its one form (docs/protocol.md, 3 and 18). */
import { decodeUtf8, fromBase64, Unreadable } from "./bytes";
import { type Json, parseJson } from "./json";
import {
  empty,
  isDefault,
  LevelReceipt,
  type Message,
  Receipt,
  type Scalar,
  type Schema,
} from "./schema";

export const FILE_BYTES_MAX = 32 << 20;
/** No list of a receipt has more. */
const LIST_MAX = 1024;
const U64_MAX = (1n << 64n) - 1n;

/** A receipt from its file; one without levels is a `top` alone. */
export function readReceiptFile(file: Uint8Array): LevelReceipt {
  if (file.length > FILE_BYTES_MAX) throw new Unreadable("more than {0} bytes", FILE_BYTES_MAX);
  const value = parseJson(decodeUtf8(file));
  if (value instanceof Map && value.has("top")) return fromJson(LevelReceipt, value, "");
  return { levels: [], top: fromJson(Receipt, value, "") };
}

function fromJson<S extends Schema>(schema: S, value: Json, path: string): Message<S> {
  if (!(value instanceof Map)) throw new Unreadable("{0}: is no object", path || "JSON");
  const message = empty(schema) as Record<string, unknown>;
  const seen = new Set<string>();
  for (const [name, given] of value) {
    const field = Object.hasOwn(schema, name) ? schema[name] : undefined;
    const place = path ? `${path}.${name}` : name;
    if (field === undefined) throw new Unreadable("{0}: is unknown", place);
    if (field.mark === "repeated") {
      if (!Array.isArray(given) || given.length === 0)
        throw new Unreadable("{0}: no list, or an empty one", place);
      if (given.length > LIST_MAX) throw new Unreadable("{0}: more than {1}", place, LIST_MAX);
      message[name] = given.map((item, index) => member(field.kind, item, `${place}[${index}]`));
      continue;
    }
    const slot = field.oneof ?? name;
    if (seen.has(slot)) throw new Unreadable("{0}: beside its alternative", place);
    seen.add(slot);
    message[name] = member(field.kind, given, place);
    if (field.mark === "plain" && isDefault(message[name]))
      throw new Unreadable("{0}: written though it has its default", place);
  }
  return message as Message<S>;
}

function member(kind: Scalar | Schema, value: Json, place: string): unknown {
  if (typeof kind === "object") return fromJson(kind, value, place);
  switch (kind) {
    case "uint32":
      if (typeof value === "bigint" && value >= 0n && value < 1n << 32n) return Number(value);
      break;
    case "uint64":
      if (typeof value === "string" && /^(0|[1-9][0-9]{0,19})$/.test(value)) {
        const number = BigInt(value);
        if (number <= U64_MAX) return number;
      }
      break;
    case "Scheme":
      if (value === "SCHEME_ML_DSA_87") return 1;
      // By number only those without a name.
      if (typeof value === "bigint" && value !== 0n && value !== 1n)
        if (BigInt.asIntN(32, value) === value) return Number(value);
      break;
    case "string":
      if (typeof value === "string" && !/\p{Surrogate}/u.test(value)) return value;
      break;
    case "bytes":
      if (typeof value === "string")
        try {
          return fromBase64(value);
        } catch (error) {
          throw new Unreadable("{0}: {1}", place, (error as Unreadable).problem);
        }
      break;
  }
  throw new Unreadable("{0}: is no {1} in its one form", place, kind);
}
