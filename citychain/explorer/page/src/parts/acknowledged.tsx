/** What the city signed when it received a transaction from this tab: checked, and held against it. */

import { useMemo, useState } from "preact/hooks";
import { api, type Transaction } from "../api";
import { acknowledgement } from "../keys/kept";
import { time } from "../language";
import { useLoad } from "../load";
import { encodeUtf8 } from "../proof/bytes";
import type { Outcome } from "../proof/outcome";
import { proofWords } from "../words/proof";
import { save } from "./file-field";
import { GenesisPin } from "./genesis-pin";
import { isFinal } from "./life";
import { Trouble } from "./trouble";
import { type Files, Verdict } from "./verdict";

interface Of {
  city: string;
  id: string;
  transaction: Transaction | null;
}

export function Acknowledged({ city, id, transaction }: Of) {
  const file = useMemo(() => acknowledgement(id), [id]);
  return file === null ? null : (
    <Signed city={city} id={id} transaction={transaction} file={file} />
  );
}

function Signed({ city, id, transaction, file }: Of & { file: string }) {
  const w = proofWords();
  const { value, error, again } = useLoad<Files>(
    async (signal) => ({
      genesis: await api.genesis(city, signal),
      receipt: encodeUtf8(file),
      txId: id,
    }),
    `${city} ${id}`,
  );
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  return (
    <div class="acknowledged">
      {error && <Trouble error={error} again={again} />}
      {value && (
        <details>
          <summary>
            <span role="status">{inWords(outcome, transaction)}</span>
          </summary>
          <GenesisPin city={city} file={value.genesis} />
          <Verdict files={value} told={setOutcome} />
          <div class="pages">
            <button
              type="button"
              onClick={() => save(file, `${id.slice(0, 16)}.acknowledgement.json`)}
            >
              {w.saveAcknowledgement}
            </button>
          </div>
        </details>
      )}
    </div>
  );
}

/** What was promised, and whether it is kept so far. */
function inWords(outcome: Outcome | null, transaction: Transaction | null): string {
  const w = proofWords();
  if (outcome === null) return w.promiseChecking;
  if (outcome.kind !== "promised") return w.promiseFails;
  const by = Number(outcome.promise.finalByMs);
  const said = w.promise(time(by));
  if (!isFinal(transaction)) return Date.now() > by ? `${said} ${w.promiseLate}` : said;
  // That it is final may be told before it is when it was sealed.
  const sealed = transaction?.time_ms;
  return sealed ? `${said} ${sealed <= by ? w.promiseKept : w.promiseBroken}` : said;
}
