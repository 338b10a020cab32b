/** A transaction's way to its last state. */

import { useEffect } from "preact/hooks";
import { api, type State, type Transaction } from "../api";
import { type Loaded, useLoad } from "../load";
import { proofWords } from "../words/proof";
import { StateMark } from "./state";

const AGAIN_MS = 700;

export function isFinal(transaction: Pick<Transaction, "state"> | null): boolean {
  return transaction?.state === "approved" || transaction?.state === "rejected";
}

/** A transaction, asked for again until its state is final. */
export function useTransaction(city: string, id: string): Loaded<Transaction> {
  const loaded = useLoad((signal) => api.transaction(city, id, signal), `${city} ${id}`);
  const { value, error, again } = loaded;
  const ended = isFinal(value) || error !== null;
  useEffect(() => {
    if (ended) return;
    const timer = setInterval(again, AGAIN_MS);
    return () => clearInterval(timer);
  }, [ended, again]);
  return loaded;
}

type Reached = Pick<Transaction, "state" | "code" | "reason">;

/** The states that lead to the last one, as a way; a screen reader hears of each new one. */
export function Life({ transaction }: { transaction: Reached }) {
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
