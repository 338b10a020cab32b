/** Settings that the browser keeps for this page, where it allows that. */

import { effect, type Signal, signal } from "@preact/signals";

/** All that is kept has this before its name: other pages may stand under the same origin. */
const PREFIX = "citychain.";

/** Reads what was kept under a name; null if nothing was, or the browser keeps nothing. */
export function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** Keeps a value under a name, or forgets it where it is null. */
export function write(storage: () => Storage, name: string, value: string | null): void {
  try {
    if (value === null) storage().removeItem(PREFIX + name);
    else storage().setItem(PREFIX + name, value);
  } catch {
    // A browser that keeps nothing shows the page all the same.
  }
}

/** A setting that is kept whenever it changes; null if nobody has chosen. */
export function stored<T extends string>(
  storage: () => Storage,
  name: string,
  allowed: (value: string) => value is T,
): Signal<T | null> {
  const kept = read(storage, name);
  const setting = signal<T | null>(kept !== null && allowed(kept) ? kept : null);
  effect(() => write(storage, name, setting.value));
  return setting;
}
