/** The key of this page, and what the browser keeps: cities' genesis ids, and acknowledgements. */
import { signal } from "@preact/signals";
import { read, write } from "../stored";
import type { Key } from "./key";

const local = () => localStorage;
const session = () => sessionStorage;

/** The key that signs on this page. It is gone with the page: its owner has its file. */
export const key = signal<Key | null>(null);

/** The id under which this browser first saw a city. */
export function pinned(city: string): string | null {
  return read(local, `genesis.${city}`);
}

export function pin(city: string, genesis: string): void {
  write(local, `genesis.${city}`, genesis);
}

/** The file in which a city acknowledged a transaction that was sent from this tab. */
export function acknowledgement(txId: string): string | null {
  return read(session, `acknowledgement.${txId}`);
}

export function keepAcknowledgement(txId: string, file: string): void {
  write(session, `acknowledgement.${txId}`, file);
}
