/** Every address of the page and the view that answers it. */

import type { Route } from "./router";
import type { Tab } from "./words/shell";

export const routes: readonly Route<Tab>[] = [
  { pattern: "", load: () => import("./views/cities") },
];
