import assert from "node:assert/strict";
import test from "node:test";
import { chosenLanguage } from "../src/language";
import { encodeUtf8, Unreadable } from "../src/proof/bytes";
import { readGenesis } from "../src/proof/genesis";
import { readEnvelope } from "../src/proof/transactions";
import { problemWords } from "../src/words/problems";

test("what a malformed file fails with is told in both languages", () => {
  const cases: [() => unknown, string, string][] = [
    [
      () => readGenesis(encodeUtf8('{"a": 1, "a": 2}')),
      'member "a" is given twice',
      'メンバー "a" が 2 度与えられています',
    ],
    [() => readGenesis(encodeUtf8("{}")), "network: is missing", "network: ありません"],
    // What was wrong within is told in the same language.
    [
      () => readEnvelope(Uint8Array.of(0x78, 1)),
      "field 15 is unknown: MALFORMED",
      "フィールド 15 は未知のものです: MALFORMED",
    ],
  ];
  for (const [read, english, japanese] of cases)
    assert.throws(read, (error: unknown) => {
      assert.ok(error instanceof Unreadable);
      assert.equal(error.message, english);
      chosenLanguage.value = "en";
      assert.equal(problemWords(error.problem), english);
      chosenLanguage.value = "ja";
      assert.equal(problemWords(error.problem), japanese);
      return true;
    });
});
