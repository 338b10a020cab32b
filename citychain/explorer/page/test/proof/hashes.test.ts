import assert from "node:assert/strict";
import test from "node:test";
import { encodeUtf8 } from "../../src/proof/bytes";
import { hashAgain, noting, sha256 } from "../../src/proof/hashes";
import { judge } from "../../src/proof/outcome";
import { vectors } from "./vectors";

test("what a check hashed is hashed again, and one that comes out otherwise is found", async () => {
  const { genesis, cases } = vectors("acknowledgements");
  const { value, hashed } = noting(() =>
    judge(encodeUtf8(genesis), encodeUtf8(cases[0].file), () => {}),
  );
  assert.equal(value.kind, "promised");
  // The genesis, each key of its committee, and the leaf.
  assert.equal(hashed.length, 2 + JSON.parse(genesis).committee.length);
  assert.equal(await hashAgain(hashed), hashed.length);
  const [[message, hash] = [new Uint8Array(0), new Uint8Array(32)]] = hashed;
  const other = [[message, hash.map((byte) => byte ^ 1)]] as const;
  await assert.rejects(hashAgain(other), /another SHA-256/);
});

test("nothing is noted that is hashed outside of a check", () => {
  const { hashed } = noting(() => sha256(new Uint8Array(1)));
  sha256(new Uint8Array(2));
  assert.equal(hashed.length, 1);
});
