/** Proof of history: hashes that can only be made one after the other (docs/protocol.md, section 7). */
import { concat } from "./bytes";
import { link } from "./hashes";

/** The hash of an entry. It takes some microseconds for each of `numHashes`. */
export function pohHash(prev: Uint8Array, numHashes: bigint, mixin: Uint8Array): Uint8Array {
  let hash = prev;
  for (let left = Number(numHashes); left > 1; left--) hash = link(hash);
  return link(concat(hash, mixin));
}
