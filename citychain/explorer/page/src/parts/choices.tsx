/** The reader's choices: language and colours. */

import { chosenLanguage, LANGUAGES, type Language, language } from "../language";
import { chosenTheme, theme } from "../theme";
import { shellWords } from "../words/shell";

export function Choices() {
  const w = shellWords();
  const dark = theme.value === "dark";
  return (
    <div class="choices">
      <fieldset class="segments">
        <legend class="unseen">{w.language}</legend>
        {(Object.keys(LANGUAGES) as Language[]).map((code) => (
          <label key={code} lang={code}>
            <input
              class="unseen"
              type="radio"
              name="language"
              checked={language.value === code}
              onChange={() => {
                chosenLanguage.value = code;
              }}
            />
            <span title={LANGUAGES[code]}>{code === "en" ? "EN" : "日本語"}</span>
          </label>
        ))}
      </fieldset>
      <button
        type="button"
        class="icon"
        aria-label={dark ? w.toLight : w.toDark}
        title={dark ? w.toLight : w.toDark}
        onClick={() => {
          chosenTheme.value = dark ? "light" : "dark";
        }}
      >
        <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
          {dark ? (
            <path
              d="M10 6.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6ZM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M4 16l1.4-1.4M14.6 5.4 16 4"
              fill="none"
              stroke="currentColor"
              stroke-width="1.5"
              stroke-linecap="round"
            />
          ) : (
            <path
              d="M16.6 12.1A7 7 0 0 1 7.9 3.4a7 7 0 1 0 8.7 8.7Z"
              fill="none"
              stroke="currentColor"
              stroke-width="1.5"
              stroke-linejoin="round"
            />
          )}
        </svg>
      </button>
    </div>
  );
}
