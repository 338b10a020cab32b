/** The cities in which one is anchored, from it upward. */

import { api } from "../api";
import { number } from "../language";
import { useLoad } from "../load";
import { Id } from "../parts/id";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

export const title = ({ city = "" }: Params) => `${city}: ${ledgerWords().anchors}`;

export default function AnchorsView({ params: { city = "" } }: { params: Params }) {
  const w = ledgerWords();
  const shell = shellWords();
  const { value, error, again } = useLoad((signal) => api.anchors(city, signal), city);
  return (
    <>
      <h1>{w.anchors}</h1>
      <p class="lead">{w.anchorsLead}</p>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value?.chain.length === 0 && <p class="empty">{w.noAnchors}</p>}
      {value && value.chain.length > 0 && (
        <ol class="chain">
          <li>
            <span class="quiet">{w.thisCity}</span>
            <strong>{city}</strong>
          </li>
          {value.chain.map((anchor) => (
            <li key={anchor.tx_id}>
              <span class="quiet">
                {w.anchorStep(number(Number(anchor.round)), number(Number(anchor.size)))}
              </span>
              <strong>
                {anchor.city ? <a href={link("city", anchor.city)}>{anchor.name}</a> : anchor.name}
              </strong>
              {anchor.city ? (
                <Id value={anchor.tx_id} href={link("city", anchor.city, "tx", anchor.tx_id)} />
              ) : (
                <Id value={anchor.tx_id} />
              )}
            </li>
          ))}
        </ol>
      )}
    </>
  );
}
