/** Checks a receipt or a promise beside the page, so that no file, however large or hostile, stops it. */
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
  | { readonly outcome: Outcome }
  | { readonly fault: string };

const EVERY_MS = 100;

function report(message: Report): void {
  postMessage(message);
}

addEventListener("message", ({ data }: MessageEvent<Order>) => {
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
    const outcome = judge(data.genesis, data.receipt, onStep, (hashes, seconds) =>
      report({ long: { hashes: String(hashes), seconds } }),
    );
    report({ steps });
    report({ outcome });
  } catch (error) {
    report({ fault: String(error) });
  }
});
