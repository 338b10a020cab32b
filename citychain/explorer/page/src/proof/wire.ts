/** Protobuf's wire form, read strictly and written in one form (docs/protocol.md, section 3). */
import { concat, decodeUtf8, encodeUtf8, Unreadable } from "./bytes";
import { empty, isDefault, type Message, type Scalar, type Schema } from "./schema";

const VARINT = 0;
const COUNTED = 2;

/**
 * A message from its bytes. Unknown fields, other wire types, longer varints and fields that are
 * given twice are refused; with `oneForm` also fields out of order and written defaults, so that
 * a message has one form alone.
 */
export function readWire<S extends Schema>(
  schema: S,
  data: Uint8Array,
  oneForm: boolean,
): Message<S> {
  const message = empty(schema) as Record<string, unknown>;
  const seen = new Set<string>();
  let at = 0;
  let last = 0;

  function varint(): bigint {
    let value = 0n;
    for (let index = 0; index < 10; index++) {
      const byte = data[at++];
      if (byte === undefined) throw new Unreadable("ends within a number");
      value |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if (byte < 0x80) {
        if (byte === 0 && index > 0) throw new Unreadable("a number longer than it need be");
        if (value >> 64n) break;
        return value;
      }
    }
    throw new Unreadable("a number of more than {0} bits", 64);
  }

  while (at < data.length) {
    const tag = varint();
    const number = Number(tag >> 3n);
    const found = Object.entries(schema).find(([, field]) => field.number === number);
    if (found === undefined) throw new Unreadable("field {0} is unknown", number);
    const [name, field] = found;
    const slot = field.oneof ?? name;
    if (field.mark !== "repeated" && seen.has(slot))
      throw new Unreadable("{0}: given twice, or beside its alternative", name);
    seen.add(slot);
    if (oneForm && number < last) throw new Unreadable("{0}: out of order", name);
    last = number;
    const { kind } = field;
    const expected = isCounted(kind) ? COUNTED : VARINT;
    if (Number(tag & 7n) !== expected) throw new Unreadable("{0}: another wire type", name);
    let value: unknown = varint();
    if (isCounted(kind)) {
      const length = value as bigint;
      if (length > BigInt(data.length - at)) throw new Unreadable("{0}: cut", name);
      const part = data.subarray(at, at + Number(length));
      at += part.length;
      if (typeof kind === "object") value = readWire(kind, part, oneForm);
      else value = kind === "string" ? decodeUtf8(part) : part;
    } else {
      value = fromVarint(value as bigint, kind, oneForm, name);
    }
    if (oneForm && field.mark === "plain" && isDefault(value))
      throw new Unreadable("{0}: written though it has its default", name);
    if (field.mark === "repeated") (message[name] as unknown[]).push(value);
    else message[name] = value;
  }
  return message as Message<S>;
}

function isCounted(kind: Scalar | Schema): kind is "bytes" | "string" | Schema {
  return typeof kind === "object" || kind === "bytes" || kind === "string";
}

function fromVarint(value: bigint, kind: Scalar, oneForm: boolean, name: string): unknown {
  if (kind === "uint64") return value;
  if (kind === "Scheme") {
    // An enum is a signed number of 32 bits, written in 64. A submitted one that nobody knows is
    // refused as a scheme, whatever its bits.
    const number = BigInt.asIntN(64, value);
    if (oneForm && number !== BigInt.asIntN(32, value))
      throw new Unreadable("{0}: no number of an enum", name);
    return Number(number);
  }
  const bits = kind === "bool" ? 1n : 32n;
  if (value >> bits) throw new Unreadable("{0}: a number of more than {1} bits", name, bits);
  if (kind === "bool") return value === 1n;
  return Number(kind === "sint32" ? (value >> 1n) ^ -(value & 1n) : value);
}

/** A message in its one form. */
export function writeWire<S extends Schema>(schema: S, message: Message<S>): Uint8Array {
  const parts: Uint8Array[] = [];
  const fields = Object.entries(schema).sort(([, one], [, other]) => one.number - other.number);
  for (const [name, { number, kind, mark }] of fields) {
    const value = (message as Record<string, unknown>)[name];
    const values = mark === "repeated" ? (value as unknown[]) : [value];
    for (const each of values) {
      if (each === undefined || (mark === "plain" && isDefault(each))) continue;
      if (isCounted(kind)) {
        const data =
          typeof kind === "object"
            ? writeWire(kind, each as Message<Schema>)
            : kind === "string"
              ? encodeUtf8(each as string)
              : (each as Uint8Array);
        parts.push(toVarint(BigInt((number << 3) | COUNTED)), toVarint(BigInt(data.length)), data);
      } else {
        parts.push(toVarint(BigInt((number << 3) | VARINT)), toVarint(toNumber(each, kind)));
      }
    }
  }
  return concat(...parts);
}

function toNumber(value: unknown, kind: Scalar): bigint {
  const number = BigInt(value as bigint | number | boolean);
  if (kind === "sint32") return BigInt.asUintN(32, (number << 1n) ^ (number >> 31n));
  return BigInt.asUintN(64, number);
}

function toVarint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
