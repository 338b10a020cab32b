/** A transaction's way to its last state. */

import { useEffect, useState } from "preact/hooks";
import { api, type State, type Transaction } from "../api";
import { Feed, type Reached, type Told } from "../feed";
import { type Loaded, useLoad } from "../load";
import { proofWords } from "../words/proof";
import { StateMark } from "./state";

/** How far on the way each state is. */
const STEP: Record<State, number> = { received: 0, sealed: 1, approved: 2, rejected: 2 };

export function isFinal(transaction: Pick<Transaction, "state"> | null): boolean {
  return transaction !== null && STEP[transaction.state] === 2;
}

/**
 * A transaction, of which the explorer tells each state until it is final. What is told says
 * less than what can be asked for, so it is asked for then, and whenever the connection breaks.
 */
export function useTransaction(city: string, id: string): Loaded<Transaction> {
  const loaded = useLoad((signal) => api.transaction(city, id, signal), `${city} ${id}`);
  const [told, setTold] = useState<Reached | null>(null);
  const { again } = loaded;
  const value = further(loaded.value, told);
  const follows = value !== null && !isFinal(value);
  useEffect(() => {
    if (!follows) return;
    const hear = ({ transaction }: Told) => {
      if (!transaction) return;
      setTold(transaction);
      again();
    };
    const feed = new Feed(city, hear, again, [id]);
    return () => feed.close();
  }, [follows, city, id, again]);
  return { ...loaded, value };
}

/** The later of two states: who was asked may know less than who told. */
function further(asked: Transaction | null, told: Reached | null): Transaction | null {
  if (asked === null || told?.tx_id !== asked.tx_id) return asked;
  return STEP[told.state] > STEP[asked.state] ? { ...asked, ...told } : asked;
}

type Shown = Pick<Transaction, "state" | "code" | "reason">;

/** The states that lead to the last one, as a way; a screen reader hears of each new one. */
export function Life({ transaction }: { transaction: Shown }) {
  const { state, code, reason } = transaction;
  const way: State[] = ["received", "sealed", state === "rejected" ? "rejected" : "approved"];
  const reached = way.indexOf(state);
  return (
    <div class="life" role="status">
      <ol aria-label={proofWords().life}>
        {way.map((each, index) => (
          <li
            key={each}
            class={index <= reached ? "reached" : "ahead"}
            aria-current={index === reached ? "step" : undefined}
          >
            <StateMark state={each} />
          </li>
        ))}
      </ol>
      {code && (
        <p>
          <code class="bad">{code}</code> {reason}
        </p>
      )}
    </div>
  );
}
