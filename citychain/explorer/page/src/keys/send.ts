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
  const submitted = await api.submit(city, sign(key, id, draft).envelope);
  const { acknowledgement: signed, tx_id } = submitted;
  if (signed) keepAcknowledgement(tx_id, `${JSON.stringify(signed, null, 1)}\n`);
  return submitted;
}
