/** Where the receipt of a transaction is checked: in its city, and through those above up to the top. */

import { api } from "../api";
import { useLoad } from "../load";
import { link } from "../router";
import { proofWords } from "../words/proof";

/** More a receipt cannot lead through. */
const LEVELS_MAX = 16;

/** The last of the cities above a city; null where there is none. */
async function topOf(city: string, signal: AbortSignal): Promise<string | null> {
  let top: string | null = null;
  let { parent } = await api.city(city, signal);
  for (let level = 0; parent && level < LEVELS_MAX; level++) {
    top = parent;
    ({ parent } = await api.city(parent, signal));
  }
  return top;
}

/** `here` is the top that the receipt shown leads to, or its own city; not given, none is shown. */
export function ReceiptLinks(props: { city: string; tx: string; here?: string }) {
  const { city, tx, here } = props;
  const w = proofWords();
  const { value: top } = useLoad((signal) => topOf(city, signal), city);
  return (
    <p class="inline">
      {here !== city && (
        <a href={link("city", city, "receipt", tx)}>{here ? w.checkOwn : w.checkReceipt}</a>
      )}
      {top !== null && here !== top && (
        <a href={link("city", city, "receipt", tx, top)}>{w.checkUpTo(top)}</a>
      )}
    </p>
  );
}
