/** What became of a transaction, from its arrival to its last state. */

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import type { Transaction } from "../api";
import { number, time } from "../language";
import { Acknowledged } from "../parts/acknowledged";
import { Facts } from "../parts/facts";
import { short, WholeId } from "../parts/id";
import { isFinal, Life, useTransaction } from "../parts/life";
import { ReceiptLinks } from "../parts/receipt-links";
import { Trouble } from "../parts/trouble";
import { fromBase64, toHex } from "../proof/bytes";
import { transactionId } from "../proof/hashes";
import { readEnvelope } from "../proof/transactions";
import { link, type Params } from "../router";
import { proofWords } from "../words/proof";
import { shellWords } from "../words/shell";

export const title = ({ city = "", tx = "" }: Params) =>
  `${city}: ${proofWords().transaction} ${short(tx)}`;

export default function TransactionView({ params: { city = "", tx = "" } }: { params: Params }) {
  const w = proofWords();
  const shell = shellWords();
  const { value, error, again } = useTransaction(city, tx);
  const final = isFinal(value);
  return (
    <>
      <h1>{w.transaction}</h1>
      <p class="lead">
        <WholeId value={tx} />
      </p>
      {error && <Trouble error={error} again={again} />}
      {!error && value === null && <p class="empty">{shell.loading}</p>}
      {value && (
        <>
          <Life transaction={value} />
          <Acknowledged city={city} id={tx} transaction={value} />
          {final ? <ReceiptLinks city={city} tx={tx} /> : <p class="quiet">{w.waitReceipt}</p>}
          <Detail city={city} transaction={value} />
        </>
      )}
    </>
  );
}

function Detail({ city, transaction }: { city: string; transaction: Transaction }) {
  const w = proofWords();
  const { tx_id, round, seq, node_id, author, time_ms, action, envelope } = transaction;
  const { kind, ...fields } = action;
  const holds = useMemo(() => idHolds(tx_id, envelope), [tx_id, envelope]);
  return (
    <>
      {!envelope && <p class="quiet">{w.removed}</p>}
      {holds === true && <p class="quiet">{w.idHolds}</p>}
      {holds === false && <p class="trouble">{w.idFails}</p>}
      <Facts
        facts={[
          [
            w.round,
            round && <a href={link("city", city, "round", round)}>{number(Number(round))}</a>,
          ],
          [w.place, round ? number(Number(seq ?? 0)) : null],
          [w.sealedAt, time_ms && time(Number(time_ms))],
          [
            w.author,
            author && (
              <WholeId key="a" value={author} href={link("city", city, "author", author)} />
            ),
          ],
          [
            w.node,
            node_id && (
              <WholeId key="n" value={node_id} href={link("city", city, "node", node_id)} />
            ),
          ],
        ]}
      />
      <h2>{w.action}</h2>
      <Facts
        facts={[
          [w.kind, kind],
          ...Object.entries(fields).map(([name, value]): [string, ComponentChildren] => [
            name,
            <span key={name} class={typeof value === "string" ? "content" : "id"}>
              {typeof value === "string" ? value : JSON.stringify(value)}
            </span>,
          ]),
        ]}
      />
    </>
  );
}

/** Whether the signed bytes have this id; null if there are none. */
function idHolds(id: string, envelope: string): boolean | null {
  if (!envelope) return null;
  try {
    return toHex(transactionId(readEnvelope(fromBase64(envelope)).body)) === id;
  } catch {
    return false;
  }
}
