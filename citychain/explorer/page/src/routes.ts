/** Every address of the page and the view that answers it. */

import type { Route } from "./router";
import type { Tab } from "./words/shell";

export const routes: readonly Route<Tab>[] = [
  { pattern: "", load: () => import("./views/cities") },
  { pattern: "search/:query", load: () => import("./views/search") },
  { pattern: "city/:city", load: () => import("./views/live"), tab: "live" },
  { pattern: "city/:city/rounds", load: () => import("./views/rounds"), tab: "rounds" },
  { pattern: "city/:city/round/:round", load: () => import("./views/round"), tab: "rounds" },
  { pattern: "city/:city/node/:node", load: () => import("./views/node") },
  { pattern: "city/:city/node/:round/:seq", load: () => import("./views/node") },
  { pattern: "city/:city/author/:key", load: () => import("./views/author") },
  { pattern: "city/:city/committee", load: () => import("./views/committee"), tab: "committee" },
  { pattern: "city/:city/tx/:tx", load: () => import("./views/transaction") },
  { pattern: "city/:city/receipt/:tx", load: () => import("./views/receipt") },
  { pattern: "city/:city/receipt/:tx/:top", load: () => import("./views/receipt") },
  { pattern: "city/:city/submit", load: () => import("./views/submit"), tab: "submit" },
  { pattern: "receipt", load: () => import("./views/receipt") },
  { pattern: "tour", load: () => import("./views/tour") },
  { pattern: "city/:city/anchors", load: () => import("./views/anchors"), tab: "anchors" },
];
