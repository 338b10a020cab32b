/** What can be wrong with what was given: told in English, and by what the page's words are found. */

/** `{0}` and so on stand for values. */
export type Fault =
  | "text that is not UTF-8"
  | "{0}: not {1} bytes in lower-case hexadecimal"
  | "{0}: not {1} bytes"
  | "more than {0} bytes"
  | "{0}: more than {1} bytes"
  | "not base64"
  | "base64 that is not in its one form"
  | "ends within a number"
  | "a number longer than it need be"
  | "a number of more than {0} bits"
  | "{0}: a number of more than {1} bits"
  | "{0}: no number of an enum"
  | "field {0} is unknown"
  | "{0}: given twice, or beside its alternative"
  | "{0}: beside its alternative"
  | "{0}: out of order"
  | "{0}: another wire type"
  | "{0}: cut"
  | "{0}: written though it has its default"
  | "{0}: is no object"
  | "{0}: is missing"
  | "{0}: is unknown"
  | "{0}: has unknown members"
  | "{0}: member {1} is unknown"
  | "{0}: is not {1}"
  | "{0}: is neither {1} nor {2}"
  | "{0}: not as {1}"
  | "{0}: no integer from {1} to {2}"
  | "{0}: no list, or an empty one"
  | "{0}: no list of {1} to {2}"
  | "{0}: more than {1}"
  | "{0}: more than {1} in all"
  | "{0}: one stands twice"
  | "{0}: is no {1} in its one form"
  | "{0}: is no asset"
  | "{0}: is 0"
  | "{0}: is empty"
  | "{0}: is too long"
  | "{0}: {1}"
  | "the layout ends too early"
  | "bytes follow the layout"
  | "another version of the layout"
  | "a flag that is neither 0 nor 1"
  | "no JSON from line {0}, column {1} on"
  | "no JSON that is read here: nested too deep"
  | "more objects and lists than are read here"
  | "a number of too many digits"
  | "member {0} is given twice"
  | "the action is no recovery"
  | "the anchor was rejected"
  | "the transaction above is no anchor"
  | "the anchored checkpoint is of another city than the anchor says"
  | "the path has not the length that leads to the root"
  | "publicKey: without a transaction"
  | "either a node or a rejection"
  | "node: of another transaction or place"
  | "levels: one with a checkpoint, a certificate or handovers of its own"
  | "handover: neither a checkpoint nor a recovery"
  | "handover: two kinds in one"
  | "not in its stored form: key_id must be the author's"
  | "a public key; give the key file"
  | "no key file"
  | "no key file: too long"
  | "no key file: an unknown member"
  | "another transaction than was asked for"
  | "damaged: the seed does not give this key_id";

/** A fault, with its values; plain data, as workers post it. */
export interface Problem {
  readonly fault: Fault;
  readonly values: readonly Value[];
}

/** A value may be what was wrong within. */
export type Value = string | number | bigint | Problem;

/** A text with a problem's values in their places; those within are told by `tell`. */
export function filled(
  text: string,
  { values }: Problem,
  tell: (within: Problem) => string,
): string {
  return text.replace(/\{(\d)\}/g, (_, place) => {
    const value = values[Number(place)] ?? "";
    return typeof value === "object" ? tell(value) : String(value);
  });
}

export function inEnglish(problem: Problem): string {
  return filled(problem.fault, problem, inEnglish);
}
