/** The vectors of the protocol, tests/vectors of the repository, as its README says. */
import { readFileSync } from "node:fs";
import { Failed, type Step } from "../../src/proof/steps";

// biome-ignore lint/suspicious/noExplicitAny: the files' shapes are their own.
export type Case = any;

/** A file of vectors; numbers beyond 2^53 are texts of their digits. */
export function vectors(name: string): Case {
  const text = readFileSync(`../../../tests/vectors/${name}.json`, "utf8");
  return JSON.parse(text.replace(/([:[,]\s*)(\d{16,})(?=\s*[,\]}])/g, '$1"$2"'));
}

/** What each case of a file stands for, by name. */
export function bytesOf(cases: Case[]): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  for (const { name, bytes, of, at, cut, put } of cases) {
    const good = found.get(of);
    const data = good
      ? Buffer.concat([good.subarray(0, at), Buffer.from(put, "base64"), good.subarray(at + cut)])
      : Buffer.from(bytes, "base64");
    found.set(name, new Uint8Array(data));
  }
  return found;
}

export const hexed = (text: string) => new Uint8Array(Buffer.from(text, "hex"));

/** The check that fails first, or null; other errors are the test's. */
export function verdict(run: (onStep: (step: Step) => void) => unknown): string | null {
  try {
    run(() => {});
  } catch (error) {
    if (error instanceof Failed) return error.step.check;
    throw error;
  }
  return null;
}
