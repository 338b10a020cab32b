/** From files to what they prove: what the worker does, as plain data. */
import { toHex, Unreadable } from "./bytes";
import { readReceiptFile } from "./files";
import { type Genesis, readGenesis } from "./genesis";
import { type Proven, verify } from "./receipts";
import { type Check, Failed, type Step } from "./steps";
import { actionOf } from "./transactions";

/** What a receipt that holds says, to be shown. */
export interface Facts {
  readonly network: string;
  readonly city: string;
  readonly genesis: string;
  readonly txId: string;
  readonly round: string;
  readonly seq: number;
  readonly leafIndex: string;
  readonly nodeId?: string;
  readonly code?: string;
  readonly reason?: string;
  readonly author?: string;
  readonly action?: string;
  readonly createdAtMs?: string;
  readonly recoveredFrom: readonly string[];
}

export type Outcome =
  | { readonly kind: "valid"; readonly facts: Facts }
  | { readonly kind: "invalid"; readonly check: Check; readonly problem: string }
  | { readonly kind: "no genesis"; readonly problem: string };

/** Checks a receipt file with a genesis file; each step is told as it is made. */
export function judge(
  genesisFile: Uint8Array,
  receiptFile: Uint8Array,
  onStep: (step: Step) => void,
): Outcome {
  let genesis: Genesis;
  try {
    genesis = readGenesis(genesisFile);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return { kind: "no genesis", problem: error.message };
  }
  try {
    return { kind: "valid", facts: shown(genesis, judgeFile(genesis, receiptFile, onStep)) };
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    return { kind: "invalid", check: error.step.check, problem: error.step.problem ?? "" };
  }
}

function judgeFile(genesis: Genesis, file: Uint8Array, onStep: (step: Step) => void): Proven {
  try {
    return verify(genesis, readReceiptFile(file), onStep);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    const step: Step = { check: "form", subject: "form", ok: false, problem: error.message };
    onStep(step);
    throw new Failed(step);
  }
}

function shown(genesis: Genesis, { receipt, body, recoveredFrom }: Proven): Facts {
  const { node, rejection } = receipt;
  return {
    network: genesis.network,
    city: genesis.city,
    genesis: toHex(genesis.id),
    txId: toHex(receipt.txId),
    round: String(receipt.round),
    seq: receipt.seq,
    leafIndex: String(receipt.leafIndex),
    ...(node && { nodeId: toHex(node.nodeId) }),
    ...rejection,
    ...(body && {
      author: toHex(body.author),
      action: actionOf(body).kind,
      createdAtMs: String(body.createdAtMs),
    }),
    recoveredFrom: recoveredFrom.map(String),
  };
}
