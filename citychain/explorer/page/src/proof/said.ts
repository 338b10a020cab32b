/** What a transaction says, read from the bytes that were signed: nobody is believed about it. */
import { fromBase64, toHex, Unreadable } from "./bytes";
import { transactionId } from "./hashes";
import { actionOf, readBody, readEnvelope } from "./transactions";

export interface Said {
  author: string;
  kind: string;
  /** The names are those of the protocol. */
  fields: [name: string, value: string][];
}

/** Longer ones are told by their beginning and length. */
const BYTES_SHOWN = 64;
/** What people wrote, where it is text. */
const TEXTS = ["content", "genesisFile"];

/** What the bytes with this id say; null if these have another id, or are no transaction. */
export function saidBy(txId: string, envelope: string): Said | null {
  try {
    const { body } = readEnvelope(fromBase64(envelope));
    if (toHex(transactionId(body)) !== txId) return null;
    const read = readBody(body);
    const { kind, ...fields } = actionOf(read);
    return {
      author: toHex(read.author),
      kind: inProtocol(kind),
      fields: Object.entries(fields).map(([name, value]) => [inProtocol(name), told(value, name)]),
    };
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

const inProtocol = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function told(value: unknown, name = ""): string {
  if (value instanceof Uint8Array) return (TEXTS.includes(name) && text(value)) || hex(value);
  if (Array.isArray(value)) return value.map((one) => told(one)).join(", ");
  if (typeof value === "object" && value !== null)
    return Object.entries(value)
      .map(([member, one]) => `${inProtocol(member)} ${told(one)}`)
      .join(" ");
  return String(value ?? "");
}

function text(data: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

function hex(data: Uint8Array): string {
  if (data.length <= BYTES_SHOWN) return toHex(data);
  return `${toHex(data.subarray(0, BYTES_SHOWN))}… (${data.length} B)`;
}
