/**
 * Receipts: what proves, with the genesis file alone, what became of a transaction
 * (docs/protocol.md, sections 12 and 18).
 */
import { concat, encodeUtf8, equal, toHex, Unreadable } from "./bytes";
import { certified, readTerms, type Term } from "./committees";
import type { Genesis } from "./genesis";
import { keyId, sha256 } from "./hashes";
import { approvedLeaf, type Checkpoint, nodeParts, readCheckpoint, rejectedLeaf } from "./layouts";
import { climb } from "./log";
import { pohHash } from "./poh";
import type { Fault, Value } from "./problems";
import {
  type Certificate,
  type Handover,
  type LevelReceipt,
  type Receipt,
  SignedTransaction,
  type TransactionBody,
} from "./schema";
import { PUBLIC_KEY_BYTES, SIGNATURE_BYTES, signed } from "./signatures";
import { parts, type Step, Trail } from "./steps";
import { readStored } from "./transactions";
import { writeWire } from "./wire";

const LEVELS_MAX = 16;
const RECOVERY_BYTES_MAX = 65_536;
const CHECKPOINT_BYTES_MAX = 131_072;

/** What a receipt that holds says. */
export interface Proven {
  readonly receipt: Receipt;
  readonly body: TransactionBody | undefined;
  /** The rounds from which on the operator, not an election, put the committee in office. */
  readonly recoveredFrom: readonly bigint[];
}

/**
 * Checks a receipt, or one through levels, with the genesis file of its (top) city. Tells each
 * step to `onStep`, and ends at the first that does not hold.
 *
 * @throws Failed the check that names it invalid.
 */
export function verify(
  genesis: Genesis,
  receipt: LevelReceipt,
  onStep: (step: Step) => void,
): Proven {
  const trail = new Trail(onStep);
  const { levels } = receipt;
  trail.read("form", "form", () => {
    if (receipt.top === undefined) throw new Unreadable("{0}: is missing", "top");
    if (levels.length > LEVELS_MAX)
      throw new Unreadable("{0}: more than {1}", "levels", LEVELS_MAX);
    checkForm(receipt.top, true);
    for (const level of levels) checkForm(level, false);
  });
  const top = receipt.top as Receipt;
  let above = verifyTop(genesis, top, trail);
  const { recoveredFrom } = above;
  for (let level = levels.length - 1; level >= 0; level--) {
    above = trail.within({ level }, () => {
      const anchored = readAnchor(above, trail);
      return { ...verifyLevel(levels[level] as Receipt, anchored, trail), recoveredFrom };
    });
  }
  return above;
}

function verifyTop(genesis: Genesis, receipt: Receipt, trail: Trail): Proven {
  const body = verifyTransaction(receipt, genesis.id, trail);
  const terms = readTerms(genesis, receipt.handovers, trail);
  const last = terms.at(-1) as Term;
  trail.step("handover", "term start", last.firstRound <= receipt.round, {
    expected: `≤ ${receipt.round}`,
    got: last.firstRound,
  });
  const checkpoint = certified(
    genesis,
    terms,
    receipt.checkpoint,
    receipt.certificate as Certificate,
    receipt.round,
    trail,
  );
  verifyEntry(genesis, checkpoint, trail);
  verifyPlace(receipt, checkpoint, trail);
  const recoveredFrom = terms.filter((term) => term.recovery).map((term) => term.firstRound);
  return { receipt, body, recoveredFrom };
}

function verifyLevel(
  receipt: Receipt,
  checkpoint: Checkpoint,
  trail: Trail,
): Pick<Proven, "receipt" | "body"> {
  const body = verifyTransaction(receipt, checkpoint.genesis, trail);
  verifyPlace(receipt, checkpoint, trail);
  return { receipt, body };
}

/** The checkpoint that the transaction of the level above anchors. */
function readAnchor({ receipt, body }: Proven, trail: Trail): Checkpoint {
  return trail.read("anchor", "anchor", () => {
    if (receipt.node === undefined) throw new Unreadable("the anchor was rejected");
    if (body?.anchor === undefined) throw new Unreadable("the transaction above is no anchor");
    const checkpoint = readCheckpoint(body.anchor.checkpoint);
    if (!equal(checkpoint.genesis, body.anchor.city))
      throw new Unreadable("the anchored checkpoint is of another city than the anchor says");
    return checkpoint;
  });
}

/** The checks about who signed what: from `genesis` to `signature`. */
function verifyTransaction(
  receipt: Receipt,
  genesis: Uint8Array,
  trail: Trail,
): TransactionBody | undefined {
  trail.step("genesis", "genesis", equal(receipt.genesis, genesis), {
    expected: genesis,
    got: receipt.genesis,
  });
  const envelope = receipt.transaction;
  // Retention removed it: the receipt proves what became of the id.
  if (envelope === undefined) return undefined;
  const { body, id } = trail.read("tx_id", "transaction form", () => readStored(envelope));
  trail.step("tx_id", "transaction id", equal(id, receipt.txId), {
    hashed: parts(["tag", encodeUtf8("citychain/tx/v1\0")], ["body", envelope.body]),
    expected: receipt.txId,
    got: id,
  });
  trail.step("genesis", "transaction genesis", equal(body.genesis, genesis), {
    expected: genesis,
    got: body.genesis,
  });
  const key = keyId(receipt.publicKey);
  trail.step("key", "author", equal(key, body.author), {
    hashed: parts(
      ["tag", encodeUtf8("citychain/key/v1\0")],
      ["scheme", Uint8Array.of(1)],
      ["public key", receipt.publicKey],
    ),
    expected: body.author,
    got: key,
  });
  const context = "citychain/tx/v1";
  trail.step(
    "signature",
    "author signature",
    signed(receipt.publicKey, envelope.body, context, envelope.signature),
    { context, signed: parts(["body", envelope.body]) },
  );
  return body;
}

function verifyEntry(genesis: Genesis, { entry, mixin }: Checkpoint, trail: Trail): void {
  trail.step("poh", "poh length", entry.numHashes === genesis.numHashes, {
    expected: genesis.numHashes,
    got: entry.numHashes,
  });
  trail.step("poh", "poh mixin", equal(entry.mixin, mixin), {
    expected: mixin,
    got: entry.mixin,
  });
  const hash = pohHash(entry.prev, entry.numHashes, mixin);
  trail.step("poh", "poh hash", equal(entry.hash, hash), {
    hashed: parts(["prev", entry.prev], ["mixin", mixin]),
    expected: entry.hash,
    got: hash,
  });
}

/** The checks `node` and `inclusion`. */
function verifyPlace(receipt: Receipt, checkpoint: Checkpoint, trail: Trail): void {
  const { node, rejection } = receipt;
  let leaf: Uint8Array;
  if (node !== undefined) {
    const parents = node.parents.map((parent) => parent.nodeId);
    const named = nodeParts(checkpoint.rule, receipt.genesis, receipt, parents, node.pop);
    const id = sha256(concat(...named.map(([, part]) => part)));
    trail.step("node", "node id", equal(id, node.nodeId), {
      hashed: parts(...named),
      expected: node.nodeId,
      got: id,
    });
    leaf = approvedLeaf(node.nodeId);
  } else {
    const { code, reason } = rejection as NonNullable<Receipt["rejection"]>;
    leaf = rejectedLeaf(receipt, code, reason);
  }
  const { leafIndex, inclusion } = receipt;
  trail.step("inclusion", "leaf index", leafIndex < checkpoint.size, {
    expected: `< ${checkpoint.size}`,
    got: leafIndex,
  });
  const { leafHash, rungs, root } = climb(leaf, leafIndex, checkpoint.size, inclusion);
  trail.step("inclusion", "inclusion", root !== undefined && equal(root, checkpoint.root), {
    hashed: parts(["leaf", leaf], ["leaf hash", leafHash]),
    expected: checkpoint.root,
    ...(root
      ? { got: root }
      : { problem: { fault: "the path has not the length that leads to the root", values: [] } }),
    rungs: rungs.map(({ sibling, side, hash }) => ({
      sibling: toHex(sibling),
      side,
      hash: toHex(hash),
    })),
  });
}

/** What the check `form` asks beyond the one form, of a receipt that is certified by itself or not. */
function checkForm(receipt: Receipt, alone: boolean): void {
  const { node, rejection, transaction } = receipt;
  lengths(32, "genesis", receipt.genesis);
  lengths(32, "txId", receipt.txId);
  lengths(32, "inclusion", ...receipt.inclusion);
  form(receipt.inclusion.length <= 64, "{0}: more than {1}", "inclusion", 64);
  form(receipt.round >= 1n, "{0}: is 0", "round");
  if (transaction === undefined)
    form(receipt.publicKey.length === 0, "publicKey: without a transaction");
  else {
    form(writeWire(SignedTransaction, transaction).length > 0, "{0}: is empty", "transaction");
    lengths(PUBLIC_KEY_BYTES, "publicKey", receipt.publicKey);
  }
  form((node === undefined) !== (rejection === undefined), "either a node or a rejection");
  if (node !== undefined) {
    const parents = node.parents.map((parent) => parent.nodeId);
    lengths(32, "node", node.nodeId, ...parents);
    form(node.pop.length === 0 || node.pop.length === 32, "{0}: not {1} bytes", "node.pop", 32);
    form(
      parents.length >= 1 && parents.length <= 8,
      "{0}: no list of {1} to {2}",
      "node.parents",
      1,
      8,
    );
    form(
      new Set(parents.map(toHex)).size === parents.length,
      "{0}: one stands twice",
      "node.parents",
    );
    form(
      equal(node.txId, receipt.txId) && node.round === receipt.round && node.seq === receipt.seq,
      "node: of another transaction or place",
    );
  }
  if (rejection !== undefined) {
    form(
      /^[A-Z0-9_]{1,32}$/.test(rejection.code),
      "{0}: not as {1}",
      "rejection.code",
      "^[A-Z0-9_]{1,32}$",
    );
    form(
      encodeUtf8(rejection.reason).length <= 255,
      "{0}: more than {1} bytes",
      "rejection.reason",
      255,
    );
  }
  if (alone) {
    form(receipt.checkpoint.length <= CHECKPOINT_BYTES_MAX, "{0}: is too long", "checkpoint");
    checkCertificate(receipt.certificate);
    form(receipt.handovers.length <= 1024, "{0}: more than {1}", "handovers", 1024);
    for (const handover of receipt.handovers) checkHandover(handover);
  } else {
    form(
      receipt.checkpoint.length === 0 &&
        receipt.certificate === undefined &&
        receipt.handovers.length === 0,
      "levels: one with a checkpoint, a certificate or handovers of its own",
    );
  }
}

function checkCertificate(certificate: Certificate | undefined): void {
  if (certificate === undefined) throw new Unreadable("{0}: is missing", "certificate");
  lengths(32, "certificate", certificate.checkpointHash);
  form(certificate.votes.length <= 1024, "{0}: more than {1}", "certificate.votes", 1024);
  for (const vote of certificate.votes) {
    lengths(32, "vote", vote.keyId);
    lengths(SIGNATURE_BYTES, "vote", vote.signature);
  }
}

function checkHandover(handover: Handover): void {
  form(handover.publicKeys.length <= 1024, "{0}: more than {1}", "handover.publicKeys", 1024);
  lengths(PUBLIC_KEY_BYTES, "handover", ...handover.publicKeys);
  const { checkpoint, certificate, recovery } = handover;
  if (recovery === undefined) {
    form(checkpoint.length > 0, "handover: neither a checkpoint nor a recovery");
    form(checkpoint.length <= CHECKPOINT_BYTES_MAX, "{0}: is too long", "handover.checkpoint");
    checkCertificate(certificate);
  } else {
    form(checkpoint.length === 0 && certificate === undefined, "handover: two kinds in one");
    const { length } = writeWire(SignedTransaction, recovery);
    form(length > 0, "{0}: is empty", "handover.recovery");
    form(length <= RECOVERY_BYTES_MAX, "{0}: is too long", "handover.recovery");
  }
}

function lengths(length: number, name: string, ...all: Uint8Array[]): void {
  for (const one of all) form(one.length === length, "{0}: not {1} bytes", name, length);
}

function form(holds: boolean, fault: Fault, ...values: Value[]): void {
  if (!holds) throw new Unreadable(fault, ...values);
}
