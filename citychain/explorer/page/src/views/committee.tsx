/** Who checks a city, and what they signed last. */

import { useEffect } from "preact/hooks";
import { api, type Member } from "../api";
import { number } from "../language";
import { useLoad } from "../load";
import { Id } from "../parts/id";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

const AGAIN_MS = 4_000;

export const title = ({ city = "" }: Params) => `${city}: ${ledgerWords().committee}`;

export default function CommitteeView({ params: { city = "" } }: { params: Params }) {
  const w = ledgerWords();
  const shell = shellWords();
  const { value, error, again } = useLoad((signal) => api.committee(city, signal), city);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) again();
    }, AGAIN_MS);
    return () => clearInterval(timer);
  }, [again]);
  const total = value?.members.reduce((sum, { stake }) => sum + Number(stake), 0) ?? 0;
  return (
    <>
      <h1>{w.committee}</h1>
      <p class="lead">{w.committeeLead}</p>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value?.members.length === 0 && <p class="empty">{w.solo}</p>}
      {value && value.members.length > 0 && (
        <>
          {value.round > value.sealed_round ? (
            <p class="stake">{w.allApproved}</p>
          ) : (
            <div class="stake">
              <p>
                <strong>{w.stakeOf(number(value.round))}</strong>{" "}
                <span class="quiet">
                  {w.stakeFor(number(Number(value.stake_for)), number(Number(value.stake_needed)))}
                </span>
              </p>
              <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
                <rect class="all" width="100" height="6" />
                <rect
                  class="signed"
                  width={(100 * Number(value.stake_for)) / Math.max(total, 1)}
                  height="6"
                />
                <rect
                  class="needed"
                  x={(100 * Number(value.stake_needed)) / Math.max(total, 1) - 0.2}
                  width="0.4"
                  height="6"
                />
              </svg>
            </div>
          )}
          <div class="scroll">
            <table>
              <caption class="unseen">{w.committee}</caption>
              <thead>
                <tr>
                  <th scope="col">{w.keyId}</th>
                  <th scope="col" class="figure">
                    {w.stake}
                  </th>
                  <th scope="col" class="figure">
                    {w.lastVote}
                  </th>
                </tr>
              </thead>
              <tbody>
                {value.members.map((member) => (
                  <Row
                    key={member.key_id}
                    city={city}
                    member={member}
                    sealed={value.sealed_round}
                  />
                ))}
              </tbody>
            </table>
          </div>
          <Objections city={city} members={value.members} />
        </>
      )}
    </>
  );
}

function Row({ city, member, sealed }: { city: string; member: Member; sealed: number }) {
  const w = ledgerWords();
  const { key_id, stake, last_round } = member;
  const behind = sealed - last_round;
  return (
    <tr>
      <th scope="row">
        <Id value={key_id} href={link("city", city, "author", key_id)} />
      </th>
      <td class="figure">{number(Number(stake))}</td>
      <td class="figure">
        {last_round ? number(last_round) : w.never}
        {last_round > 0 && behind > 2 && (
          <span class="quiet reason">{w.behind(number(behind))}</span>
        )}
      </td>
    </tr>
  );
}

/** What representatives say is wrong, in their words. */
function Objections({ city, members }: { city: string; members: Member[] }) {
  const w = ledgerWords();
  const objecting = members.filter(({ objection }) => objection);
  if (objecting.length === 0) return null;
  return (
    <section class="objections">
      <h2>{w.objections}</h2>
      <ul>
        {objecting.map(({ key_id, objection }) => (
          <li class="objection" key={key_id}>
            <Id value={key_id} href={link("city", city, "author", key_id)} />
            <p>
              {typeof objection === "string" ? (
                objection
              ) : (
                <>
                  <code>{objection?.check}</code> {objection?.detail}
                </>
              )}
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}
