/** The key that signs: made, opened, saved, forgotten. */

import { useState } from "preact/hooks";
import { key } from "../keys/kept";
import { KEY_FILE_BYTES_MAX, makeKey, readKeyFile, writeKeyFile } from "../keys/key";
import { toHex } from "../proof/bytes";
import { submitWords } from "../words/submit";
import { save } from "./file-field";
import { WholeId } from "./id";
import { Trouble } from "./trouble";

export function KeyPanel() {
  const w = submitWords();
  const [error, setError] = useState<Error | null>(null);
  const own = key.value;
  if (own !== null)
    return (
      <div class="key-panel">
        <WholeId value={toHex(own.id)} />
        <p class="quiet">{w.saveIt}</p>
        <div class="inline">
          <button
            type="button"
            onClick={() => save(writeKeyFile(own), `${toHex(own.id).slice(0, 8)}.key`)}
          >
            {w.save}
          </button>
          <button
            type="button"
            onClick={() => {
              key.value = null;
            }}
          >
            {w.forget}
          </button>
        </div>
      </div>
    );
  return (
    <div class="key-panel">
      <p class="quiet">{w.noKey}</p>
      <div class="inline">
        <button
          type="button"
          class="main"
          onClick={() => {
            key.value = makeKey();
          }}
        >
          {w.make}
        </button>
        <label class="button">
          {w.open}
          <input
            type="file"
            class="unseen"
            onChange={async ({ currentTarget }) => {
              const file = currentTarget.files?.[0];
              currentTarget.value = "";
              if (!file) return;
              try {
                key.value = readKeyFile(await file.slice(0, 4 * KEY_FILE_BYTES_MAX).text());
                setError(null);
              } catch (fault) {
                setError(fault as Error);
              }
            }}
          />
        </label>
      </div>
      {error && <Trouble error={error} />}
    </div>
  );
}
