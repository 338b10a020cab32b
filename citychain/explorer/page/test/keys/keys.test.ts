import assert from "node:assert/strict";
import test from "node:test";
import { makeKey, readKeyFile, writeKeyFile } from "../../src/keys/key";
import { sign } from "../../src/keys/sign";
import { encodeUtf8, toHex, Unreadable } from "../../src/proof/bytes";
import { foundOf, judge } from "../../src/proof/outcome";
import { signed } from "../../src/proof/signatures";
import { Refused, readBody, readEnvelope } from "../../src/proof/transactions";
import { hexed, vectors } from "../proof/vectors";

const IDS = vectors("ids");
const GENESIS = hexed(IDS.genesis.id);

test("a seed gives the key of the vectors, and its file gives it back", () => {
  const key = makeKey(hexed(IDS.key.seed));
  assert.equal(toHex(key.publicKey), IDS.key.public_key);
  assert.equal(toHex(key.id), IDS.key.id);
  assert.deepEqual(readKeyFile(writeKeyFile(key)), key);
});

test("what is no key file is told by its member, and never shows the seed", () => {
  const file = writeKeyFile(makeKey(hexed(IDS.key.seed)));
  const spoilt: [RegExp, string][] = [
    [/key_id/, file.replace(/"key_id": "../, '"key_id": "00')],
    [/seed/, file.replace(/"seed": "../, '"seed": "')],
    [/scheme/, file.replace("ML-DSA-87", "ML-DSA-44")],
    [/format/, file.replace('"format": 1', '"format": 2')],
    [/member/, file.replace("{", '{"more": 1,')],
    [/public key/, IDS.key.public_key],
    [/JSON/, "hello"],
    [/long/, " ".repeat(5000)],
  ];
  for (const [message, text] of spoilt)
    assert.throws(
      () => readKeyFile(text),
      (error: Error) =>
        error instanceof Unreadable &&
        message.test(error.message) &&
        !error.message.includes(IDS.key.seed.slice(4)),
      String(message),
    );
});

test("what is signed here keeps every rule, and the signature holds", () => {
  const key = makeKey(hexed(IDS.key.seed));
  const data = { contentType: "text/plain", content: encodeUtf8("おはよう") };
  const { txId, envelope } = sign(key, GENESIS, { data });
  const read = readEnvelope(envelope);
  const body = readBody(read.body);
  assert.deepEqual(body.data, data);
  assert.deepEqual(read.publicKey, key.publicKey);
  assert.ok(signed(key.publicKey, read.body, "citychain/tx/v1", read.signature));
  assert.equal(txId.length, 32);
  assert.notDeepEqual(sign(key, GENESIS, { data }).txId, txId);
});

test("what no city would take is not signed", () => {
  const key = makeKey(hexed(IDS.key.seed));
  const transfer = { asset: "Coin", to: key.id, amount: 1n };
  assert.throws(() => sign(key, GENESIS, { transfer }), Refused);
  assert.throws(
    () => sign(key, GENESIS, { transfer: { ...transfer, asset: "coin", amount: 0n } }),
    /amount/,
  );
  assert.throws(() => sign(key, GENESIS, {}), /action/);
});

test("a file that is none is an answer, not an error", () => {
  const genesis = encodeUtf8(IDS.genesis.file);
  const none = encodeUtf8("{");
  assert.equal(judge(none, none, () => {}).kind, "no genesis");
  assert.deepEqual(
    { ...judge(genesis, none, () => {}), problem: "" },
    { kind: "invalid", check: "form", problem: "" },
  );
});

test("what a city signed is checked as a receipt is, from its own file", () => {
  const file = vectors("acknowledgements");
  const genesis = encodeUtf8(file.genesis);
  const promise = encodeUtf8(file.cases[0].file);
  const steps: string[] = [];
  const outcome = judge(genesis, promise, (step) => steps.push(step.subject));
  assert.equal(outcome.kind, "promised");
  assert.deepEqual(steps, ["genesis", "promise signature", "promise inclusion"]);
  // It is no proof of what another transaction was promised.
  const txId = outcome.kind === "promised" ? outcome.promise.txId : "";
  assert.equal(foundOf(txId, outcome), outcome);
  const other = foundOf("00".repeat(32), outcome);
  assert.equal(other.kind === "invalid" && other.check, "tx_id");
  const later = encodeUtf8(file.cases[0].file.replace(/("final_by_ms": \d+)/, "$10"));
  assert.deepEqual(
    { ...judge(genesis, later, () => {}), problem: "" },
    { kind: "invalid", check: "signature", problem: "" },
  );
});

test("of a check that takes long it is told before it begins how long", () => {
  const genesis = IDS.genesis.file.replace('"num_hashes": 3', '"num_hashes": 4294967296');
  const receipt = encodeUtf8(vectors("receipts").cases[0].json ?? "{}");
  const told: [bigint, number][] = [];
  judge(
    encodeUtf8(genesis),
    receipt,
    () => {},
    (...long) => told.push(long),
  );
  const [[hashes, seconds] = [0n, 0]] = told;
  assert.equal(hashes, 4294967296n);
  assert.ok(seconds > 0);
});
