/** From files to what they prove: what the worker does, as plain data. */
import { isPromise, type Promised, readPromise, verifyPromise } from "./acknowledgements";
import { equal, toHex, Unreadable } from "./bytes";
import { readReceiptFile } from "./files";
import { type Genesis, readGenesis } from "./genesis";
import { pohHash } from "./poh";
import type { Problem } from "./problems";
import { type Proven, verify } from "./receipts";
import { type Check, Failed, type Step } from "./steps";
import { actionOf } from "./transactions";

/** What a receipt that holds says, to be shown. */
export interface Facts {
  readonly network: string;
  readonly city: string;
  readonly genesis: string;
  /** Genesis id of the transaction's own city, where the receipt leads through levels. */
  readonly own?: string;
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

/** What a signed acknowledgement says. */
export interface PromiseFacts {
  readonly network: string;
  readonly city: string;
  readonly genesis: string;
  readonly txId: string;
  readonly receivedMs: string;
  readonly finalByMs: string;
}

export type Outcome =
  | { readonly kind: "valid"; readonly facts: Facts }
  | { readonly kind: "promised"; readonly promise: PromiseFacts }
  | { readonly kind: "invalid"; readonly check: Check; readonly problem?: Problem }
  | { readonly kind: "no genesis"; readonly problem: Problem };

/** A city that asks for more hashes an entry is said to take its time. */
const HASHES_QUICK = 1_000_000n;
const HASHES_TRIED = 20_000n;

/**
 * Checks the file of a receipt, or of a promise, with a genesis file; each step is told as it is
 * made, and of a check that takes long, before it begins, how many seconds.
 */
export function judge(
  genesisFile: Uint8Array,
  file: Uint8Array,
  onStep: (step: Step) => void,
  onLong: (hashes: bigint, seconds: number) => void = () => {},
): Outcome {
  let genesis: Genesis;
  try {
    genesis = readGenesis(genesisFile);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return { kind: "no genesis", problem: error.problem };
  }
  try {
    return judgeFile(genesis, file, onStep, onLong);
  } catch (error) {
    if (error instanceof Failed) {
      const { check, problem } = error.step;
      return { kind: "invalid", check, ...(problem && { problem }) };
    }
    if (!(error instanceof Unreadable)) throw error;
    const { problem } = error;
    onStep({ check: "form", subject: "form", ok: false, problem });
    return { kind: "invalid", check: "form", problem };
  }
}

/** What was found of one transaction: what holds of another was not asked for, and proves nothing. */
export function foundOf(txId: string, outcome: Outcome): Outcome {
  const said =
    outcome.kind === "valid"
      ? outcome.facts.txId
      : outcome.kind === "promised"
        ? outcome.promise.txId
        : txId;
  if (said === txId) return outcome;
  const problem: Problem = { fault: "another transaction than was asked for", values: [] };
  return { kind: "invalid", check: "tx_id", problem };
}

function judgeFile(
  genesis: Genesis,
  file: Uint8Array,
  onStep: (step: Step) => void,
  onLong: (hashes: bigint, seconds: number) => void,
): Outcome {
  if (isPromise(file)) {
    const promise = readPromise(file);
    verifyPromise(genesis, promise, onStep);
    return { kind: "promised", promise: promiseShown(genesis, promise) };
  }
  const receipt = readReceiptFile(file);
  const { numHashes } = genesis;
  if (numHashes > HASHES_QUICK) onLong(numHashes, Number(numHashes) * secondsAHash());
  return { kind: "valid", facts: shown(genesis, verify(genesis, receipt, onStep)) };
}

function secondsAHash(): number {
  const began = performance.now();
  pohHash(new Uint8Array(32), HASHES_TRIED, new Uint8Array(32));
  return (performance.now() - began) / 1000 / Number(HASHES_TRIED);
}

function promiseShown(genesis: Genesis, promise: Promised): PromiseFacts {
  return {
    network: genesis.network,
    city: genesis.city,
    genesis: toHex(genesis.id),
    txId: toHex(promise.txId),
    receivedMs: String(promise.receivedMs),
    finalByMs: String(promise.finalByMs),
  };
}

function shown(genesis: Genesis, { receipt, body, recoveredFrom }: Proven): Facts {
  const { node, rejection } = receipt;
  return {
    network: genesis.network,
    city: genesis.city,
    genesis: toHex(genesis.id),
    ...(!equal(receipt.genesis, genesis.id) && { own: toHex(receipt.genesis) }),
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
