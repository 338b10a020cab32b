/**
 * Hashes and ids (docs/protocol.md, section 1).
 *
 * SHA-256 is @noble/hashes' everywhere: what is hashed is small, and `crypto.subtle` is missing
 * from pages that come over plain HTTP.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { concat, encodeUtf8 } from "./bytes";

export { sha256 };

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
