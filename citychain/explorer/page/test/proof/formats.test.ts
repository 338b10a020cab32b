import assert from "node:assert/strict";
import test from "node:test";
import { readPromise, verifyPromise } from "../../src/proof/acknowledgements";
import { concat, encodeUtf8, equal, toHex, Unreadable } from "../../src/proof/bytes";
import { readGenesis } from "../../src/proof/genesis";
import { checkpointHash, keyId, sha256, transactionId } from "../../src/proof/hashes";
import { parseJson } from "../../src/proof/json";
import { approvedLeaf, nodeParts, readCheckpoint, rejectedLeaf } from "../../src/proof/layouts";
import { climb } from "../../src/proof/log";
import { signed } from "../../src/proof/signatures";
import { Failed } from "../../src/proof/steps";
import { Refused, readBody, readEnvelope } from "../../src/proof/transactions";
import { bytesOf, hexed, vectors, verdict } from "./vectors";

test("ids are those of the vectors", () => {
  const { genesis, key, transaction } = vectors("ids");
  assert.equal(toHex(readGenesis(encodeUtf8(genesis.file)).id), genesis.id);
  assert.equal(toHex(keyId(hexed(key.public_key))), key.id);
  assert.equal(toHex(transactionId(hexed(transaction.body))), transaction.id);
});

test("nodes and leaves are those of the vectors", () => {
  for (const one of vectors("nodes").cases) {
    const place = { round: BigInt(one.round), seq: one.seq, txId: hexed(one.tx_id) };
    let leaf: Uint8Array;
    if (one.code === undefined) {
      const parents = one.parents.map(hexed);
      const named = nodeParts(one.rule, hexed(one.genesis), place, parents, hexed(one.pop ?? ""));
      const id = sha256(concat(...named.map(([, part]) => part)));
      assert.equal(toHex(id), one.node_id, one.name);
      leaf = approvedLeaf(id);
    } else leaf = rejectedLeaf(place, one.code, one.reason);
    assert.equal(toHex(leaf), one.leaf, one.name);
    assert.equal(toHex(sha256(concat(Uint8Array.of(0), leaf))), one.leaf_hash, one.name);
  }
});

test("a path leads to the root where the vectors say so, and nowhere else", () => {
  for (const one of vectors("log").cases) {
    const way = climb(hexed(one.leaf), BigInt(one.index), BigInt(one.size), one.path.map(hexed));
    const holds = way.root !== undefined && equal(way.root, hexed(one.root));
    assert.equal(holds, one.check === null, one.name);
  }
});

test("checkpoints are read as the vectors say", () => {
  const { cases } = vectors("checkpoints");
  const bytes = bytesOf(cases);
  for (const { name, check, fields, mixin, hash } of cases) {
    const data = bytes.get(name) as Uint8Array;
    if (check !== null) {
      assert.throws(() => readCheckpoint(data), Unreadable, name);
      continue;
    }
    const read = readCheckpoint(data);
    assert.equal(toHex(read.mixin), mixin, name);
    assert.equal(toHex(checkpointHash(data)), hash, name);
    assert.equal(toHex(read.root), fields.root, name);
    assert.equal(read.rule, fields.rule, name);
    assert.equal(read.nextCommittee?.length, fields.next_committee?.length, name);
    assert.deepEqual(
      read.committee.map((seat) => toHex(seat.keyId)),
      fields.committee.map(([key]: [string]) => key),
      name,
    );
  }
});

test("submitted transactions are refused by the code of the vectors", () => {
  const { cases, genesis, now_ms, public_key } = vectors("transactions");
  const bytes = bytesOf(cases);
  function admit(data: Uint8Array, known: boolean): string | null {
    try {
      const envelope = readEnvelope(data);
      const body = readBody(envelope.body);
      if (toHex(body.genesis) !== genesis) return "WRONG_GENESIS";
      if (body.validUntilMs !== undefined && body.validUntilMs < BigInt(now_ms)) return "EXPIRED";
      const signer = envelope.publicKey ? keyId(envelope.publicKey) : envelope.keyId;
      if (!equal(signer as Uint8Array, body.author)) return "KEY_MISMATCH";
      if (envelope.publicKey === undefined && !known) return "UNKNOWN_KEY";
      const key = envelope.publicKey ?? hexed(public_key);
      const holds = signed(key, envelope.body, "citychain/tx/v1", envelope.signature);
      return holds ? null : "BAD_SIGNATURE";
    } catch (error) {
      if (error instanceof Refused) return error.code;
      throw error;
    }
  }
  for (const { name, check, known } of cases)
    assert.equal(admit(bytes.get(name) as Uint8Array, known), check, name);
});

test("votes, objections and presence are signed with contexts of their own", () => {
  for (const one of vectors("signed").messages) {
    const [key, message, signature] = [one.public_key, one.message, one.signature].map(hexed);
    const holds = (context: string) =>
      signed(
        key as Uint8Array,
        message as Uint8Array,
        context as "citychain/vote/v1",
        signature as Uint8Array,
      );
    assert.ok(holds(one.context), one.name);
    assert.ok(!holds("citychain/tx/v1"), one.name);
  }
});

test("acknowledgements fail by the check of the vectors", () => {
  const file = vectors("acknowledgements");
  const genesis = readGenesis(encodeUtf8(file.genesis));
  const good = new Map(
    file.cases.map((one: { name: string; file: string }) => [one.name, one.file]),
  );
  for (const one of file.cases) {
    const text = one.of
      ? JSON.stringify({ ...JSON.parse(good.get(one.of) as string), ...one.set })
      : one.file;
    let check: string | null;
    try {
      const promise = readPromise(encodeUtf8(text));
      check = verdict((onStep) => verifyPromise(genesis, promise, onStep));
    } catch (error) {
      assert.ok(error instanceof Unreadable, String(error));
      check = "form";
    }
    assert.equal(check, one.check, one.name);
  }
});

test("JSON that says two things is none", () => {
  for (const text of ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', "[1,]", "[01]", '"a', "", "[] []"])
    assert.throws(() => parseJson(text), Unreadable, text);
  assert.throws(() => parseJson("[".repeat(1_000_000)), /nested too deep/);
  assert.throws(() => parseJson(`[${"[],".repeat(1 << 20)}[]]`), /more objects and lists/);
  assert.equal(parseJson("9223372036854775807"), 9223372036854775807n);
  assert.deepEqual(
    parseJson(' {"a" : [1.5, "\\n", true, null]}'),
    new Map([["a", [1.5, "\n", true, null]]]),
  );
});

test("a genesis that breaks a rule is none, and the member is named", () => {
  const good: string = vectors("ids").genesis.file;
  const spoil = (change: (file: Record<string, unknown>) => void) => {
    const file = JSON.parse(good);
    change(file);
    return encodeUtf8(JSON.stringify(file));
  };
  const broken: [RegExp, Uint8Array][] = [
    [/num_hashes/, encodeUtf8(good.replace('"num_hashes": 3', '"num_hashes": 3.0'))],
    [/num_hashes/, encodeUtf8(good.replace('"num_hashes": 3', '"num_hashes": "3"'))],
    [/twice/, encodeUtf8(good.replace('"num_hashes": 3', '"num_hashes": 3, "num_hashes": 3'))],
    [/quorum/, spoil((file) => Object.assign(file, { quorum: "one" }))],
    [/extra/, spoil((file) => Object.assign(file, { extra: 1 }))],
    [/city/, spoil((file) => Object.assign(file, { city: "Harbour" }))],
    [/operator/, spoil((file) => Object.assign(file, { operator: "00" }))],
    [/committee/, spoil((file) => Object.assign(file, { committee: [] }))],
    [
      /twice/,
      spoil((file) => (file.committee as unknown[]).push((file.committee as unknown[])[0])),
    ],
    [/rule/, spoil((file) => delete file.rule)],
    [/balances/, spoil((file) => Object.assign(file, { balances: { coin: { zz: 1 } } }))],
    [/UTF-8/, Uint8Array.of(0x7b, 0xff)],
    [/JSON/, encodeUtf8(`\ufeff${good}`)],
  ];
  for (const [message, file] of broken) assert.throws(() => readGenesis(file), message);
});

test("a step that fails says what was expected and what came", () => {
  const { genesis: text, cases } = vectors("acknowledgements");
  const promise = readPromise(encodeUtf8(cases[0].file));
  const other = { ...promise, genesis: new Uint8Array(32) };
  assert.throws(
    () => verifyPromise(readGenesis(encodeUtf8(text)), other, () => {}),
    (error) => error instanceof Failed && error.step.got === "0".repeat(64),
  );
});
