/** All rounds of a city, newest first. */

import { useState } from "preact/hooks";
import { api } from "../api";
import { useLoad } from "../load";
import { RoundsTable } from "../parts/rounds-table";
import { Trouble } from "../parts/trouble";
import type { Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

const PAGE = 50;

export const title = ({ city = "" }: Params) => `${city}: ${ledgerWords().rounds}`;

export default function Rounds({ params: { city = "" } }: { params: Params }) {
  const w = ledgerWords();
  const shell = shellWords();
  const [from, setFrom] = useState<number | undefined>(undefined);
  const { value, error, busy, again } = useLoad(async (signal) => {
    const [{ rounds }, { head }] = await Promise.all([
      api.rounds(city, from, PAGE, signal),
      api.city(city, signal),
    ]);
    return { rounds, head };
  }, `${city} ${from}`);
  const last = value?.rounds.at(-1)?.round ?? 0;
  return (
    <>
      <h1>{w.rounds}</h1>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value?.rounds.length === 0 && <p class="empty">{shell.none}</p>}
      {value && value.rounds.length > 0 && (
        <div aria-busy={busy}>
          <RoundsTable
            city={city}
            rounds={value.rounds}
            approvedRound={value.head.approved_round}
            caption={w.rounds}
          />
          <div class="pages">
            <button type="button" onClick={() => (from ? setFrom(undefined) : again())}>
              {shell.newer}
            </button>
            <button type="button" disabled={last <= 1} onClick={() => setFrom(last - 1)}>
              {shell.older}
            </button>
          </div>
        </div>
      )}
    </>
  );
}
