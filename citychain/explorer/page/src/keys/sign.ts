/** Building and signing transactions (docs/protocol.md, section 4). */
import { ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { concat, encodeUtf8 } from "../proof/bytes";
import { SCHEME_ML_DSA_87, transactionId } from "../proof/hashes";
import { empty, SignedTransaction, TransactionBody } from "../proof/schema";
import { readBody } from "../proof/transactions";
import { writeWire } from "../proof/wire";
import type { Key } from "./key";

export interface Signed {
  readonly txId: Uint8Array;
  /** A SignedTransaction, with the key by value: a city that has never seen it needs that. */
  readonly envelope: Uint8Array<ArrayBuffer>;
}

/** An action, as the fields of a body: `{ data: { contentType, content } }`. */
export type Draft = Partial<TransactionBody>;

/** Signs what a draft says, as of now; `Refused` names the field that breaks a rule. */
export function sign(key: Key, genesis: Uint8Array, draft: Draft): Signed {
  const body = writeWire(TransactionBody, {
    ...empty(TransactionBody),
    genesis,
    author: key.id,
    nonce: crypto.getRandomValues(new Uint8Array(8)),
    createdAtMs: BigInt(Date.now()),
    ...draft,
  });
  readBody(body);
  const { secretKey } = ml_dsa87.keygen(key.seed);
  const signature = ml_dsa87.sign(body, secretKey, { context: encodeUtf8("citychain/tx/v1") });
  const envelope = writeWire(SignedTransaction, {
    body,
    scheme: SCHEME_ML_DSA_87,
    publicKey: key.publicKey,
    keyId: undefined,
    signature,
  });
  return { txId: transactionId(body), envelope: concat(envelope) as Uint8Array<ArrayBuffer> };
}
