/** Two minutes from a key to a proof that somebody has checked himself. */

import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { api } from "../api";
import { key } from "../keys/kept";
import { send } from "../keys/send";
import { language } from "../language";
import { useLoad } from "../load";
import { Acknowledged } from "../parts/acknowledged";
import { cityTitle } from "../parts/city-head";
import { Insecure } from "../parts/insecure";
import { KeyPanel } from "../parts/key-panel";
import { isFinal, Life, useTransaction } from "../parts/life";
import { maySend, SignIn } from "../parts/sign-in";
import { Trouble } from "../parts/trouble";
import { type Files, Verdict } from "../parts/verdict";
import { decodeUtf8, encodeUtf8 } from "../proof/bytes";
import { altered } from "../proof/tamper";
import { submitWords } from "../words/submit";
import { told } from "./submit";

export const title = () => submitWords().tour;

export default function Tour() {
  const w = submitWords();
  const about = useLoad((signal) => api.about(signal), "about");
  const cities = useLoad((signal) => api.cities("", undefined, signal), "cities");
  const [chosen, setChosen] = useState<string | null>(null);
  const [sent, setSent] = useState<string | null>(null);
  const city = chosen ?? cities.value?.cities[0]?.slug;
  const error = about.error ?? cities.error;
  return (
    <>
      <h1>{w.tour}</h1>
      <p class="lead">{w.tourLead}</p>
      <Insecure />
      {error && <Trouble error={error} />}
      <label class="field">
        <span>{w.city}</span>
        <select
          value={city}
          disabled={sent !== null}
          onChange={({ currentTarget }) => setChosen(currentTarget.value)}
        >
          {cities.value?.cities.map((each) => (
            <option key={each.slug} value={each.slug}>
              {cityTitle(each, language.value)}
            </option>
          ))}
        </select>
      </label>
      <ol class="tour">
        <TourStep heading={w.step1} lead={w.step1Lead} done={key.value !== null}>
          <KeyPanel />
        </TourStep>
        <TourStep heading={w.step2} lead={w.step2Lead} done={sent !== null}>
          {about.value && <SignIn about={about.value} />}
          {city && sent === null && (
            <Greeting
              city={city}
              ready={maySend(about.value) && key.value !== null}
              told={setSent}
            />
          )}
        </TourStep>
        {city && sent !== null && <Proof city={city} id={sent} />}
      </ol>
    </>
  );
}

function TourStep(props: {
  heading: string;
  lead: string;
  done: boolean;
  children: ComponentChildren;
}) {
  return (
    <li class={props.done ? "done" : "open"}>
      <h2>{props.heading}</h2>
      <p class="quiet">{props.lead}</p>
      {props.children}
    </li>
  );
}

function Greeting(props: { city: string; ready: boolean; told: (id: string) => void }) {
  const w = submitWords();
  const [text, setText] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);

  async function submit(event: Event) {
    event.preventDefault();
    if (key.value === null) return;
    setBusy(true);
    setError(null);
    const content = encodeUtf8(text ?? w.hello);
    try {
      const draft = { data: { contentType: "text/plain", content } };
      props.told((await send(props.city, key.value, draft)).tx_id);
    } catch (fault) {
      setError(told(fault as Error));
    }
    setBusy(false);
  }

  return (
    <form onSubmit={submit}>
      <label class="field">
        <span>
          {w.text} · {w.textHint}
        </span>
        <input
          maxLength={200}
          value={text ?? w.hello}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
      </label>
      {error && <Trouble error={error} />}
      <button type="submit" class="main" disabled={!props.ready || busy}>
        {busy ? w.sending : w.send}
      </button>
    </form>
  );
}

/** The steps once something was sent: it becomes final, and its receipt is checked. */
function Proof({ city, id }: { city: string; id: string }) {
  const w = submitWords();
  const { value, error, again } = useTransaction(city, id);
  return (
    <>
      <TourStep heading={w.step3} lead={w.step3Lead} done={isFinal(value)}>
        {error && <Trouble error={error} again={again} />}
        <Life transaction={value ?? { state: "received" }} />
        <Acknowledged city={city} id={id} transaction={value} />
      </TourStep>
      {isFinal(value) && <Checking city={city} id={id} />}
    </>
  );
}

function Checking({ city, id }: { city: string; id: string }) {
  const w = submitWords();
  const { value, error, again } = useLoad<Files>(async (signal) => {
    const [genesis, receipt] = await Promise.all([
      api.genesis(city, signal),
      api.receipt(city, id, false, signal),
    ]);
    return { genesis, receipt: encodeUtf8(receipt), txId: id };
  }, `${city} ${id}`);
  const [holds, setHolds] = useState(false);
  const [cheats, setCheats] = useState(false);
  const spoilt = useMemo(
    () => holds && value && { ...value, receipt: encodeUtf8(altered(decodeUtf8(value.receipt))) },
    [holds, value],
  );
  return (
    <>
      <TourStep heading={w.step4} lead={w.step4Lead} done={holds}>
        {error && <Trouble error={error} again={again} />}
        {value && <Verdict files={value} told={(outcome) => setHolds(outcome.kind === "valid")} />}
      </TourStep>
      {spoilt && (
        <TourStep heading={w.step5} lead={w.step5Lead} done={cheats}>
          {cheats ? (
            <>
              <Verdict files={spoilt} />
              <p>{w.done}</p>
            </>
          ) : (
            <button type="button" class="main" onClick={() => setCheats(true)}>
              {w.alter}
            </button>
          )}
        </TourStep>
      )}
    </>
  );
}
