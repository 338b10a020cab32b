/** Asks a worker of its own to check a receipt or a promise. */
import type { Outcome } from "./outcome";
import type { Step } from "./steps";
import type { Long, Order, Report } from "./verify.worker";

/** What came of it, and how many hashes WebCrypto computed again; null if the page has none. */
export interface Judged {
  readonly outcome: Outcome;
  readonly again: number | null;
}

/** Checks such a file with a genesis file; an aborted check ends at once, whatever it does. */
export function check(
  genesis: Uint8Array,
  receipt: Uint8Array,
  onSteps: (steps: readonly Step[]) => void,
  onLong: (long: Long) => void,
  signal: AbortSignal,
): Promise<Judged> {
  const worker = new Worker(`assets/${WORKERS.verify}`, { type: "module" });
  return new Promise<Judged>((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    if (signal.aborted) reject(signal.reason);
    worker.addEventListener("error", () => reject(new Error("The checking script failed.")));
    worker.addEventListener("message", ({ data }: MessageEvent<Report>) => {
      if ("steps" in data) onSteps(data.steps);
      else if ("long" in data) onLong(data.long);
      else if ("outcome" in data) resolve(data);
      else reject(new Error(data.fault));
    });
    const order: Order = { genesis, receipt };
    worker.postMessage(order);
  }).finally(() => worker.terminate());
}
