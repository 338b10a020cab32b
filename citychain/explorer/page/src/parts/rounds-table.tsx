/** Rounds as a table: what the graph shows, for who reads. */

import { decided, type Round } from "../api";
import { clock, number } from "../language";
import { link } from "../router";
import { ledgerWords } from "../words/ledger";
import { StateMark } from "./state";

export function RoundsTable(props: {
  city: string;
  rounds: readonly Round[];
  approvedRound: number;
  caption: string;
}) {
  const { city, rounds, approvedRound, caption } = props;
  const w = ledgerWords();
  return (
    <div class="scroll">
      <table class="rounds">
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>
            <th scope="col">{w.round}</th>
            <th scope="col">{w.time}</th>
            <th scope="col" class="figure">
              {w.size}
            </th>
            <th scope="col" class="figure wide">
              {w.rejected}
            </th>
            <th scope="col" class="figure wide">
              {w.votes}
            </th>
            <th scope="col">{w.state}</th>
          </tr>
        </thead>
        <tbody>
          {rounds.map((round) => (
            <tr key={round.round}>
              <th scope="row">
                <a href={link("city", city, "round", round.round)}>{number(round.round)}</a>
              </th>
              <td>{clock(round.time_ms)}</td>
              <td class="figure">{number(decided(round))}</td>
              <td class={`figure wide${round.rejected ? " bad" : " none"}`}>
                {number(round.rejected)}
              </td>
              <td class="figure wide">{round.votes ? number(round.votes.length) : "–"}</td>
              <td>
                <StateMark state={round.round <= approvedRound ? "approved" : "sealed"} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
