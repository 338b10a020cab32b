/** One round: what it seals, and who signed it. */

import { useState } from "preact/hooks";
import { api, decided } from "../api";
import { number, time } from "../language";
import { useLoad } from "../load";
import { Facts } from "../parts/facts";
import { Id, WholeId } from "../parts/id";
import { StateMark } from "../parts/state";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

export const title = ({ city = "", round = "" }: Params) =>
  `${city}: ${ledgerWords().roundN(round)}`;

export default function RoundView({ params }: { params: Params }) {
  const { city = "", round = "" } = params;
  const w = ledgerWords();
  const shell = shellWords();
  const [from, setFrom] = useState(0);
  const { value, error, again } = useLoad(async (signal) => {
    const [found, { head }] = await Promise.all([
      api.round(city, Number(round), from || undefined, signal),
      api.city(city, signal),
    ]);
    return { ...found, head };
  }, `${city} ${round} ${from}`);
  const approved = value !== null && value.round <= value.head.approved_round;
  return (
    <>
      <div class="view-head">
        <h1>{w.roundN(Number.isSafeInteger(Number(round)) ? number(Number(round)) : round)}</h1>
        {value && (
          <nav class="pages" aria-label={w.rounds}>
            {value.round > 1 && (
              <a href={link("city", city, "round", value.round - 1)}>
                <span aria-hidden="true">← </span>
                {w.previous}
              </a>
            )}
            {value.round < value.head.sealed_round && (
              <a href={link("city", city, "round", value.round + 1)}>
                {w.next}
                <span aria-hidden="true"> →</span>
              </a>
            )}
          </nav>
        )}
      </div>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value && (
        <>
          <Facts
            facts={[
              [w.state, <StateMark key="state" state={approved ? "approved" : "sealed"} />],
              [w.time, time(value.time_ms)],
              [w.size, number(decided(value))],
              [w.rejected, value.rejected ? number(value.rejected) : null],
              [w.firstIndex, number(value.first_index)],
              [w.checkpoint, <WholeId key="checkpoint" value={value.checkpoint_hash} />],
              [w.poh, <WholeId key="poh" value={value.poh} />],
              [
                w.voters,
                value.votes?.length ? (
                  <ul class="inline">
                    {value.votes.map((key) => (
                      <li key={key}>
                        <Id value={key} href={link("city", city, "author", key)} />
                      </li>
                    ))}
                  </ul>
                ) : null,
              ],
            ]}
          />
          <h2>{w.transactions}</h2>
          <div class="scroll">
            <table>
              <caption class="unseen">{w.transactions}</caption>
              <thead>
                <tr>
                  <th scope="col">{w.seq}</th>
                  <th scope="col">{w.transaction}</th>
                  <th scope="col">{w.state}</th>
                </tr>
              </thead>
              <tbody>
                {value.leaves.map((leaf) => (
                  <tr key={leaf.seq}>
                    <td>
                      {leaf.code ? (
                        number(leaf.seq)
                      ) : (
                        <a href={link("city", city, "node", value.round, leaf.seq)}>
                          {number(leaf.seq)}
                        </a>
                      )}
                    </td>
                    <td>
                      <Id value={leaf.tx_id} href={link("city", city, "tx", leaf.tx_id)} />
                    </td>
                    <td>
                      <StateMark
                        state={leaf.code ? "rejected" : approved ? "approved" : "sealed"}
                      />
                      {leaf.code && (
                        <span class="quiet reason">
                          <code>{leaf.code}</code> {leaf.reason}
                        </span>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {(from > 0 || value.next_seq) && (
            <div class="pages">
              <button type="button" disabled={from === 0} onClick={() => setFrom(0)}>
                {shell.first}
              </button>
              <button
                type="button"
                disabled={!value.next_seq}
                onClick={() => setFrom(value.next_seq ?? 0)}
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
