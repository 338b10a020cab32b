/** The address of the moment. */

import { signal } from "@preact/signals";

export const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

/** Goes to an address, as a click on a link to it would. */
export function go(to: string): void {
  location.hash = to;
}
