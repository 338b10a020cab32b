/** Who was in office: certificates, terms and handovers (docs/protocol.md, section 9). */
import { be, equal, toHex, Unreadable } from "./bytes";
import type { Genesis, Seat } from "./genesis";
import { checkpointHash, keyId } from "./hashes";
import { type Checkpoint, readCheckpoint } from "./layouts";
import type { Certificate, Handover } from "./schema";
import { signed } from "./signatures";
import { parts, type Trail } from "./steps";
import { readStored } from "./transactions";

/** Of a larger committee steps show so many seats. */
const SEATS_SHOWN = 64;

/** A committee from one round on. */
export interface Term {
  readonly firstRound: bigint;
  /** Hash of the checkpoint before the first round; the genesis id for the first term. */
  readonly previous: Uint8Array;
  readonly seats: readonly Seat[];
  /** Public keys by key id in hex. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
  /** Whether the operator, not an election, began it. */
  readonly recovery: boolean;
}

/** The terms that a receipt's handovers lead through, the genesis' committee first. */
export function readTerms(genesis: Genesis, handovers: readonly Handover[], trail: Trail): Term[] {
  const terms: Term[] = [term(1n, genesis.id, genesis.seats, genesis.publicKeys, false)];
  const recoveries = new Set<string>();
  handovers.forEach((handover, index) => {
    trail.within({ check: "handover", handover: index }, () => {
      const next = handover.recovery
        ? recovered(genesis, terms, handover, recoveries, trail)
        : elected(genesis, terms, handover, trail);
      terms.push(next);
    });
  });
  return terms;
}

function elected(genesis: Genesis, terms: readonly Term[], handover: Handover, trail: Trail): Term {
  const last = terms.at(-1) as Term;
  const certificate = handover.certificate as Certificate;
  const checkpoint = certified(
    genesis,
    terms,
    handover.checkpoint,
    certificate,
    certificate.round,
    trail,
  );
  const { round, nextCommittee: seats } = checkpoint;
  trail.step("handover", "order", round >= last.firstRound, {
    expected: `≥ ${last.firstRound}`,
    got: round,
  });
  trail.step("handover", "elects", seats !== undefined);
  checkSeats(seats as Seat[], handover.publicKeys, trail);
  return term(
    round + 1n,
    checkpointHash(handover.checkpoint),
    seats as Seat[],
    handover.publicKeys,
    false,
  );
}

function recovered(
  genesis: Genesis,
  terms: readonly Term[],
  handover: Handover,
  before: Set<string>,
  trail: Trail,
): Term {
  const last = terms.at(-1) as Term;
  const envelope = handover.recovery as NonNullable<Handover["recovery"]>;
  const { body, recovery, id } = trail.read("handover", "recovery form", () => {
    const stored = readStored(envelope);
    if (stored.body.recovery === undefined) throw new Unreadable("the action is no recovery");
    return { ...stored, recovery: stored.body.recovery };
  });
  trail.step("handover", "recovery genesis", equal(body.genesis, genesis.id), {
    expected: genesis.id,
    got: body.genesis,
  });
  const operator = keyId(genesis.operator);
  trail.step("handover", "recovery author", equal(body.author, operator), {
    expected: operator,
    got: body.author,
  });
  const context = "citychain/tx/v1";
  trail.step(
    "handover",
    "recovery signature",
    signed(genesis.operator, envelope.body, context, envelope.signature),
    { context, signed: parts(["body", envelope.body]) },
  );
  const from = recovery.fromRound;
  trail.step("handover", "order", from >= last.firstRound, {
    expected: `≥ ${last.firstRound}`,
    got: from,
  });
  if (from === last.firstRound)
    trail.step("handover", "previous checkpoint", equal(recovery.previous, last.previous), {
      expected: last.previous,
      got: recovery.previous,
    });
  trail.step("handover", "recovery once", !before.has(toHex(id)), { got: id });
  before.add(toHex(id));
  checkSeats(recovery.seats, handover.publicKeys, trail);
  return term(from, recovery.previous, recovery.seats, handover.publicKeys, true);
}

function checkSeats(seats: readonly Seat[], publicKeys: readonly Uint8Array[], trail: Trail): void {
  const ids = publicKeys.map(keyId);
  const ok =
    ids.length === seats.length &&
    seats.every((seat, index) => equal(seat.keyId, ids[index] as Uint8Array)) &&
    new Set(ids.map(toHex)).size === ids.length &&
    seats.every((seat) => seat.stake >= 1n);
  trail.step("handover", "new seats", ok, {
    votes: seats.slice(0, SEATS_SHOWN).map((seat) => ({
      keyId: toHex(seat.keyId),
      stake: String(seat.stake),
      voted: false,
    })),
  });
}

/** Checks that a checkpoint is one of the last of `terms`, and certified in it. */
export function certified(
  genesis: Genesis,
  terms: readonly Term[],
  encoded: Uint8Array,
  certificate: Certificate,
  round: bigint,
  trail: Trail,
): Checkpoint {
  const last = terms.at(-1) as Term;
  const hash = checkpointHash(encoded);
  trail.step("checkpoint", "certified round", certificate.round === round, {
    expected: round,
    got: certificate.round,
  });
  trail.step("checkpoint", "certified hash", equal(certificate.checkpointHash, hash), {
    hashed: parts(["checkpoint", encoded]),
    expected: certificate.checkpointHash,
    got: hash,
  });
  const checkpoint = trail.read("checkpoint", "checkpoint layout", () => readCheckpoint(encoded));
  trail.step("genesis", "checkpoint genesis", equal(checkpoint.genesis, genesis.id), {
    expected: genesis.id,
    got: checkpoint.genesis,
  });
  trail.step("checkpoint", "checkpoint rule", checkpoint.rule === genesis.rule, {
    expected: genesis.rule,
    got: checkpoint.rule,
  });
  trail.step("checkpoint", "certified round", checkpoint.round === round && round >= 1n, {
    expected: round,
    got: checkpoint.round,
  });
  if (round === last.firstRound)
    trail.step("checkpoint", "previous checkpoint", equal(checkpoint.previous, last.previous), {
      expected: last.previous,
      got: checkpoint.previous,
    });
  // Rounds that were sealed before a recovery name the committee that it replaced.
  const named = seatsKey(checkpoint.committee);
  const nameable = [last];
  for (let at = terms.length - 1; terms[at]?.recovery; at--) nameable.push(terms[at - 1] as Term);
  trail.step(
    "handover",
    "committee",
    nameable.some((one) => seatsKey(one.seats) === named),
  );
  checkQuorum(genesis, last, certificate, trail);
  return checkpoint;
}

function checkQuorum(genesis: Genesis, last: Term, certificate: Certificate, trail: Trail): void {
  const voters = certificate.votes.map((vote) => toHex(vote.keyId));
  const voted = new Set(voters);
  trail.step(
    "quorum",
    "voters",
    voted.size === voters.length && voters.every((voter) => last.keys.has(voter)),
  );
  const votes = last.seats.slice(0, SEATS_SHOWN).map((seat) => {
    const key = toHex(seat.keyId);
    return { keyId: key, stake: String(seat.stake), voted: voted.has(key) };
  });
  const sum = (seats: readonly Seat[]) => seats.reduce((total, seat) => total + seat.stake, 0n);
  const all = sum(last.seats);
  const stake = sum(last.seats.filter((seat) => voted.has(toHex(seat.keyId))));
  const majority = genesis.quorum === "majority";
  const least = majority ? all / 2n + 1n : (2n * all + 2n) / 3n;
  trail.step("quorum", "stake", majority ? 2n * stake > all : 3n * stake >= 2n * all, {
    expected: `≥ ${least} / ${all}`,
    got: `${stake} / ${all}`,
    votes,
  });
  const context = "citychain/vote/v1";
  const message = [genesis.id, be(certificate.round, 8), certificate.checkpointHash] as const;
  const bytes = new Uint8Array(72);
  bytes.set(message[0], 0);
  bytes.set(message[1], 32);
  bytes.set(message[2], 40);
  const wrong = certificate.votes.find(
    ({ keyId: voter, signature }) =>
      !signed(last.keys.get(toHex(voter)) as Uint8Array, bytes, context, signature),
  );
  trail.step("quorum", "votes", wrong === undefined, {
    context,
    signed: parts(["genesis", message[0]], ["round", message[1]], ["checkpoint", message[2]]),
    ...(wrong ? { got: wrong.keyId } : {}),
  });
}

function term(
  firstRound: bigint,
  previous: Uint8Array,
  seats: readonly Seat[],
  publicKeys: readonly Uint8Array[],
  recovery: boolean,
): Term {
  const keys = new Map(publicKeys.map((key) => [toHex(keyId(key)), key]));
  return { firstRound, previous, seats, keys, recovery };
}

/** The same for the same seats in any order. */
function seatsKey(seats: readonly Seat[]): string {
  return seats
    .map((seat) => `${toHex(seat.keyId)} ${seat.stake}`)
    .sort()
    .join();
}
