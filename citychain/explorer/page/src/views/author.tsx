/** What one key has signed. */

import { useState } from "preact/hooks";
import { api } from "../api";
import { number } from "../language";
import { useLoad } from "../load";
import { Facts } from "../parts/facts";
import { Id, short, WholeId } from "../parts/id";
import { StateMark } from "../parts/state";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

export const title = ({ city = "", key = "" }: Params) =>
  `${city}: ${ledgerWords().author} ${short(key)}`;

export default function AuthorView({ params: { city = "", key = "" } }: { params: Params }) {
  const w = ledgerWords();
  const shell = shellWords();
  const [next, setNext] = useState<string | undefined>(undefined);
  const { value, error, again } = useLoad(
    (signal) => api.author(city, key, next, signal),
    `${city} ${key} ${next}`,
  );
  return (
    <>
      <h1>{w.author}</h1>
      <Facts
        facts={[
          [w.keyId, <WholeId key="id" value={key} />],
          [
            w.publicKey,
            value?.public_key && (
              <details key="public">
                <summary>ML-DSA-87</summary>
                <p class="id">{value.public_key}</p>
              </details>
            ),
          ],
        ]}
      />
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value && (
        <>
          <h2>{w.transactions}</h2>
          {value.transactions.length === 0 && (
            <p class="empty">{value.next ? w.noneSoFar : shell.none}</p>
          )}
          {value.transactions.length > 0 && (
            <div class="scroll">
              <table>
                <caption class="unseen">{w.transactions}</caption>
                <thead>
                  <tr>
                    <th scope="col">{w.transaction}</th>
                    <th scope="col">{w.round}</th>
                    <th scope="col">{w.state}</th>
                  </tr>
                </thead>
                <tbody>
                  {value.transactions.map(({ tx_id, round, state }) => (
                    <tr key={tx_id}>
                      <td>
                        <Id value={tx_id} href={link("city", city, "tx", tx_id)} />
                      </td>
                      <td>
                        {round ? (
                          <a href={link("city", city, "round", round)}>{number(round)}</a>
                        ) : (
                          "–"
                        )}
                      </td>
                      <td>
                        <StateMark state={state} />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
          {(next !== undefined || value.next) && (
            <div class="pages">
              <button
                type="button"
                disabled={next === undefined}
                onClick={() => setNext(undefined)}
              >
                {shell.first}
              </button>
              <button
                type="button"
                disabled={!value.next}
                onClick={() => setNext(value.next ?? undefined)}
              >
                {shell.more}
              </button>
            </div>
          )}
        </>
      )}
    </>
  );
}
