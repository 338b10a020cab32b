/** Signatures: ML-DSA-87 (FIPS 204, pure form), each use with its own context. */
import { ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { encodeUtf8 } from "./bytes";

export const PUBLIC_KEY_BYTES = 2592;
export const SIGNATURE_BYTES = 4627;
export const SEED_BYTES = 32;

export type Context = "citychain/tx/v1" | "citychain/vote/v1" | "citychain/acknowledgement/v1";

export function signed(
  publicKey: Uint8Array,
  message: Uint8Array,
  context: Context,
  signature: Uint8Array,
): boolean {
  if (publicKey.length !== PUBLIC_KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  return ml_dsa87.verify(signature, message, publicKey, { context: encodeUtf8(context) });
}
