/** What became of a transaction, from its arrival to its last state. */

import { useMemo } from "preact/hooks";
import type { Transaction } from "../api";
import { number, time } from "../language";
import { Acknowledged } from "../parts/acknowledged";
import { type Fact, Facts } from "../parts/facts";
import { short, WholeId } from "../parts/id";
import { isFinal, Life, useTransaction } from "../parts/life";
import { ReceiptLinks } from "../parts/receipt-links";
import { Trouble } from "../parts/trouble";
import { saidBy } from "../proof/said";
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
  const { tx_id, round, seq, node_id, time_ms, envelope } = transaction;
  const said = useMemo(() => saidBy(tx_id, envelope), [tx_id, envelope]);
  const authors = (id: string | null | undefined): Fact => [
    w.author,
    id && <WholeId key="a" value={id} href={link("city", city, "author", id)} />,
  ];
  return (
    <>
      {!envelope && <p class="quiet">{w.removed}</p>}
      <Facts
        facts={[
          [
            w.round,
            round && <a href={link("city", city, "round", round)}>{number(Number(round))}</a>,
          ],
          [w.place, round ? number(Number(seq ?? 0)) : null],
          [w.sealedAt, time_ms && time(Number(time_ms))],
          authors(envelope ? undefined : transaction.author),
          [
            w.node,
            node_id && (
              <WholeId key="n" value={node_id} href={link("city", city, "node", node_id)} />
            ),
          ],
        ]}
      />
      {envelope && !said && <p class="trouble">{w.idFails}</p>}
      {said && (
        <>
          <h2>{w.action}</h2>
          <p class="quiet">{w.idHolds}</p>
          <Facts
            facts={[
              authors(said.author),
              [w.kind, said.kind],
              ...said.fields.map(
                ([name, value]): Fact => [
                  name,
                  value && (
                    <span key={name} class="content">
                      {value}
                    </span>
                  ),
                ],
              ),
            ]}
          />
        </>
      )}
    </>
  );
}
