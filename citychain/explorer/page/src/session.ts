/** The token by which transactions are sent; this tab alone keeps it, and no longer than it lives. */

import { signal } from "@preact/signals";
import { stored } from "./stored";

/** A pasted token; null while nobody has signed in. */
export const token = stored(
  () => sessionStorage,
  "token",
  (value): value is string => value !== "",
);

/** Whether a server wanted a token, or another one, from who sent something from this page. */
export const refused = signal(false);
