/** One node of the graph, between what it builds on and what builds on it. */

import { useState } from "preact/hooks";
import { api, type DagNode, type Neighbour } from "../api";
import { number, time } from "../language";
import { useLoad } from "../load";
import { Facts } from "../parts/facts";
import { Id, WholeId } from "../parts/id";
import { Trouble } from "../parts/trouble";
import { link, type Params } from "../router";
import { ledgerWords } from "../words/ledger";
import { shellWords } from "../words/shell";

export const title = ({ city = "", node, round = "", seq = "" }: Params) =>
  `${city}: ${node ? ledgerWords().node : ledgerWords().nodeAt(round, seq)}`;

export default function NodeView({ params }: { params: Params }) {
  const { city = "", node, round, seq } = params;
  const w = ledgerWords();
  const shell = shellWords();
  const [page, setPage] = useState<string | undefined>(undefined);
  const at: [string] | [number, number] = node ? [node] : [Number(round), Number(seq)];
  const key = `${city} ${at.join("/")} ${page}`;
  const { value, error, again } = useLoad((signal) => api.node(city, at, page, signal), key);
  if (error || value === null)
    return (
      <>
        <h1>{w.node}</h1>
        {error ? <Trouble error={error} again={again} /> : <p class="empty">{shell.loading}</p>}
      </>
    );
  return (
    <>
      <h1>{w.nodeAt(number(value.round), number(value.seq))}</h1>
      <div class="lineage">
        <Neighbours
          city={city}
          heading={w.parents}
          nodes={value.parents}
          none={w.noParents}
          side="before"
        />
        <div class="self">
          <span class="mark" aria-hidden="true" />
          <strong>{`${value.round} / ${value.seq}`}</strong>
          <Id value={value.node_id} />
        </div>
        <Neighbours
          city={city}
          heading={w.children}
          nodes={value.children}
          none={w.noChildren}
          side="after"
        />
      </div>
      {value.next_page_token && (
        <div class="pages">
          <button type="button" onClick={() => setPage(value.next_page_token ?? undefined)}>
            {shell.more}
          </button>
        </div>
      )}
      <NodeFacts city={city} node={value} />
    </>
  );
}

function Neighbours(props: {
  city: string;
  heading: string;
  nodes: Neighbour[];
  none: string;
  side: string;
}) {
  const { city, heading, nodes, none, side } = props;
  const w = ledgerWords();
  return (
    <section class={side}>
      <h2>{heading}</h2>
      {nodes.length === 0 && <p class="quiet">{none}</p>}
      <ul>
        {nodes.map(({ round, seq, node_id }) => (
          <li key={`${round}/${seq}`}>
            {round === 0 ? (
              <span>{w.genesis}</span>
            ) : (
              <a href={link("city", city, "node", round, seq)} title={node_id}>
                {round} / {seq}
              </a>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function NodeFacts({ city, node }: { city: string; node: DagNode }) {
  const w = ledgerWords();
  const transaction = link("city", city, "tx", node.tx_id);
  const author = link("city", city, "author", node.author);
  return (
    <Facts
      facts={[
        [w.transaction, <WholeId key="tx" value={node.tx_id} href={transaction} />],
        [w.author, <WholeId key="author" value={node.author} href={author} />],
        [
          w.round,
          <a key="round" href={link("city", city, "round", node.round)}>
            {number(node.round)}
          </a>,
        ],
        [w.time, time(node.time_ms)],
        [w.rule, <code key="rule">{node.rule}</code>],
        [w.nodeId, <WholeId key="id" value={node.node_id} />],
        [w.pop, node.pop && <WholeId key="pop" value={node.pop} />],
        [w.poh, <WholeId key="poh" value={node.poh} />],
      ]}
    />
  );
}
