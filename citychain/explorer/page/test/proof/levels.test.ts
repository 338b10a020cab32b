import assert from "node:assert/strict";
import test from "node:test";
import { ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { makeKey } from "../../src/keys/key";
import { type Draft, sign } from "../../src/keys/sign";
import { be, concat, counted, encodeUtf8, toHex } from "../../src/proof/bytes";
import { readGenesis } from "../../src/proof/genesis";
import { checkpointHash, sha256, tagged } from "../../src/proof/hashes";
import { approvedLeaf, nodeParts } from "../../src/proof/layouts";
import { pohHash } from "../../src/proof/poh";
import { verify } from "../../src/proof/receipts";
import { empty, type LevelReceipt, Receipt } from "../../src/proof/schema";
import { readEnvelope } from "../../src/proof/transactions";
import { readWire } from "../../src/proof/wire";
import { bytesOf, vectors, verdict } from "./vectors";

/** The city below: the harbour of the vectors. */
const FILE = vectors("receipts");
const HARBOUR = bytesOf(FILE.cases);
const KEY = makeKey(new Uint8Array(32).fill(7));
/** The city above has one representative, who is its operator too, and takes no time over a round. */
const TOP_FILE = encodeUtf8(
  JSON.stringify({
    network: "test",
    city: "country",
    rule: "sealed-rounds/1",
    consensus: "solo/1",
    operator: toHex(KEY.publicKey),
    num_hashes: 1,
    committee: [{ public_key: toHex(KEY.publicKey) }],
  }),
);
const TOP = readGenesis(TOP_FILE);

/** The city above's receipt of what a draft says, alone in its first round. */
function certifiedAbove(draft: Draft): Receipt {
  const { txId, envelope } = sign(KEY, TOP.id, draft);
  const { body, signature } = readEnvelope(envelope);
  const place = { round: 1n, seq: 0, txId };
  const named = nodeParts(TOP.rule, TOP.id, place, [TOP.id], new Uint8Array(0));
  const nodeId = sha256(concat(...named.map(([, part]) => part)));
  const root = sha256(concat(Uint8Array.of(0), approvedLeaf(nodeId)));
  const before = concat(
    be(1, 2),
    TOP.id,
    be(1, 8),
    TOP.id,
    root,
    be(1, 8),
    counted(encodeUtf8(TOP.rule), 1),
    new Uint8Array(32),
    be(1, 2),
    KEY.id,
    be(1, 8),
    Uint8Array.of(0),
  );
  const mixin = tagged("mixin", before);
  const hash = pohHash(TOP.id, 1n, mixin);
  const checkpoint = concat(before, TOP.id, be(1, 8), mixin, hash);
  const checkpointId = checkpointHash(checkpoint);
  const vote = ml_dsa87.sign(
    concat(TOP.id, be(1, 8), checkpointId),
    ml_dsa87.keygen(KEY.seed).secretKey,
    { context: encodeUtf8("citychain/vote/v1") },
  );
  return {
    ...empty(Receipt),
    genesis: TOP.id,
    txId,
    transaction: { body, scheme: 1, publicKey: undefined, keyId: KEY.id, signature },
    publicKey: KEY.publicKey,
    node: {
      nodeId,
      txId,
      parents: [{ nodeId: TOP.id }],
      round: 1n,
      seq: 0,
      pop: new Uint8Array(0),
    },
    round: 1n,
    checkpoint,
    certificate: {
      round: 1n,
      checkpointHash: checkpointId,
      votes: [{ keyId: KEY.id, signature: vote }],
    },
  };
}

/** A receipt of the harbour without what certifies it, and the anchor of its checkpoint. */
function below(name: string): { level: Receipt; anchor: Draft } {
  const own = readWire(Receipt, HARBOUR.get(name) as Uint8Array, true);
  const level = {
    ...own,
    checkpoint: new Uint8Array(0),
    certificate: undefined,
    handovers: [],
  };
  const { checkpoint } = own;
  return { level, anchor: { anchor: { city: own.genesis, checkpoint, proof: Uint8Array.of(1) } } };
}

const check = (receipt: LevelReceipt) => verdict((onStep) => verify(TOP, receipt, onStep));

test("the city above proves what became of transactions below", () => {
  for (const name of ["approved", "rejected", "removed"]) {
    const { level, anchor } = below(name);
    assert.equal(check({ levels: [level], top: certifiedAbove(anchor) }), null, name);
  }
});

test("a chain of levels breaks at the check that is named", () => {
  const { level, anchor } = below("approved");
  const top = certifiedAbove(anchor);
  const of = (change: Partial<Receipt>) => ({ levels: [{ ...level, ...change }], top });
  const whole = readWire(Receipt, HARBOUR.get("approved") as Uint8Array, true);
  const other = below("recovered");
  const foreign = { anchor: { ...anchor.anchor, city: TOP.id } } as Draft;
  const cases: [string, string, LevelReceipt][] = [
    ["no top", "form", { levels: [level], top: undefined }],
    ["its own certificate", "form", { levels: [whole], top }],
    ["too many levels", "form", { levels: Array(17).fill(level), top }],
    ["no anchor above", "anchor", { levels: [level, level], top }],
    [
      "no anchor",
      "anchor",
      {
        levels: [level],
        top: certifiedAbove({ data: { contentType: "", content: Uint8Array.of(1) } }),
      },
    ],
    ["an anchor of another city", "anchor", { levels: [level], top: certifiedAbove(foreign) }],
    ["another city", "genesis", of({ genesis: TOP.id })],
    ["another leaf", "inclusion", of({ leafIndex: 1n })],
    ["another checkpoint", "inclusion", { levels: [level], top: certifiedAbove(other.anchor) }],
    ["the top altered", "inclusion", { levels: [level], top: { ...top, leafIndex: 1n } }],
  ];
  for (const [name, expected, receipt] of cases) assert.equal(check(receipt), expected, name);
});
