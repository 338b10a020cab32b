/** Bytes, and the texts that stand for them. Whoever reads strictly throws `Unreadable`. */
import { type Fault, inEnglish, type Problem, type Value } from "./problems";

/** What was given is not in its form; the message says where, for people. */
export class Unreadable extends Error {
  readonly problem: Problem;

  constructor(fault: Fault, ...values: Value[]) {
    const problem = { fault, values };
    super(inEnglish(problem));
    this.problem = problem;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}

export function decodeUtf8(data: Uint8Array): string {
  try {
    return decoder.decode(data);
  } catch {
    throw new Unreadable("text that is not UTF-8");
  }
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/** An unsigned number, big-endian, in so many bytes. */
export function be(value: bigint | number, length: number): Uint8Array {
  const data = new Uint8Array(length);
  let rest = BigInt(value);
  for (let at = length - 1; at >= 0; at--) {
    data[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  if (rest !== 0n) throw new RangeError(`${value} does not fit into ${length} bytes`);
  return data;
}

/** `counted(n)` of docs/protocol.md: the length in `width` bytes, then the bytes. */
export function counted(data: Uint8Array, width: number): Uint8Array {
  return concat(be(data.length, width), data);
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function toHex(data: Uint8Array): string {
  let text = "";
  for (const byte of data) text += HEX[byte];
  return text;
}

/** So many bytes from lower-case hexadecimal. */
export function fromHex(text: unknown, length: number, name: string): Uint8Array {
  if (typeof text !== "string" || text.length !== 2 * length || !/^[0-9a-f]*$/.test(text))
    throw new Unreadable("{0}: not {1} bytes in lower-case hexadecimal", name, length);
  const data = new Uint8Array(length);
  for (let at = 0; at < length; at++)
    data[at] = Number.parseInt(text.slice(2 * at, 2 * at + 2), 16);
  return data;
}

export function toBase64(data: Uint8Array): string {
  let text = "";
  for (let at = 0; at < data.length; at += 8192)
    text += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(text);
}

/** Standard base64 (RFC 4648, section 4) in the one form that its bytes have. */
export function fromBase64(text: string): Uint8Array {
  let decoded: string;
  try {
    decoded = atob(text);
  } catch {
    throw new Unreadable("not base64");
  }
  // `atob` forgives spaces, missing padding and spare bits.
  if (btoa(decoded) !== text) throw new Unreadable("base64 that is not in its one form");
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}
