import assert from "node:assert/strict";
import test from "node:test";
import { find, link, type Route } from "../src/router";

const load = () => Promise.reject(new Error("not asked for"));
const routes: Route[] = [
  { pattern: "", load },
  { pattern: "city/:city", load },
  { pattern: "city/:city/tx/:tx", load },
  { pattern: "search/:query", load },
];

test("an address is found with what its parts say", () => {
  const place = find(routes, "#/city/kyoto/tx/9f");
  assert.equal(place?.route.pattern, "city/:city/tx/:tx");
  assert.deepEqual(place?.params, { city: "kyoto", tx: "9f" });
});

test("a link of any text leads back to that text", () => {
  for (const text of ["金沢市", "a/b c", "50%", "#?&"])
    assert.deepEqual(find(routes, link("search", text))?.params, { query: text });
});

test("no hash and a lone slash are the first view", () => {
  for (const hash of ["", "#", "#/"]) assert.equal(find(routes, hash)?.route.pattern, "");
});

test("what has no form of the table, or cannot be decoded, is nowhere", () => {
  for (const hash of ["#/nowhere", "#/city", "#/city/a/b", "#/search/%E0%A4%A"])
    assert.equal(find(routes, hash), null);
});
