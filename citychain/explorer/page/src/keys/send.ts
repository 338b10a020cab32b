/** Signing and sending in one, for the city that this browser knows. */
import { api, type Submitted } from "../api";
import { toHex } from "../proof/bytes";
import { genesisId } from "../proof/hashes";
import { keepAcknowledgement, pin, pinned } from "./kept";
import type { Key } from "./key";
import { type Draft, sign } from "./sign";

/** The city has another genesis than when this browser first saw it: nothing is signed for it. */
export class GenesisChanged extends Error {}

/** @throws GenesisChanged, Refused, ApiError */
export async function send(city: string, key: Key, draft: Draft): Promise<Submitted> {
  const id = genesisId(await api.genesis(city));
  const known = pinned(city);
  if (known === null) pin(city, toHex(id));
  else if (known !== toHex(id)) throw new GenesisChanged();
  const { txId, envelope } = sign(key, id, draft);
  const submitted = await api.submit(city, envelope);
  // Whatever the server answers, what was signed here is what is looked at.
  const tx_id = toHex(txId);
  const { acknowledgement: signed } = submitted;
  if (signed) keepAcknowledgement(tx_id, `${JSON.stringify(signed, null, 1)}\n`);
  return { ...submitted, tx_id };
}
