/** A state, told by shape, colour and word alike. */

import type { State } from "../api";
import { stateWords } from "../words/states";

export function StateMark({ state }: { state: State }) {
  return (
    <span class={`state ${state}`}>
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        {state === "received" && (
          <circle cx="8" cy="8" r="5" class="stroke" stroke-dasharray="2 2.2" />
        )}
        {state === "sealed" && <circle cx="8" cy="8" r="5" class="stroke" />}
        {state === "approved" && <circle cx="8" cy="8" r="6" class="fill" />}
        {state === "rejected" && <path d="m4 4 8 8m0-8-8 8" class="stroke" />}
      </svg>
      {stateWords()[state]}
    </span>
  );
}
