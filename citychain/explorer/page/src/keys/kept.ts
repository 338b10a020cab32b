/** What the browser keeps of keys, where its reader asked for that, and of cities' genesis ids. */
import { signal } from "@preact/signals";
import { read, write } from "../stored";
import { type Key, readKeyFile, writeKeyFile } from "./key";

const local = () => localStorage;

function kept(): Key | null {
  const text = read(local, "key");
  if (text === null) return null;
  try {
    return readKeyFile(text);
  } catch {
    return null;
  }
}

/** The key that signs on this page; gone with the page unless it is kept. */
export const key = signal<Key | null>(null);
export const isKept = signal(read(local, "key") !== null);

/** Takes up a key that was kept; making one from its seed takes some 50 ms. */
export function takeUp(): void {
  if (key.value === null) key.value = kept();
}

/** Keeps the key in this browser, or forgets it there. */
export function keep(keeps: boolean): void {
  write(local, "key", keeps && key.value ? writeKeyFile(key.value) : null);
  isKept.value = read(local, "key") !== null;
}

/** The id under which this browser first saw a city. */
export function pinned(city: string): string | null {
  return read(local, `genesis.${city}`);
}

export function pin(city: string, genesis: string): void {
  write(local, `genesis.${city}`, genesis);
}
