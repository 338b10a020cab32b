/**
 * JSON that says one thing (RFC 8259): no member is given twice, and integers keep all their
 * digits. `JSON.parse` takes the last of two members, and rounds numbers beyond 2^53.
 */
import { Unreadable } from "./bytes";

/** Integers are bigint; numbers with a fraction or an exponent are number. */
export type Json = null | boolean | bigint | number | string | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;

const DEPTH_MAX = 64;
const DIGITS_MAX = 100;
/** Objects and lists: empty ones take far more memory than text. */
const CONTAINERS_MAX = 1 << 20;
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const LITERALS = [
  ["true", true],
  ["false", false],
  ["null", null],
] as const;

export function parseJson(text: string): Json {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

class Reader {
  private at = 0;
  private containers = 0;

  constructor(private readonly text: string) {}

  value(depth: number): Json {
    if (depth > DEPTH_MAX) throw new Unreadable("no JSON that is read here: nested too deep");
    this.space();
    const first = this.text[this.at];
    if (first === '"') return this.string();
    if ((first === "{" || first === "[") && ++this.containers > CONTAINERS_MAX)
      throw new Unreadable("more objects and lists than are read here");
    if (first === "{") return this.object(depth);
    if (first === "[") return this.list(depth);
    for (const [word, value] of LITERALS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  end(): void {
    this.space();
    if (this.at !== this.text.length) throw this.fault();
  }

  private object(depth: number): JsonObject {
    const members: JsonObject = new Map();
    this.at++;
    if (this.next("}")) return members;
    do {
      this.space();
      if (this.text[this.at] !== '"') throw this.fault();
      const name = this.string();
      if (members.has(name))
        throw new Unreadable("member {0} is given twice", JSON.stringify(name));
      if (!this.next(":")) throw this.fault();
      members.set(name, this.value(depth + 1));
    } while (this.next(","));
    if (!this.next("}")) throw this.fault();
    return members;
  }

  private list(depth: number): Json[] {
    const items: Json[] = [];
    this.at++;
    if (this.next("]")) return items;
    do items.push(this.value(depth + 1));
    while (this.next(","));
    if (!this.next("]")) throw this.fault();
    return items;
  }

  private string(): string {
    const start = this.at;
    let end = start + 1;
    for (; this.text[end] !== '"'; end++) {
      if (end >= this.text.length) throw this.fault();
      if (this.text[end] === "\\") end++;
    }
    this.at = end + 1;
    try {
      // Escapes, and characters that must be, are the engine's.
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      this.at = start;
      throw this.fault();
    }
  }

  private number(): bigint | number {
    NUMBER.lastIndex = this.at;
    const found = NUMBER.exec(this.text);
    if (found === null) throw this.fault();
    const [digits, fraction, exponent] = found;
    if (digits.length > DIGITS_MAX) throw new Unreadable("a number of too many digits");
    this.at = NUMBER.lastIndex;
    return fraction === undefined && exponent === undefined ? BigInt(digits) : Number(digits);
  }

  private next(character: string): boolean {
    this.space();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private space(): void {
    SPACE.lastIndex = this.at;
    SPACE.exec(this.text);
    this.at = SPACE.lastIndex;
  }

  private fault(): Unreadable {
    const before = this.text.slice(0, this.at);
    const line = before.split("\n").length;
    return new Unreadable(
      "no JSON from line {0}, column {1} on",
      line,
      this.at - before.lastIndexOf("\n"),
    );
  }
}
