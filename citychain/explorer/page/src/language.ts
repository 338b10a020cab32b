/** The language of the page, and dictionaries that are complete in each by their types. */

import { computed, effect } from "@preact/signals";
import { stored } from "./stored";

export type Language = "en" | "ja";

export const LANGUAGES: Readonly<Record<Language, string>> = { en: "English", ja: "日本語" };

/** What the reader has chosen; null if nothing, so that the browser's language holds. */
export const chosenLanguage = stored(
  () => localStorage,
  "language",
  (value): value is Language => value in LANGUAGES,
);

function browserLanguage(): Language {
  const first = navigator.languages.find((tag) => /^(en|ja)\b/i.test(tag));
  return first?.toLowerCase().startsWith("ja") ? "ja" : "en";
}

export const language = computed<Language>(() => chosenLanguage.value ?? browserLanguage());

type Word = string | ((...values: never[]) => string);
type Same<T> = { readonly [K in keyof T]: T[K] extends string ? string : T[K] };

/**
 * Makes a dictionary: a function that gives the words of the language of the moment. A component
 * that calls it is drawn anew when the language changes.
 */
export function dictionary<T extends Record<string, Word>>(words: {
  en: T & Same<T>;
  ja: Same<T>;
}): () => Same<T> {
  return () => words[language.value];
}

/** Has the document say its language, for screen readers and fonts. */
export function tellDocument(): void {
  effect(() => {
    document.documentElement.lang = language.value;
  });
}

const numbers = { en: new Intl.NumberFormat("en"), ja: new Intl.NumberFormat("ja") };

/** A number with its thousands grouped. */
export function number(value: number): string {
  return numbers[language.value].format(value);
}

const times = computed(
  () => new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeStyle: "medium" }),
);

/** A time in ms since 1970, in the reader's zone. */
export function time(ms: number): string {
  return times.value.format(ms);
}

const clocks = computed(() => new Intl.DateTimeFormat(language.value, { timeStyle: "medium" }));

/** A time of today by the clock alone; of another day, whole. */
export function clock(ms: number): string {
  const today = new Date(ms).toDateString() === new Date().toDateString();
  return (today ? clocks : times).value.format(ms);
}
