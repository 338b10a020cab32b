/** What could not be had, in the server's words, and a way to ask again. */

import { ApiError } from "../api";
import { Unreadable } from "../proof/bytes";
import { problemWords } from "../words/problems";
import { shellWords } from "../words/shell";

export function Trouble({ error, again }: { error: Error; again?: () => void }) {
  const w = shellWords();
  const unreachable = error instanceof ApiError && error.status === 0;
  const told = error instanceof Unreadable ? problemWords(error.problem) : error.message;
  return (
    <div class="trouble" role="alert">
      <p>{unreachable ? w.unreachable : told}</p>
      {again && (
        <button type="button" onClick={again}>
          {w.retry}
        </button>
      )}
    </div>
  );
}
