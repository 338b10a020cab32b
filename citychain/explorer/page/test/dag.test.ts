import assert from "node:assert/strict";
import test from "node:test";
import type { Round } from "../src/api";
import { COLUMN, grid, nearest, spot } from "../src/dag/layout";
import { NODES_MAX, parentsOf, ROUNDS_MAX, RoundWindow } from "../src/dag/window";

function told(round: number, nodes: [number, number][][] = [[[1, 0]]]) {
  return { round: { round, size: nodes.length } as Round, nodes, codes: {}, of: nodes.length };
}

test("every node of a round has a place of its own inside its column", () => {
  for (const count of [1, 2, 17, 18, 40, 499, NODES_MAX]) {
    const shape = grid(count, 280);
    const places = new Set<string>();
    for (let seq = 0; seq < count; seq++) {
      const { x, y } = spot(shape, seq);
      assert.ok(Math.abs(x) + shape.radius < COLUMN / 2, `${count}: ${x}`);
      assert.ok(Math.abs(y) + shape.radius < 150, `${count}: ${y}`);
      places.add(`${x} ${y}`);
    }
    assert.equal(places.size, count);
  }
});

test("a node is found where it is drawn, and none beside it", () => {
  for (const count of [1, 5, 60, NODES_MAX]) {
    const shape = grid(count, 280);
    for (let seq = 0; seq < count; seq++) {
      const { x, y } = spot(shape, seq);
      assert.equal(nearest(shape, x + shape.radius / 2, y), seq);
    }
    assert.equal(nearest(shape, COLUMN, 0), null);
    assert.equal(nearest(shape, 0, 1000), null);
  }
});

test("the window holds no more than it draws, however many rounds go by", () => {
  const window = new RoundWindow();
  const nodes = Array.from({ length: 2 * NODES_MAX }, (): [number, number][] => [[1, 0]]);
  for (let round = 1; round <= 10 * ROUNDS_MAX; round++) window.add(told(round, nodes));
  assert.equal(window.rounds.length, ROUNDS_MAX);
  assert.equal(window.rounds.at(-1)?.round.round, 10 * ROUNDS_MAX);
  assert.ok(window.rounds.every((each) => each.nodes.length === NODES_MAX));
});

test("rounds are found across those that were skipped", () => {
  const window = new RoundWindow();
  for (const round of [3, 4, 9]) window.add(told(round));
  assert.deepEqual(
    [3, 4, 9, 5, 10].map((round) => window.column(round)),
    [0, 1, 2, -1, -1],
  );
});

test("a round that is no newer begins anew: the ledger is another one", () => {
  const window = new RoundWindow();
  for (const round of [7, 8, 1]) window.add(told(round));
  assert.deepEqual(
    window.rounds.map((each) => each.round.round),
    [1],
  );
});

test("votes come to the round that they are for", () => {
  const window = new RoundWindow();
  for (const round of [1, 2]) window.add(told(round));
  window.certify(1, ["aa"]);
  window.certify(5, ["bb"]);
  assert.deepEqual(
    window.rounds.map((each) => each.round.votes),
    [["aa"], undefined],
  );
});

test("parents stand so many rounds back", () => {
  assert.deepEqual(
    parentsOf(
      told(9, [
        [],
        [
          [2, 5],
          [9, 0],
        ],
      ]),
      1,
    ),
    [
      { round: 7, seq: 5 },
      { round: 0, seq: 0 },
    ],
  );
});
