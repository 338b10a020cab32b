/** A receipt, checked in the browser: a transaction's, or one from a file. */

import { useMemo, useState } from "preact/hooks";
import { api } from "../api";
import { useLoad } from "../load";
import { FileField, save } from "../parts/file-field";
import { GenesisPin } from "../parts/genesis-pin";
import { short } from "../parts/id";
import { Insecure } from "../parts/insecure";
import { ReceiptLinks } from "../parts/receipt-links";
import { Trouble } from "../parts/trouble";
import { type Files, Verdict } from "../parts/verdict";
import { decodeUtf8, encodeUtf8 } from "../proof/bytes";
import { FILE_BYTES_MAX } from "../proof/files";
import { altered } from "../proof/tamper";
import { link, type Params } from "../router";
import { proofWords } from "../words/proof";
import { shellWords } from "../words/shell";

export const title = ({ city, tx = "" }: Params) =>
  city ? `${city}: ${proofWords().receipt} ${short(tx)}` : proofWords().receipt;

export default function ReceiptView({ params: { city, tx, top } }: { params: Params }) {
  return city && tx ? <ReceiptOf city={city} tx={tx} top={top ?? city} /> : <ReceiptFile />;
}

/** `top` is the city from whose genesis it is checked: its own, or one above. */
function ReceiptOf({ city, tx, top }: { city: string; tx: string; top: string }) {
  const w = proofWords();
  const { value, error, again } = useLoad<Files>(async (signal) => {
    const [genesis, receipt] = await Promise.all([
      api.genesis(top, signal),
      api.receipt(city, tx, top !== city, signal),
    ]);
    return { genesis, receipt: encodeUtf8(receipt), txId: tx };
  }, `${city} ${tx} ${top}`);
  const [own, setOwn] = useState<Uint8Array | null>(null);
  const [spoilt, setSpoilt] = useState<Uint8Array | null>(null);
  const files = useMemo(
    () => value && { ...value, genesis: own ?? value.genesis, receipt: spoilt ?? value.receipt },
    [value, own, spoilt],
  );
  return (
    <>
      <h1>{w.receipt}</h1>
      <p class="lead">
        <a class="id" href={link("city", city, "tx", tx)}>
          {short(tx)}
        </a>{" "}
        {top === city ? w.lead : w.leadUpTo(top)}
      </p>
      <Insecure />
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shellWords().loading}</p>}
      {value && files && (
        <>
          <GenesisPin city={top} file={value.genesis} />
          {spoilt && <p class="bad">{w.alteredNote}</p>}
          <Verdict files={files} />
          <div class="pages">
            <button type="button" onClick={() => save(value.receipt, `${tx.slice(0, 16)}.json`)}>
              {w.save}
            </button>
            <button
              type="button"
              onClick={() =>
                setSpoilt(spoilt ? null : encodeUtf8(altered(decodeUtf8(value.receipt))))
              }
            >
              {spoilt ? w.restore : w.alter}
            </button>
          </div>
          <ReceiptLinks city={city} tx={tx} here={top} />
          <FileField label={w.ownGenesis} told={setOwn} />
        </>
      )}
    </>
  );
}

function ReceiptFile() {
  const w = proofWords();
  const [receipt, setReceipt] = useState<Uint8Array | null>(null);
  const [genesis, setGenesis] = useState<Uint8Array | null>(null);
  const [over, setOver] = useState(false);
  const files = useMemo(
    () => (receipt && genesis ? { receipt, genesis } : null),
    [receipt, genesis],
  );
  return (
    <>
      <h1>{w.receipt}</h1>
      <p class="lead">{w.dropLead}</p>
      <p class="lead">{w.trust}</p>
      <Insecure />
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the fields within do the same. */}
      <div
        class={over ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={async (event) => {
          event.preventDefault();
          setOver(false);
          for (const file of [...(event.dataTransfer?.files ?? [])].slice(0, 2)) {
            if (file.size > FILE_BYTES_MAX) continue;
            const data = new Uint8Array(await file.arrayBuffer());
            // What is checked has a member that no genesis has, and it is among the first of either.
            if (
              /"(txId|top|levels|final_by_ms)"/.test(
                new TextDecoder().decode(data.subarray(0, 1 << 20)),
              )
            )
              setReceipt(data);
            else setGenesis(data);
          }
        }}
      >
        <FileField label={w.receiptFile} told={setReceipt} />
        <FileField label={w.genesisFile} told={setGenesis} />
        <p class="quiet">{w.drop}</p>
      </div>
      {files && <Verdict files={files} />}
    </>
  );
}
