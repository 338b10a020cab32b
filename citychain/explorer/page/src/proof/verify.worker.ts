/** Checks a receipt or a promise beside the page, so that no file, however large or hostile, stops it. */
import { hashAgain, noting } from "./hashes";
import { judge, type Outcome } from "./outcome";
import type { Step } from "./steps";

export interface Order {
  readonly genesis: Uint8Array;
  readonly receipt: Uint8Array;
}

/** A check that takes long. */
export interface Long {
  readonly hashes: string;
  readonly seconds: number;
}

export type Report =
  | { readonly steps: Step[] }
  | { readonly long: Long }
  /** With how many hashes WebCrypto computed again; null if the page has none. */
  | { readonly outcome: Outcome; readonly again: number | null }
  | { readonly fault: string };

const EVERY_MS = 100;

function report(message: Report): void {
  postMessage(message);
}

addEventListener("message", async ({ data }: MessageEvent<Order>) => {
  let steps: Step[] = [];
  let told = 0;
  try {
    const onStep = (step: Step) => {
      steps.push(step);
      if (performance.now() - told < EVERY_MS) return;
      report({ steps });
      steps = [];
      told = performance.now();
    };
    const onLong = (hashes: bigint, seconds: number) =>
      report({ long: { hashes: String(hashes), seconds } });
    const { genesis, receipt } = data;
    const { value: outcome, hashed } = noting(() => judge(genesis, receipt, onStep, onLong));
    report({ steps });
    report({ outcome, again: await hashAgain(hashed) });
  } catch (error) {
    report({ fault: String(error) });
  }
});
