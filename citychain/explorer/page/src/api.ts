/** What the explorer's server answers. Ids are lower-case hex, times ms since 1970. */

import type { FeatureCollection } from "geojson";
import { refused, token } from "./session";

export type State = "received" | "sealed" | "approved" | "rejected";

export interface About {
  version: string;
  submit: boolean;
  sign_in: boolean;
  started_ms: number;
}

export interface City {
  slug: string;
  titles: Record<string, string>;
  aliases: string[];
  parent?: string | null;
  parts: Record<string, string>;
  state: string;
}

export interface Head {
  sealed_round: number;
  approved_round: number;
  size: number;
}

export interface CityDetails extends City {
  genesis: string;
  rule: string;
  consensus: string;
  head: Head;
  pending: number;
  archived_round: number;
  regions?: FeatureCollection | null;
}

export interface Round {
  round: number;
  time_ms: number;
  size: number;
  first_index: number;
  approved: number;
  rejected: number;
  checkpoint_hash: string;
  poh: string;
  votes: string[] | null;
}

/** How many transactions a round decided; its `size` is the ledger's after it. */
export function decided({ approved, rejected }: Round): number {
  return approved + rejected;
}

export interface Leaf {
  seq: number;
  tx_id: string;
  code?: string | null;
  reason?: string | null;
}

export interface RoundDetails extends Round {
  leaves: Leaf[];
  next_seq?: number | null;
}

export interface Neighbour {
  round: number;
  seq: number;
  node_id: string;
}

export interface DagNode {
  node_id: string;
  tx_id: string;
  round: number;
  seq: number;
  rule: string;
  time_ms: number;
  pop: string;
  poh: string;
  author: string;
  parents: Neighbour[];
  children: Neighbour[];
  next_page_token?: string | null;
}

export interface Transaction {
  tx_id: string;
  state: State;
  author?: string | null;
  round?: number | null;
  seq?: number | null;
  time_ms?: number | null;
  node_id?: string | null;
  code?: string | null;
  reason?: string | null;
  /** The SignedTransaction in base64; empty where retention removed it. */
  envelope: string;
}

export interface AuthorTransaction {
  tx_id: string;
  state: State;
  round?: number | null;
  seq?: number | null;
}

export interface Author {
  key_id: string;
  public_key?: string | null;
  transactions: AuthorTransaction[];
  next?: string | null;
}

export interface Member {
  key_id: string;
  stake: number;
  last_round: number;
  objection?: { round?: number; check: string; detail: string } | string | null;
}

export interface Committee {
  round: number;
  sealed_round: number;
  approved_round: number;
  members: Member[];
  stake_for: number;
  stake_needed: number;
}

export interface Anchor {
  city?: string | null;
  genesis?: string | null;
  name: string;
  round: number;
  size: number;
  tx_id: string;
}

export interface Found {
  kind: "city" | "transaction" | "node" | "author" | "round";
  city: string;
  id: string;
}

export interface Submitted {
  tx_id: string;
  state: State;
  duplicate: boolean;
  /** The file of what the city signed, where it signs. */
  acknowledgement?: object;
}

/** The server refused, or did not answer (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string | null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

type Query = Record<string, string | number | undefined>;

/** The relative address of a resource; each part is encoded, and what has no value left out. */
export function address(path: readonly (string | number)[], query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  const tail = given.length > 0 ? `?${search}` : "";
  return `api/${path.map((part) => encodeURIComponent(part)).join("/")}${tail}`;
}

async function request(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "The explorer does not answer.", null);
  }
  if (response.ok) return response;
  let told: { code?: string; message?: string; field?: string | null } = {};
  try {
    told = ((await response.json()) as { error?: typeof told }).error ?? {};
  } catch {
    // A proxy's error page: its status is all that it says.
  }
  throw new ApiError(
    response.status,
    told.code ?? `HTTP ${response.status}`,
    told.message ?? response.statusText,
    told.field ?? null,
  );
}

/** Gets a resource as JSON. @throws ApiError */
async function get<T>(url: string, signal?: AbortSignal): Promise<T> {
  const response = await request(url, signal ? { signal } : {});
  return (await response.json()) as T;
}

const of =
  <T>(...tail: string[]) =>
  (city: string, signal?: AbortSignal) =>
    get<T>(address(["cities", city, ...tail]), signal);

export const api = {
  about: (signal?: AbortSignal) => get<About>(address(["about"]), signal),
  cities: (query: string, page: string | undefined, signal?: AbortSignal) =>
    get<{ cities: City[]; next_page_token?: string | null }>(
      address(["cities"], { query: query || undefined, page_token: page }),
      signal,
    ),
  city: of<CityDetails>(),
  committee: of<Committee>("committee"),
  anchors: of<{ chain: Anchor[] }>("anchors"),
  rounds: (city: string, from: number | undefined, limit: number, signal?: AbortSignal) =>
    get<{ rounds: Round[] }>(address(["cities", city, "rounds"], { from, limit }), signal),
  round: (city: string, round: number, fromSeq?: number, signal?: AbortSignal) =>
    get<RoundDetails>(address(["cities", city, "rounds", round], { from_seq: fromSeq }), signal),
  /** A node by its id, or by its round and its place in it. */
  node: (city: string, at: [string] | [number, number], page?: string, signal?: AbortSignal) =>
    get<DagNode>(address(["cities", city, "nodes", ...at], { page_token: page }), signal),
  transaction: (city: string, id: string, signal?: AbortSignal) =>
    get<Transaction>(address(["cities", city, "transactions", id]), signal),
  author: (city: string, key: string, next?: string, signal?: AbortSignal) =>
    get<Author>(address(["cities", city, "authors", key], { next }), signal),
  search: (q: string, signal?: AbortSignal) =>
    get<{ found: Found[] }>(address(["search"], { q }), signal),
  /** The genesis file, byte for byte. */
  async genesis(city: string, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await request(address(["cities", city, "genesis"]), signal ? { signal } : {});
    return new Uint8Array(await response.arrayBuffer());
  },
  /** The receipt's JSON as text, for a reader that is strict about its form. */
  async receipt(city: string, id: string, levels = false, signal?: AbortSignal): Promise<string> {
    const url = address(["cities", city, "receipts", id], { levels: levels ? "true" : undefined });
    return (await request(url, signal ? { signal } : {})).text();
  },
  /** Sends a SignedTransaction, with the token of who is signed in. @throws ApiError */
  async submit(city: string, envelope: Uint8Array<ArrayBuffer>): Promise<Submitted> {
    const headers: Record<string, string> = { "Content-Type": "application/x-protobuf" };
    if (token.value !== null) headers.Authorization = `Bearer ${token.value}`;
    const url = address(["cities", city, "transactions"]);
    try {
      const response = await request(url, { method: "POST", headers, body: envelope });
      return (await response.json()) as Submitted;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) refused.value = true;
      throw error;
    }
  },
};
