/** The steps of a check: each with what was hashed or signed, what was expected, and what came. */

import { number } from "../language";
import type { Check, Part, Step, Vote } from "../proof/steps";
import { problemWords } from "../words/problems";
import { checkWords, proofWords, subjectWords } from "../words/proof";
import { Id } from "./id";

const SHOWN_MAX = 200;

interface Group {
  check: Check;
  level: number | undefined;
  steps: Step[];
}

/** Steps of one check that follow each other stand together. */
function grouped(steps: readonly Step[]): Group[] {
  const groups: Group[] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (last?.check === step.check && last.level === step.level) last.steps.push(step);
    else groups.push({ check: step.check, level: step.level, steps: [step] });
  }
  return groups;
}

export function Steps({ steps }: { steps: readonly Step[] }) {
  const w = proofWords();
  const failed = steps.find((step) => !step.ok);
  const shown = steps.slice(0, SHOWN_MAX);
  if (failed && !shown.includes(failed)) shown.push(failed);
  return (
    <div class="proof">
      <h2>{w.steps}</h2>
      <ol>
        {grouped(shown).map((group, index) => (
          <StepGroup key={index} group={group} />
        ))}
      </ol>
      {steps.length > shown.length && (
        <p class="quiet">{w.more(number(steps.length - shown.length))}</p>
      )}
    </div>
  );
}

function StepGroup({ group }: { group: Group }) {
  const { check, level, steps } = group;
  const w = proofWords();
  const ok = steps.every((step) => step.ok);
  return (
    <li class={ok ? "holds" : "fails"}>
      <details open={!ok}>
        <summary>
          <Mark ok={ok} />
          <span>
            <strong>{checkWords()[check]}</strong>
            {level !== undefined && <span class="quiet"> {w.level(number(level + 1))}</span>}
          </span>
          <code class="quiet">{check}</code>
        </summary>
        <ul>
          {steps.map((step, index) => (
            <li key={index} class={step.ok ? "holds" : "fails"}>
              <OneStep step={step} />
            </li>
          ))}
        </ul>
      </details>
    </li>
  );
}

function Mark({ ok }: { ok: boolean }) {
  const w = proofWords();
  return (
    <>
      <svg class="mark" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
        <circle cx="10" cy="10" r="9" />
        <path d={ok ? "m5.8 10.4 2.9 2.9 5.6-6.4" : "m6.5 6.5 7 7m0-7-7 7"} />
      </svg>
      <span class="unseen">{ok ? w.ok : w.fails}</span>
    </>
  );
}

function OneStep({ step }: { step: Step }) {
  const w = proofWords();
  const { expected, got } = step;
  const same = expected !== undefined && expected === got;
  return (
    <>
      <p>
        <Mark ok={step.ok} />
        {subjectWords()[step.subject]}
        {step.handover !== undefined && (
          <span class="quiet"> {`#${number(step.handover + 1)}`}</span>
        )}
      </p>
      {step.problem && <p class="bad">{problemWords(step.problem)}</p>}
      <dl>
        {step.hashed && <Parts name={w.hashed} parts={step.hashed} />}
        {step.signed && <Parts name={w.signed} parts={step.signed} />}
        {step.context && <Value name={w.context} value={step.context} />}
        {expected !== undefined && <Value name={same ? w.same : w.expected} value={expected} />}
        {got !== undefined && !same && <Value name={w.got} value={got} />}
      </dl>
      {step.rungs && step.rungs.length > 0 && <Rungs rungs={step.rungs} />}
      {step.votes && step.votes.length > 0 && <Votes votes={step.votes} />}
    </>
  );
}

function Value({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="id">{value}</dd>
    </div>
  );
}

function Parts({ name, parts }: { name: string; parts: readonly Part[] }) {
  const w = proofWords();
  return (
    <div>
      <dt>{name}</dt>
      <dd class="hashed">
        {parts.map((part) => (
          <span key={part.name} title={part.hex}>
            <b>{part.name}</b> {w.bytes(number(part.bytes))}
          </span>
        ))}
      </dd>
    </div>
  );
}

function Rungs({ rungs }: { rungs: NonNullable<Step["rungs"]> }) {
  const w = proofWords();
  return (
    <div class="scroll">
      <table class="rungs">
        <caption>{w.path}</caption>
        <thead>
          <tr>
            <th scope="col">{w.sibling}</th>
            <th scope="col">
              <span class="unseen">{`${w.left} / ${w.right}`}</span>
            </th>
            <th scope="col">{w.becomes}</th>
          </tr>
        </thead>
        <tbody>
          {rungs.map(({ sibling, side, hash }) => (
            <tr key={hash}>
              <td>
                <Id value={sibling} />
              </td>
              <td>
                <span class={`side ${side}`} />
                {w[side]}
              </td>
              <td>
                <Id value={hash} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Votes({ votes }: { votes: readonly Vote[] }) {
  const w = proofWords();
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">{w.seat}</th>
            <th scope="col" class="figure">
              {w.stake}
            </th>
            <th scope="col">{w.voted}</th>
          </tr>
        </thead>
        <tbody>
          {votes.map(({ keyId, stake, voted }) => (
            <tr key={keyId}>
              <td>
                <Id value={keyId} />
              </td>
              <td class="figure">{stake}</td>
              <td class={voted ? "good" : "none"}>{voted ? w.yes : w.no}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
