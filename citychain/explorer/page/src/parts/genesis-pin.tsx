/** Whether a city still has the genesis id under which this browser first saw it. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { pin, pinned } from "../keys/kept";
import { toHex } from "../proof/bytes";
import { genesisId } from "../proof/hashes";
import { proofWords } from "../words/proof";
import { WholeId } from "./id";

export function GenesisPin({ city, file }: { city: string; file: Uint8Array }) {
  const w = proofWords();
  const id = useMemo(() => toHex(genesisId(file)), [file]);
  const before = useMemo(() => pinned(city), [city]);
  const [accepted, setAccepted] = useState(false);
  const changed = before !== null && before !== id && !accepted;
  useEffect(() => {
    if (before === null) pin(city, id);
  }, [before, city, id]);
  return (
    <div class={changed ? "trouble" : "pin"} role={changed ? "alert" : undefined}>
      <div>
        <p>
          {changed && <strong>{w.pinnedOther} </strong>}
          {changed ? w.pinnedOtherLead : before === null ? w.pinnedNew : w.pinnedSame}
        </p>
        <WholeId value={id} />
      </div>
      {changed && (
        <button
          type="button"
          onClick={() => {
            pin(city, id);
            setAccepted(true);
          }}
        >
          {w.accept}
        </button>
      )}
    </div>
  );
}
