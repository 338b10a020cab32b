/** Light or dark: as the reader chose, else as the browser says. */

import { computed, effect, signal } from "@preact/signals";
import { stored } from "./stored";

export type Theme = "light" | "dark";

export const chosenTheme = stored(
  () => localStorage,
  "theme",
  (value): value is Theme => value === "light" || value === "dark",
);

const dark = matchMedia("(prefers-color-scheme: dark)");
const browserTheme = signal<Theme>(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => {
  browserTheme.value = dark.matches ? "dark" : "light";
});

export const theme = computed<Theme>(() => chosenTheme.value ?? browserTheme.value);

/** Has the style sheet follow the theme. */
export function dress(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}
