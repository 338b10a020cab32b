/** Signing a transaction in the browser, and sending it. */

import { useState } from "preact/hooks";
import { api } from "../api";
import { key } from "../keys/kept";
import { GenesisChanged, send } from "../keys/send";
import type { Draft } from "../keys/sign";
import { useLoad } from "../load";
import { Acknowledged } from "../parts/acknowledged";
import { Insecure } from "../parts/insecure";
import { KeyPanel } from "../parts/key-panel";
import { Life, useTransaction } from "../parts/life";
import { asksForToken, maySend, SignIn } from "../parts/sign-in";
import { Trouble } from "../parts/trouble";
import { encodeUtf8, fromHex } from "../proof/bytes";
import { link, type Params } from "../router";
import { submitWords } from "../words/submit";

export const title = ({ city = "" }: Params) => `${city}: ${submitWords().title}`;

export default function SubmitView({ params: { city = "" } }: { params: Params }) {
  const w = submitWords();
  const about = useLoad((signal) => api.about(signal), "about");
  const [sent, setSent] = useState<string | null>(null);
  return (
    <>
      <h1>{w.title}</h1>
      <p class="lead">{w.lead}</p>
      <Insecure />
      {about.error && <Trouble error={about.error} again={about.again} />}
      <section class="step">
        <h2>{w.key}</h2>
        <KeyPanel />
      </section>
      {about.value && asksForToken(about.value) && (
        <section class="step">
          <SignIn about={about.value} />
        </section>
      )}
      {sent === null ? (
        <Form city={city} ready={maySend(about.value) && key.value !== null} told={setSent} />
      ) : (
        <section class="step">
          <Sent city={city} id={sent} />
          <button type="button" onClick={() => setSent(null)}>
            {w.again}
          </button>
        </section>
      )}
    </>
  );
}

/** A transaction that was sent from here. */
export function Sent({ city, id }: { city: string; id: string }) {
  const w = submitWords();
  const { value, error, again } = useTransaction(city, id);
  return (
    <>
      <h2>{w.sent}</h2>
      {error && <Trouble error={error} again={again} />}
      <Life transaction={value ?? { state: "received" }} />
      <Acknowledged city={city} id={id} transaction={value} />
      <p>
        <a href={link("city", city, "tx", id)}>{w.show}</a>
      </p>
    </>
  );
}

/** The error of sending, in the page's language where it is the page's own. */
export function told(error: Error): Error {
  return error instanceof GenesisChanged ? new Error(submitWords().changed) : error;
}

function Form(props: { city: string; ready: boolean; told: (id: string) => void }) {
  const w = submitWords();
  const [kind, setKind] = useState<"data" | "transfer">("data");
  const [fields, setFields] = useState({ text: "", asset: "", to: "", amount: "" });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const field = (name: keyof typeof fields) => ({
    value: fields[name],
    required: true,
    onInput: ({ currentTarget }: { currentTarget: { value: string } }) =>
      setFields({ ...fields, [name]: currentTarget.value }),
  });

  function draft(): Draft {
    const { text, asset, to, amount } = fields;
    if (kind === "data") return { data: { contentType: "text/plain", content: encodeUtf8(text) } };
    if (!/^[0-9a-f]{64}$/.test(to)) throw new Error(w.badTo);
    if (!/^[1-9][0-9]{0,18}$/.test(amount)) throw new Error(w.badAmount);
    return { transfer: { asset, to: fromHex(to, 32, "to"), amount: BigInt(amount) } };
  }

  async function submit(event: Event) {
    event.preventDefault();
    if (key.value === null) return;
    setBusy(true);
    setError(null);
    try {
      props.told((await send(props.city, key.value, draft())).tx_id);
    } catch (fault) {
      setError(told(fault as Error));
    }
    setBusy(false);
  }

  return (
    <form class="step" onSubmit={submit}>
      <h2 id="what">{w.what}</h2>
      <div class="inline" role="radiogroup" aria-labelledby="what">
        {(["data", "transfer"] as const).map((each) => (
          <label class="tick" key={each}>
            <input
              type="radio"
              name="kind"
              checked={kind === each}
              onChange={() => setKind(each)}
            />
            <span>{w[each]}</span>
          </label>
        ))}
      </div>
      {kind === "data" ? (
        <label class="field">
          <span>
            {w.text} · {w.textHint}
          </span>
          <textarea rows={3} maxLength={10_000} {...field("text")} />
        </label>
      ) : (
        <>
          <label class="field">
            <span>{w.asset}</span>
            <input maxLength={32} {...field("asset")} />
          </label>
          <label class="field">
            <span>{w.to}</span>
            <input class="id" maxLength={64} {...field("to")} />
          </label>
          <label class="field">
            <span>{w.amount}</span>
            <input inputMode="numeric" maxLength={19} {...field("amount")} />
          </label>
        </>
      )}
      {error && <Trouble error={error} />}
      <button type="submit" class="main" disabled={!props.ready || busy}>
        {busy ? w.sending : w.send}
      </button>
    </form>
  );
}
