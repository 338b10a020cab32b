/** Whether this page may send without a token, and where somebody with a token says so. */

import { useState } from "preact/hooks";
import type { About } from "../api";
import { refused, token } from "../session";
import { submitWords } from "../words/submit";

/** Whether what is signed here can be sent from this page. */
export function maySend(about: About | null): boolean {
  return about !== null && (about.submit || (about.sign_in && token.value !== null));
}

/** Whether there is anything to say of tokens: where all may send, not until a server wants one. */
export function asksForToken(about: About): boolean {
  return !about.submit || (about.sign_in && (refused.value || token.value !== null));
}

export function SignIn({ about }: { about: About }) {
  const w = submitWords();
  const [given, setGiven] = useState("");
  if (!asksForToken(about)) return null;
  if (!about.sign_in) return <p class="quiet">{w.closed}</p>;
  if (token.value !== null)
    return (
      <p class="inline">
        <span class="quiet">{w.signedIn}</span>
        <button
          type="button"
          onClick={() => {
            token.value = null;
          }}
        >
          {w.signOut}
        </button>
      </p>
    );
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (given.trim() === "") return;
        token.value = given.trim();
        setGiven("");
        refused.value = false;
      }}
    >
      <h2>{w.signIn}</h2>
      <p class="quiet">{w.signInLead}</p>
      <label class="field">
        <span>{w.token}</span>
        <input
          type="password"
          autocomplete="off"
          maxLength={16384}
          value={given}
          onInput={({ currentTarget }) => setGiven(currentTarget.value)}
        />
      </label>
      <button type="submit">{w.signIn}</button>
    </form>
  );
}
