/** The explorer's WebSocket: what it tells of one city, over a connection made anew when it breaks. */

import type { Head, Round, State } from "./api";
import type { ToldRound } from "./dag/window";

/** A transaction that is followed reached a state. */
export interface Reached {
  tx_id: string;
  state: State;
  round?: number;
  seq?: number;
  code?: string;
}

export interface Certified {
  round: number;
  votes: string[];
}

/** A message; `citychain.explorer.live` says which members come together. */
export type Told = Partial<Omit<ToldRound, "round">> & {
  city?: string;
  head?: Head;
  rounds?: (Round | ToldRound)[];
  round?: Round;
  skipped?: number;
  /** At the beginning all that are known; then each as it comes. */
  certified?: Certified | { certified: Certified }[];
  transaction?: Reached;
  waiting?: { pending: number; head?: Head };
  trouble?: string;
};

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;

export class Feed {
  readonly #city: string;
  readonly #follow: readonly string[];
  readonly #told: (message: Told) => void;
  readonly #lost: () => void;
  readonly #online = () => this.#connect();
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #closed = false;

  /**
   * `told` hears each message, first where the city stands; `lost` hears that the connection broke
   * or could not be had. Of transactions to `follow`, at most 64, also each state is told.
   */
  constructor(
    city: string,
    told: (message: Told) => void,
    lost: () => void,
    follow: readonly string[] = [],
  ) {
    this.#city = city;
    this.#follow = follow;
    this.#told = told;
    this.#lost = lost;
    addEventListener("online", this.#online);
    this.#connect();
  }

  close(): void {
    this.#closed = true;
    removeEventListener("online", this.#online);
    clearTimeout(this.#timer);
    const socket = this.#socket;
    // One that is broken off before it stands is told as an error in the browser's console.
    if (socket?.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket?.close();
  }

  #connect(): void {
    clearTimeout(this.#timer);
    if (this.#closed || (this.#socket && this.#socket.readyState <= WebSocket.OPEN)) return;
    const url = new URL("live", document.baseURI);
    url.hash = "";
    url.search = "";
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ watch: this.#city }));
      if (this.#follow.length > 0) socket.send(JSON.stringify({ follow: this.#follow }));
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket || this.#closed) return;
      const message = JSON.parse(data) as Told;
      if (message.trouble === undefined) this.#failures = 0;
      this.#told(message);
    };
    socket.onclose = () => {
      if (socket !== this.#socket || this.#closed) return;
      const wait = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures++);
      this.#timer = setTimeout(() => this.#connect(), wait * (0.5 + Math.random() / 2));
      this.#lost();
    };
  }
}
