/**
 * What was checked, step by step. Steps are plain data: a worker posts them, views draw them.
 * Bytes are in hex, long ones by their first 32 bytes and their length.
 */
import { toHex, Unreadable } from "./bytes";
import { inEnglish, type Problem } from "./problems";
import type { Context } from "./signatures";

/** The checks of docs/protocol.md, sections 12, 13 and 18, by their names. */
export type Check =
  | "form"
  | "genesis"
  | "tx_id"
  | "key"
  | "signature"
  | "handover"
  | "checkpoint"
  | "quorum"
  | "poh"
  | "node"
  | "inclusion"
  | "anchor";

export type Subject =
  | "form"
  | "genesis"
  | "transaction form"
  | "transaction id"
  | "transaction genesis"
  | "author"
  | "author signature"
  | "order"
  | "elects"
  | "new seats"
  | "recovery form"
  | "recovery genesis"
  | "recovery author"
  | "recovery signature"
  | "recovery once"
  | "term start"
  | "certified hash"
  | "certified round"
  | "checkpoint layout"
  | "checkpoint genesis"
  | "checkpoint rule"
  | "previous checkpoint"
  | "committee"
  | "voters"
  | "stake"
  | "votes"
  | "poh length"
  | "poh mixin"
  | "poh hash"
  | "node id"
  | "leaf index"
  | "inclusion"
  | "anchor"
  | "promise signature"
  | "promise inclusion";

/** A part of what was hashed or signed. */
export interface Part {
  readonly name: string;
  readonly bytes: number;
  readonly hex: string;
}

export interface Vote {
  readonly keyId: string;
  readonly stake: string;
  readonly voted: boolean;
}

export interface Step {
  /** Which check this belongs to; the first that fails names the receipt invalid. */
  readonly check: Check;
  readonly subject: Subject;
  readonly ok: boolean;
  /** Of a receipt through levels: which one, from the transaction's own city; absent for the top. */
  readonly level?: number;
  /** Which change of the committee. */
  readonly handover?: number;
  readonly hashed?: readonly Part[];
  readonly signed?: readonly Part[];
  readonly context?: Context;
  readonly expected?: string;
  readonly got?: string;
  /** What a reader met that it could not read. */
  readonly problem?: Problem;
  readonly rungs?: readonly { sibling: string; side: "left" | "right"; hash: string }[];
  readonly votes?: readonly Vote[];
}

const SHOWN_BYTES = 32;

export function parts(...named: readonly (readonly [string, Uint8Array])[]): Part[] {
  return named.map(([name, data]) => ({
    name,
    bytes: data.length,
    hex: toHex(data.subarray(0, SHOWN_BYTES)),
  }));
}

/** A step did not hold; it is the last of the trail. */
export class Failed extends Error {
  constructor(readonly step: Step) {
    super(`${step.check}: ${step.subject}${step.problem ? `: ${inEnglish(step.problem)}` : ""}`);
  }
}

type Scope = { check?: Check; level?: number; handover?: number };
type Shown = Omit<Step, "check" | "subject" | "ok" | "level" | "handover" | "expected" | "got"> & {
  expected?: Uint8Array | bigint | number | string;
  got?: Uint8Array | bigint | number | string;
};

/** Takes down steps, and ends at the first that does not hold. */
export class Trail {
  private scope: Scope = {};

  constructor(private readonly onStep: (step: Step) => void) {}

  /** @throws Failed */
  step(check: Check, subject: Subject, ok: boolean, shown: Shown = {}): void {
    const { expected, got, ...rest } = shown;
    const step: Step = {
      subject,
      ok,
      ...rest,
      ...(expected === undefined ? {} : { expected: display(expected) }),
      ...(got === undefined ? {} : { got: display(got) }),
      check,
      ...this.scope,
    };
    this.onStep(step);
    if (!ok) throw new Failed(step);
  }

  /** Reads something that may not be in its form. */
  read<T>(check: Check, subject: Subject, reading: () => T): T {
    let value: T;
    try {
      value = reading();
    } catch (error) {
      this.step(
        check,
        subject,
        false,
        error instanceof Unreadable ? { problem: error.problem } : {},
      );
      throw error;
    }
    this.step(check, subject, true);
    return value;
  }

  /** Runs with all steps told as of this scope. */
  within<T>(scope: Scope, run: () => T): T {
    const before = this.scope;
    this.scope = { ...before, ...scope };
    try {
      return run();
    } finally {
      this.scope = before;
    }
  }
}

function display(value: Uint8Array | bigint | number | string): string {
  return value instanceof Uint8Array ? toHex(value) : String(value);
}
