/**
 * Hashes and ids (docs/protocol.md, section 1).
 *
 * SHA-256 is @noble/hashes', so that checks are plain code that runs wherever the page does. What
 * they hashed, the browser's WebCrypto hashes again afterwards.
 */
import { sha256 as link } from "@noble/hashes/sha2.js";
import { concat, encodeUtf8, equal } from "./bytes";

/** SHA-256 of a link of a chain, which nobody hashes again: there are thousands. */
export { link };

/** A message, and its hash. */
type Hashed = readonly [message: Uint8Array, hash: Uint8Array];

let noted: Hashed[] | null = null;

export function sha256(message: Uint8Array): Uint8Array {
  const hash = link(message);
  noted?.push([message, hash]);
  return hash;
}

/** What `run` returns, and what it hashed. */
export function noting<T>(run: () => T): { value: T; hashed: readonly Hashed[] } {
  const hashed: Hashed[] = [];
  noted = hashed;
  try {
    return { value: run(), hashed };
  } finally {
    noted = null;
  }
}

/**
 * Hashes all again by WebCrypto, and says how many there were: null where there is no WebCrypto,
 * as in pages that come by plain HTTP.
 *
 * @throws Error one came out otherwise.
 */
export async function hashAgain(hashed: readonly Hashed[]): Promise<number | null> {
  const { subtle } = globalThis.crypto;
  if (!subtle) return null;
  for (const [message, hash] of hashed) {
    const again = await subtle.digest("SHA-256", message as Uint8Array<ArrayBuffer>);
    if (!equal(new Uint8Array(again), hash)) throw new Error("WebCrypto has another SHA-256.");
  }
  return hashed.length;
}

export const SCHEME_ML_DSA_87 = 1;

/** SHA-256 over `"citychain/NAME/v1\0"` and the parts. */
export function tagged(name: string, ...parts: Uint8Array[]): Uint8Array {
  return sha256(concat(tag(name), ...parts));
}

export function tag(name: string): Uint8Array {
  return encodeUtf8(`citychain/${name}/v1\0`);
}

export const genesisId = (file: Uint8Array) => tagged("genesis", file);
export const keyId = (publicKey: Uint8Array) =>
  tagged("key", Uint8Array.of(SCHEME_ML_DSA_87), publicKey);
export const transactionId = (body: Uint8Array) => tagged("tx", body);
export const checkpointHash = (checkpoint: Uint8Array) => tagged("checkpoint", checkpoint);
