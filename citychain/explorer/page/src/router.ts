/** Which view the address asks for. Addresses are hashes, so the page works under any path. */

import type { ComponentType } from "preact";

/** What an address says: the values of a pattern's `:names`, decoded. */
export type Params = Readonly<Record<string, string>>;

/** What the module of a view exports. */
export interface View {
  /** The view itself. */
  default: ComponentType<{ params: Params }>;
  /** What the window is called while it is shown. */
  title(params: Params): string;
}

/** One kind of address. */
export interface Route<Tab extends string = string> {
  /** Parts with slashes between; `:name` stands for any one part. */
  pattern: string;
  /** Brings the view's module, at its first use. */
  load: () => Promise<View>;
  /** The entry in a city's row of tabs under which it stands. */
  tab?: Tab;
}

/** An address that was found in the table. */
export interface Place<R> {
  route: R;
  params: Params;
}

/** The parts of a hash such as `#/city/kyoto`, decoded; null if one cannot be decoded. */
function parts(hash: string): string[] | null {
  try {
    return hash
      .replace(/^#?\/?/, "")
      .split("/")
      .filter((part) => part !== "")
      .map(decodeURIComponent);
  } catch {
    return null;
  }
}

/** Finds the route of a hash; null where none has its form. */
export function find<R extends Route>(routes: readonly R[], hash: string): Place<R> | null {
  const given = parts(hash);
  if (given === null) return null;
  for (const route of routes) {
    const wanted = route.pattern.split("/").filter((part) => part !== "");
    if (wanted.length !== given.length) continue;
    const params: Record<string, string> = {};
    const fits = wanted.every((part, index) => {
      const value = given[index] as string;
      if (!part.startsWith(":")) return part === value;
      params[part.slice(1)] = value;
      return true;
    });
    if (fits) return { route, params };
  }
  return null;
}

/** Makes an address of parts, encoding each: `link("city", "kyoto")` is `#/city/kyoto`. */
export function link(...to: (string | number)[]): string {
  return `#/${to.map((part) => encodeURIComponent(part)).join("/")}`;
}
