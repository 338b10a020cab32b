import assert from "node:assert/strict";
import test from "node:test";
import { encodeUtf8, toBase64, Unreadable } from "../../src/proof/bytes";
import { readReceiptFile } from "../../src/proof/files";
import { type Genesis, readGenesis } from "../../src/proof/genesis";
import { verify } from "../../src/proof/receipts";
import { isDefault, type LevelReceipt, Receipt, type Schema } from "../../src/proof/schema";
import type { Step } from "../../src/proof/steps";
import { altered } from "../../src/proof/tamper";
import { readWire, writeWire } from "../../src/proof/wire";
import { bytesOf, type Case, vectors, verdict } from "./vectors";

const FILE = vectors("receipts");
const BYTES = bytesOf(FILE.cases);
const GENESIS = new Map<string, Genesis>(
  Object.entries<string>(FILE.genesis).map(([city, text]) => [city, readGenesis(encodeUtf8(text))]),
);
const GOOD: Case[] = FILE.cases.filter((one: Case) => one.check === null);

const genesisOf = (one: Case) => GENESIS.get(one.city) as Genesis;
const bytesOfCase = (one: Case) => BYTES.get(one.name) as Uint8Array;
const alone = (top: Receipt): LevelReceipt => ({ levels: [], top });

/** The check that fails first for a receipt in its wire form. */
function check(genesis: Genesis, data: Uint8Array): string | null {
  let receipt: Receipt;
  try {
    receipt = readWire(Receipt, data, true);
  } catch (error) {
    if (error instanceof Unreadable) return "form";
    throw error;
  }
  return verdict((onStep) => verify(genesis, alone(receipt), onStep));
}

/** A message as protobuf's JSON writer would write it. */
function toJson(schema: Schema, message: Record<string, unknown>): unknown {
  const json: Record<string, unknown> = {};
  for (const [name, { kind, mark }] of Object.entries(schema)) {
    const one = (value: unknown): unknown => {
      if (typeof kind === "object") return toJson(kind, value as Record<string, unknown>);
      if (kind === "Scheme") return value === 1 ? "SCHEME_ML_DSA_87" : value;
      if (value instanceof Uint8Array) return toBase64(value);
      return typeof value === "bigint" ? String(value) : value;
    };
    const value = message[name];
    if (mark === "repeated") {
      if ((value as unknown[]).length > 0) json[name] = (value as unknown[]).map(one);
    } else if (value !== undefined && (mark === "maybe" || !isDefault(value))) {
      json[name] = one(value);
    }
  }
  return json;
}

const fileOf = (receipt: Receipt, space?: number) =>
  encodeUtf8(JSON.stringify(toJson(Receipt, receipt), null, space));

test("each receipt of the vectors holds, or fails by the check that is named", () => {
  for (const one of FILE.cases)
    assert.equal(check(genesisOf(one), bytesOfCase(one)), one.check, one.name);
});

test("a receipt written anew has the same bytes, and its file says the same", () => {
  for (const one of GOOD) {
    const receipt = readWire(Receipt, bytesOfCase(one), true);
    assert.deepEqual(writeWire(Receipt, receipt), bytesOfCase(one));
    assert.deepEqual(readReceiptFile(fileOf(receipt, 1)), alone(receipt));
  }
});

test("a receipt of another city fails by its genesis", () => {
  const [one] = GOOD;
  assert.equal(check(GENESIS.get("market") as Genesis, bytesOfCase(one)), "genesis");
});

test("no byte of a receipt can be missing, and none can follow", () => {
  for (const one of GOOD.slice(0, 2)) {
    const data = bytesOfCase(one);
    for (let length = 0; length < data.length; length += 97)
      assert.notEqual(check(genesisOf(one), data.subarray(0, length)), null);
    assert.notEqual(check(genesisOf(one), Uint8Array.from([...data, 0])), null);
  }
});

/** The values of a message, wherever they stand in it, with a way to set each. */
function* values(
  schema: Schema,
  message: Record<string, unknown>,
  path = "",
): Generator<{
  path: string;
  value: unknown;
  set: (value: unknown) => void;
}> {
  for (const [name, { kind, mark }] of Object.entries(schema)) {
    const holder = mark === "repeated" ? (message[name] as Record<string, unknown>) : message;
    const keys = mark === "repeated" ? Object.keys(holder) : [name];
    for (const key of keys) {
      const value = holder[key];
      if (value === undefined) continue;
      const place = `${path}.${mark === "repeated" ? `${name}[${key}]` : name}`;
      if (typeof kind === "object") yield* values(kind, value as Record<string, unknown>, place);
      else
        yield {
          path: place,
          value,
          set: (other) => {
            holder[key] = other;
          },
        };
    }
  }
}

/** The value with bits flipped all over it; of long ones a bit in each of some 8 places. */
function* flips(value: unknown): Generator<unknown> {
  if (value instanceof Uint8Array) {
    const bits = value.length * 8;
    const step = bits > 256 ? Math.ceil(bits / 8) | 1 : 31;
    for (let bit = 0; bit < bits; bit += step) {
      const other = value.slice();
      other[bit >> 3] = (other[bit >> 3] as number) ^ (1 << (bit & 7));
      yield other;
    }
  } else if (typeof value === "bigint") {
    for (let bit = 0n; bit < 64n; bit += 7n) yield value ^ (1n << bit);
  } else if (typeof value === "number") {
    for (let bit = 0; bit < 31; bit += 3) yield value ^ (2 ** bit);
  } else {
    for (let at = 0; at < (value as string).length; at++)
      yield `${(value as string).slice(0, at)}\u00a1${(value as string).slice(at + 1)}`;
  }
}

for (const name of ["approved", "rejected", "judged", "recovered", "removed"])
  test(`no flipped bit of a field verifies: ${name}`, () => {
    const one = GOOD.find((each) => each.name === name);
    const genesis = genesisOf(one);
    const receipt = readWire(Receipt, bytesOfCase(one), true);
    let count = 0;
    for (const { path, value, set } of values(Receipt, receipt)) {
      for (const other of flips(value)) {
        set(other);
        assert.notEqual(check(genesis, writeWire(Receipt, receipt)), null, `${path} ${other}`);
        count++;
      }
      set(value);
    }
    assert.equal(check(genesis, writeWire(Receipt, receipt)), null);
    assert.ok(count > 60, String(count));
  });

test("a file that is not in the one JSON form is not read", () => {
  const receipt = readWire(Receipt, bytesOfCase(GOOD[0]), true);
  const text = new TextDecoder().decode(fileOf(receipt));
  const spoilt: [string, string][] = [
    ["a number for text", text.replace('"round":"1"', '"round":1')],
    ["leading zeros", text.replace('"round":"1"', '"round":"01"')],
    ["an unknown member", text.replace("{", '{"more":1,')],
    ["a member twice", text.replace("{", `{"genesis":"${toBase64(receipt.genesis)}",`)],
    ["a default", text.replace("{", '{"seq":0,')],
    ["null", text.replace("{", '{"rejection":null,')],
    ["an empty list", text.replace("{", '{"handovers":[],')],
    ["the scheme by number", text.replace('"SCHEME_ML_DSA_87"', "1")],
    ["base64 without padding", text.replace('=",', '",')],
    ["base64 for addresses", text.replace(/\//, "_")],
    ["an inherited name", text.replace("{", '{"__proto__":1,')],
  ];
  for (const [name, other] of spoilt) {
    assert.notEqual(other, text, name);
    assert.throws(() => readReceiptFile(encodeUtf8(other)), Unreadable, name);
  }
  assert.throws(() => readReceiptFile(new Uint8Array((32 << 20) + 1)), /more than/);
});

test("steps say what was hashed and signed, in the order of the protocol", () => {
  const steps: Step[] = [];
  const one = GOOD.find((each) => each.name === "recovered");
  const receipt = readWire(Receipt, bytesOfCase(one), true);
  const proven = verify(genesisOf(one), alone(receipt), (step) => steps.push(step));
  assert.deepEqual(proven.recoveredFrom, [6n]);
  assert.ok(steps.every((step) => step.ok));
  const checks = steps.filter((step) => step.handover === undefined).map((step) => step.check);
  assert.deepEqual(
    checks.filter((each, index) => each !== checks[index - 1]),
    [
      ...["form", "genesis", "tx_id", "genesis", "key", "signature", "handover", "checkpoint"],
      ...["genesis", "checkpoint", "handover", "quorum", "poh", "node", "inclusion"],
    ],
  );
  assert.deepEqual([...new Set(steps.map((step) => step.handover))], [undefined, 0, 1, 2]);
  const node = steps.find((step) => step.subject === "node id");
  assert.equal(node?.expected, node?.got);
  assert.deepEqual(structuredClone(steps), steps);
});

test("an altered file is another, also where no hash stands beside the way", () => {
  const [good] = GOOD.map((one) => readWire(Receipt, bytesOfCase(one), true));
  const { checkpoint, certificate, handovers, ...rest } = toJson(Receipt, good as Receipt) as {
    [name: string]: unknown;
  };
  const own = { checkpoint, certificate, handovers, ...rest, inclusion: undefined };
  const level = { ...rest, inclusion: undefined };
  for (const receipt of [toJson(Receipt, good as Receipt), own, { levels: [level], top: own }]) {
    const file = JSON.stringify(receipt, null, 1);
    assert.notEqual(altered(file), file);
  }
});
