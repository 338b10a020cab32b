/**
 * Keys that sign transactions: ML-DSA-87 from a seed, the ξ of FIPS 204, in the key files that
 * `citychain keygen` writes.
 */
import { ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { fromHex, toHex, Unreadable } from "../proof/bytes";
import { keyId } from "../proof/hashes";
import { parseJson } from "../proof/json";
import { SEED_BYTES } from "../proof/signatures";

/** The most that a key file has. */
export const KEY_FILE_BYTES_MAX = 4096;

export interface Key {
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly id: Uint8Array;
}

/** The key of a seed; of a random one if none is given. */
export function makeKey(
  seed: Uint8Array = crypto.getRandomValues(new Uint8Array(SEED_BYTES)),
): Key {
  const { publicKey } = ml_dsa87.keygen(seed);
  return { seed, publicKey, id: keyId(publicKey) };
}

/** The key file of a key. Whoever has it signs for its owner. */
export function writeKeyFile({ seed, id }: Key): string {
  const content = { format: 1, scheme: "ML-DSA-87", key_id: toHex(id), seed: toHex(seed) };
  return `${JSON.stringify(content, null, 1)}\n`;
}

/** The key of a key file; what cannot be read is told by its member, never by its value. */
export function readKeyFile(text: string): Key {
  if (/^[0-9a-f]{5184}\s*$/.test(text)) throw new Unreadable("a public key; give the key file");
  if (text.length > KEY_FILE_BYTES_MAX) throw new Unreadable("no key file: too long");
  const members = parseJson(text);
  if (!(members instanceof Map)) throw new Unreadable("no key file");
  const unknown = [...members.keys()].some(
    (name) => !["format", "scheme", "key_id", "seed"].includes(name),
  );
  if (unknown) throw new Unreadable("no key file: an unknown member");
  if (members.get("format") !== 1n) throw new Unreadable("{0}: is not {1}", "format", 1);
  if (members.get("scheme") !== "ML-DSA-87")
    throw new Unreadable("{0}: is not {1}", "scheme", "ML-DSA-87");
  const key = makeKey(fromHex(members.get("seed"), SEED_BYTES, "seed"));
  if (toHex(key.id) !== members.get("key_id"))
    throw new Unreadable("damaged: the seed does not give this key_id");
  return key;
}
