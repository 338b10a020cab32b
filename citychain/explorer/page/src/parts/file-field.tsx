/** Files that people give and take. */

import { useState } from "preact/hooks";
import { FILE_BYTES_MAX } from "../proof/files";
import { proofWords } from "../words/proof";

/** Reads a file; one that is larger than any receipt is not read at all. */
export function FileField({ label, told }: { label: string; told: (data: Uint8Array) => void }) {
  const [large, setLarge] = useState(false);
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="file"
        accept=".json,application/json"
        onChange={async ({ currentTarget }) => {
          const file = currentTarget.files?.[0];
          if (!file) return;
          setLarge(file.size > FILE_BYTES_MAX);
          if (file.size <= FILE_BYTES_MAX) told(new Uint8Array(await file.arrayBuffer()));
        }}
      />
      {large && <span class="bad">{proofWords().tooLarge}</span>}
    </label>
  );
}

/** Offers bytes to be kept as a file. */
export function save(data: Uint8Array | string, name: string): void {
  const url = URL.createObjectURL(new Blob([data as BlobPart]));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url));
}
