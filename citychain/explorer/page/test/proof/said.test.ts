import assert from "node:assert/strict";
import test from "node:test";
import { toHex } from "../../src/proof/bytes";
import { transactionId } from "../../src/proof/hashes";
import { saidBy } from "../../src/proof/said";
import { readEnvelope } from "../../src/proof/transactions";
import { bytesOf, vectors } from "./vectors";

const { cases } = vectors("transactions");
const bytes = bytesOf(cases);
const of = (name: string) => bytes.get(name) as Uint8Array;
const base64 = (data: Uint8Array) => Buffer.from(data).toString("base64");
const idOf = (name: string) => toHex(transactionId(readEnvelope(of(name)).body));
const said = (name: string) => saidBy(idOf(name), base64(of(name)));

test("what a transaction says is read from its signed bytes", () => {
  assert.deepEqual(said("data")?.fields, [
    ["content_type", "text/plain"],
    ["content", "hello"],
  ]);
  assert.equal(said("transfer")?.kind, "transfer");
  assert.match(new Map(said("transfer")?.fields).get("to") ?? "", /^[0-9a-f]{64}$/);
  assert.match(
    new Map(said("witness")?.fields).get("public_key") ?? "",
    /^[0-9a-f]{128}… \(2592 B\)$/,
  );
  assert.match(
    new Map(said("recovery")?.fields).get("seats") ?? "",
    /^key_id [0-9a-f]{64} stake \d+/,
  );
});

test("every kind of transaction of the vectors is told", () => {
  for (const { name, check } of cases)
    if (check === null) assert.equal(said(name)?.author.length, 64, name);
});

test("bytes of another id, or of no transaction, say nothing", () => {
  assert.equal(saidBy(idOf("transfer"), base64(of("data"))), null);
  assert.equal(saidBy(idOf("data"), base64(of("data: cut"))), null);
  assert.equal(saidBy(idOf("data"), "no base64!"), null);
});
