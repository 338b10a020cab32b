/** The log's Merkle tree: inclusion as in RFC 9162, section 2.1.3.2 (docs/protocol.md, section 6). */
import { concat } from "./bytes";
import { sha256 } from "./hashes";

/** One hash upwards from the leaf: the sibling stands on this side of what was reached so far. */
export interface Rung {
  readonly sibling: Uint8Array;
  readonly side: "left" | "right";
  readonly hash: Uint8Array;
}

export interface Climb {
  readonly leafHash: Uint8Array;
  readonly rungs: readonly Rung[];
  /** Where the way ends; no root if the path has not the length of one. */
  readonly root: Uint8Array | undefined;
}

/** The way from a leaf to the root of a tree of `size` leaves, by the hashes beside it. */
export function climb(
  leaf: Uint8Array,
  index: bigint,
  size: bigint,
  path: readonly Uint8Array[],
): Climb {
  const leafHash = sha256(concat(Uint8Array.of(0), leaf));
  const rungs: Rung[] = [];
  if (index >= size) return { leafHash, rungs, root: undefined };
  let node = index;
  let last = size - 1n;
  let hash = leafHash;
  for (const sibling of path) {
    if (last === 0n) return { leafHash, rungs, root: undefined };
    const side = node % 2n === 1n || node === last ? "left" : "right";
    const pair = side === "left" ? [sibling, hash] : [hash, sibling];
    hash = sha256(concat(Uint8Array.of(1), ...pair));
    rungs.push({ sibling, side, hash });
    if (side === "left")
      while (node % 2n === 0n && node !== 0n) {
        node >>= 1n;
        last >>= 1n;
      }
    node >>= 1n;
    last >>= 1n;
  }
  return { leafHash, rungs, root: last === 0n ? hash : undefined };
}
