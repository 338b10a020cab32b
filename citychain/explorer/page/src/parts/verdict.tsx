/** Checks a receipt or an acknowledgement as soon as it is there, and shows what came of it. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { number, time } from "../language";
import { check } from "../proof/check";
import { foundOf, type Outcome, type PromiseFacts, type Facts as Said } from "../proof/outcome";
import type { Step } from "../proof/steps";
import type { Long } from "../proof/verify.worker";
import { problemWords } from "../words/problems";
import { checkWords, proofWords } from "../words/proof";
import { stateWords } from "../words/states";
import { Facts } from "./facts";
import { WholeId } from "./id";
import { Steps } from "./steps";
import { Trouble } from "./trouble";

export interface Files {
  genesis: Uint8Array;
  /** Or an acknowledgement. */
  receipt: Uint8Array;
  /** Of which transaction it has to be; not given, of any. */
  txId?: string;
}

interface Found {
  steps: readonly Step[];
  outcome: Outcome | null;
  error: Error | null;
  long: Long | null;
  again: number | null;
}

const NOTHING: Found = { steps: [], outcome: null, error: null, long: null, again: null };

/** `told` hears of the outcome. */
export function Verdict({ files, told }: { files: Files; told?: (outcome: Outcome) => void }) {
  const w = proofWords();
  const [found, setFound] = useState(NOTHING);
  const [stop, setStop] = useState<AbortController | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `told` is a word to the parent.
  useEffect(() => {
    const controller = new AbortController();
    setStop(controller);
    setFound(NOTHING);
    const more = (steps: readonly Step[]) =>
      setFound((was) => ({ ...was, steps: [...was.steps, ...steps] }));
    const last = (long: Long) => setFound((was) => ({ ...was, long }));
    check(files.genesis, files.receipt, more, last, controller.signal).then(
      ({ outcome: all, again }) => {
        const outcome = files.txId === undefined ? all : foundOf(files.txId, all);
        setFound((was) => ({ ...was, outcome, again }));
        told?.(outcome);
      },
      (error: Error) => {
        if (error.name !== "AbortError") setFound((was) => ({ ...was, error }));
      },
    );
    return () => controller.abort();
  }, [files]);
  const { steps, outcome, error, long, again } = found;
  const stopped = stop?.signal.aborted && outcome === null;
  return (
    <>
      <div role="status">
        {error && <Trouble error={error} />}
        {stopped && <p class="verdict unknown">{w.stopped}</p>}
        {!outcome && !error && !stopped && (
          <p class="verdict unknown">
            {w.checking}{" "}
            {long && w.wait(number(Number(long.hashes)), number(Math.ceil(long.seconds / 60)))}
            <button
              type="button"
              onClick={() => {
                stop?.abort();
                setFound({ ...found });
              }}
            >
              {w.stop}
            </button>
          </p>
        )}
        {outcome?.kind === "valid" && (
          <Banner tone="holds" heading={w.valid}>
            {w.validLead}
          </Banner>
        )}
        {outcome?.kind === "promised" && (
          <Banner tone="holds" heading={w.promised}>
            {w.promisedLead}
          </Banner>
        )}
        {outcome?.kind === "invalid" && (
          <Banner tone="fails" heading={w.invalid(checkWords()[outcome.check])}>
            {w.invalidLead} {outcome.problem && problemWords(outcome.problem)}
          </Banner>
        )}
        {outcome?.kind === "no genesis" && (
          <Banner tone="fails" heading={w.noGenesis}>
            {problemWords(outcome.problem)}
          </Banner>
        )}
      </div>
      {outcome?.kind === "valid" && <Claims facts={outcome.facts} />}
      {outcome?.kind === "promised" && <Promises promise={outcome.promise} />}
      {steps.length > 0 && <Steps steps={steps} />}
      {outcome && steps.length > 0 && (
        <p class="quiet">{again === null ? w.hashedOnce : w.hashedAgain(number(again))}</p>
      )}
    </>
  );
}

function Banner(props: { tone: string; heading: string; children: ComponentChildren }) {
  return (
    <div class={`verdict ${props.tone}`}>
      <strong>{props.heading}</strong>
      <p>{props.children}</p>
    </div>
  );
}

function Promises({ promise }: { promise: PromiseFacts }) {
  const w = proofWords();
  return (
    <Facts
      facts={[
        [w.finalBy, time(Number(promise.finalByMs))],
        [w.received, time(Number(promise.receivedMs))],
        [w.id, <WholeId key="id" value={promise.txId} />],
        [w.city, `${promise.network}/${promise.city}`],
        [w.genesisId, <WholeId key="genesis" value={promise.genesis} />],
      ]}
    />
  );
}

function Claims({ facts }: { facts: Said }) {
  const w = proofWords();
  const states = stateWords();
  return (
    <>
      <Facts
        facts={[
          [
            w.outcome,
            facts.code === undefined ? states.approved : `${states.rejected}: ${facts.code}`,
          ],
          [w.reason, facts.reason],
          [w.id, <WholeId key="id" value={facts.txId} />],
          [facts.own ? w.topCity : w.city, `${facts.network}/${facts.city}`],
          [w.genesisId, <WholeId key="genesis" value={facts.genesis} />],
          [w.ownCity, facts.own && <WholeId key="own" value={facts.own} />],
          [w.round, `${number(Number(facts.round))} / ${number(facts.seq)}`],
          [w.leaf, number(Number(facts.leafIndex))],
          [w.author, facts.author && <WholeId key="author" value={facts.author} />],
          [w.kind, facts.action],
          [w.created, facts.createdAtMs && time(Number(facts.createdAtMs))],
          [w.node, facts.nodeId && <WholeId key="node" value={facts.nodeId} />],
        ]}
      />
      {facts.recoveredFrom.length > 0 && (
        <p class="bad">{w.recovered(facts.recoveredFrom.join(", "))}</p>
      )}
    </>
  );
}
