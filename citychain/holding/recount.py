"""The recount: who holds what of a city's archive, and what of it was proven.

A fold over certified rounds, in order. Whoever has the rounds gets the same: nothing but what is in
them counts, no clock, no store.

* A segment counts if the operator announced it, and a proof of one of its chunks fits into a
  transaction.
* A holding receipt says of fragments of announced segments that its author has them, from the round
  that seals it until a time, at most 366 days after that round. The last one that names a fragment
  counts: one whose time is over takes it back.
* Every so many rounds (`HoldingRules`) the checkpoint asks each holder for chunks of some of the
  fragments of which it had receipts in the round before; those that failed last come first.
* An answer counts in the rounds after that one, up to ``answer_rounds``. What is not proven by then
  has failed; wrong, strange and repeated answers are nothing.
* A fragment is proven of a holder with a receipt, if it did not fail when it was asked for last.
  Of a holder that is silent, which proved nothing at all in its last challenge, none is: it may
  be gone with all that it had.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from citychain.errors import VerificationError
from citychain.fragments.layout import Layout, Shape
from citychain.fragments.proving import ChunkProof
from citychain.holding import challenge
from citychain.ports import FragmentKey
from citychain.statements import Answer, AnsweredChunk, Holding, HoldingRules, Segment, decode

__all__ = [
    "CHUNKS_WEIGHED",
    "CHUNK_BYTES_MAX",
    "Challenge",
    "HolderState",
    "HoldingReceipt",
    "Recount",
    "StatedTransaction",
]

CHUNK_BYTES_MAX: Final = 32 << 10
"""Of a segment of which fragments can be held: a proof must fit into a transaction, in base64."""
CHUNKS_WEIGHED: Final = 32
"""Chunks that a fragment must have to weigh in `Recount.proved`: what was once answered for one of
fewer is public, and answers for it again and again."""

TERM_MS_MAX: Final = 366 * 86_400_000
"""A receipt lives no longer, whatever it says: who is gone is not asked for ever."""

StatedTransaction: TypeAlias = tuple[bytes, bytes, str, bytes]
"""Of an approved `Data` transaction: id, author, content type, content."""


class HoldingReceipt(NamedTuple):
    """A fragment that a holder says to have."""

    since: int
    """The round that sealed it."""
    until_ms: int


@dataclass(slots=True)
class Challenge:
    """What one checkpoint asked of one holder."""

    round: int
    last_round: int
    """In which an answer counts."""
    asked: Mapping[FragmentKey, int]
    """Which chunk, by fragment."""
    answered: set[FragmentKey] = field(default_factory=set)
    """Of those asked for."""
    held: int = 0
    """Fragments that weigh, of those with a receipt..."""
    weighed: frozenset[FragmentKey] = frozenset()
    """...and those of them that are asked for."""


@dataclass(slots=True)
class HolderState:
    """What is known of one key."""

    receipts: dict[FragmentKey, HoldingReceipt] = field(default_factory=dict)
    """The last one of each fragment; those that were over in an earlier round may be left out."""
    ended: set[FragmentKey] = field(default_factory=set)
    """Of which there was a receipt that was left out so."""
    failed: set[FragmentKey] = field(default_factory=set)
    """Not answered for when asked last; whether there still is a receipt or not."""
    open: dict[int, Challenge] = field(default_factory=dict)
    """By round."""
    closed_in: list[int] = field(default_factory=list)
    """Rounds in which challenges were over, in order, and what had been asked and answered..."""
    asked: list[int] = field(default_factory=lambda: [0])
    """...in all before each of them, and with the last."""
    answered: list[int] = field(default_factory=lambda: [0])
    proved: list[tuple[int, int, int, int]] = field(default_factory=list)
    """The same rounds, and fragments that weigh: held, answered for, asked for."""

    def close(self, over: Challenge) -> None:
        """A challenge is over."""
        self.failed |= over.asked.keys() - over.answered
        self.failed -= over.answered
        self.closed_in.append(over.last_round)
        self.asked.append(self.asked[-1] + len(over.asked))
        self.answered.append(self.answered[-1] + len(over.answered))
        answered = len(over.answered & over.weighed)
        self.proved.append((over.last_round, over.held, answered, len(over.weighed)))

    def receive(self, keys: Collection[FragmentKey], receipt: HoldingReceipt) -> None:
        """There is another receipt of these."""
        self.receipts |= dict.fromkeys(keys, receipt)
        self.ended.difference_update(keys)

    def forget_ended(self, time_ms: int) -> None:
        """Leave out receipts that are over: no later round looks at them again."""
        live = self.live(time_ms)
        self.ended |= self.receipts.keys() - live.keys()
        self.receipts = live

    def live(self, time_ms: int) -> dict[FragmentKey, HoldingReceipt]:
        """Receipts that live at a time."""
        return {key: it for key, it in self.receipts.items() if it.until_ms > time_ms}

    @property
    def is_silent(self) -> bool:
        """Whether nothing was answered in the last challenge that was over."""
        return len(self.answered) > 1 and self.answered[-1] == self.answered[-2]

    def proven(self, time_ms: int) -> Iterator[FragmentKey]:
        """Fragments with a live receipt that count as proven."""
        if not self.is_silent:
            yield from (key for key in self.live(time_ms) if key not in self.failed)


class Recount:
    """The state that rounds have left; `take` moves on to the next.

    Args:
        operator: Key id of the city's operator, by whom announcements and rules are.
        only: The one holder that counts; without it all do.
    """

    def __init__(self, operator: bytes, only: bytes | None = None) -> None:
        self._operator = operator
        self._only = only
        self.rules = HoldingRules()
        """As they are for the next round."""
        self.round = 0
        """The last one that was taken."""
        self.time_ms = 0
        """Its time..."""
        self.checkpoint_hash = b""
        """...and its checkpoint's hash."""
        self.segments: dict[bytes, Segment] = {}
        """Those of which fragments can be held, by the root of their manifest."""
        self._chunks: dict[FragmentKey, int] = {}
        """Of each of their fragments."""
        self._weighing = 0
        """How many of these weigh."""
        self._announced: list[tuple[int, int]] = []
        """Of each round that asked, the last one for an answer, and how many weighed."""
        self.states: dict[bytes, HolderState] = {}
        """Of all who ever had a receipt that lived, by key id."""
        self._closing: defaultdict[int, list[tuple[HolderState, int]]] = defaultdict(list)
        """Challenges by the last round in which an answer counts: whose, and of which round."""

    def take(
        self,
        round: int,
        time_ms: int,
        checkpoint_hash: bytes,
        transactions: Sequence[StatedTransaction],
    ) -> None:
        """Move on to after a certified round.

        Args:
            transactions: Approved ones, in order of seq; those that state nothing of this may be
                left out.

        Raises:
            ValueError: it is not the next round.
        """
        if round != self.round + 1:
            raise ValueError(f"round {round} does not follow round {self.round}")
        if round % self.rules.challenge_rounds == 0:
            self._ask(round, time_ms, checkpoint_hash)
        for _, author, content_type, content in transactions:
            try:
                statement = decode(content_type, content)
            except VerificationError:
                continue
            match statement:
                case HoldingRules() if author == self._operator:
                    self.rules = statement
                case Segment() if author == self._operator:
                    self.announce(statement)
                case Holding() if self._only in (None, author):
                    self._receive(round, time_ms, author, statement)
                case Answer() if author in self.states:
                    self._judge(self.states[author], statement)
        for holder, asked_in in self._closing.pop(round, ()):
            holder.close(holder.open.pop(asked_in))
        self.round, self.time_ms, self.checkpoint_hash = round, time_ms, checkpoint_hash

    def announce(self, segment: Segment) -> None:
        """Count a segment that the operator announced, if fragments of it can be held."""
        if segment.chunk > CHUNK_BYTES_MAX:
            return
        try:
            layout = Layout(Shape(segment.data, segment.parity, segment.chunk), segment.size)
        except ValueError:
            return
        if layout.stripes:
            root = bytes.fromhex(segment.root)
            self.segments.setdefault(root, segment)
            for key in self.segments[root].keys:
                if key not in self._chunks:
                    self._chunks[key] = layout.stripes
                    self._weighing += layout.stripes >= CHUNKS_WEIGHED

    def resume(self, key_id: bytes, holder: HolderState) -> None:
        """Go on with what was known of a holder after the last round; nothing, if it was none."""
        if not (holder.receipts or holder.ended):
            return
        self.states[key_id] = holder
        for each in holder.open.values():
            self._closing[each.last_round].append((holder, each.round))

    def _receive(self, round: int, time_ms: int, author: bytes, holding: Holding) -> None:
        known = [key for key in holding.keys if key in self._chunks]
        # Who takes back what it never said to have is nobody.
        if not known or (holding.until <= time_ms and author not in self.states):
            return
        until_ms = min(holding.until, time_ms + TERM_MS_MAX)
        self.states.setdefault(author, HolderState()).receive(
            known, HoldingReceipt(round, until_ms)
        )

    def _ask(self, round: int, time_ms: int, checkpoint_hash: bytes) -> None:
        last_round = round + self.rules.answer_rounds
        self._announced.append((last_round, self._weighing))
        for key_id, holder in self.states.items():
            holder.forget_ended(time_ms)
            chunks = {key: self._chunks[key] for key in holder.receipts}
            if asked := challenge.asked(checkpoint_hash, key_id, chunks, holder.failed):
                held = sum(number >= CHUNKS_WEIGHED for number in chunks.values())
                weighed = frozenset(key for key in asked if chunks[key] >= CHUNKS_WEIGHED)
                holder.open[round] = Challenge(round, last_round, asked, held=held, weighed=weighed)
                self._closing[last_round].append((holder, round))

    def _judge(self, holder: HolderState, answer: Answer) -> None:
        challenge = holder.open.get(answer.challenge)
        if challenge is None:
            return
        for given in answer.answers:
            key = given.key
            is_asked = challenge.asked.get(key) == given.chunk
            if is_asked and key not in challenge.answered and _is_proof(given):
                challenge.answered.add(key)

    # --- what came of it

    @property
    def fragments(self) -> Collection[FragmentKey]:
        """All that can be held."""
        return self._chunks.keys()

    @property
    def holders(self) -> list[bytes]:
        """Key ids of all who ever had a receipt that lived, sorted."""
        return sorted(self.states)

    def receipts(self, holder: bytes, at_ms: int) -> dict[FragmentKey, HoldingReceipt]:
        """The live receipts of a holder at a time: not before that of the last round."""
        known = self.states.get(holder)
        return {} if known is None else known.live(at_ms)

    def open(self, holder: bytes) -> list[Challenge]:
        """Challenges of a holder in which an answer would still count."""
        known = self.states.get(holder)
        return [] if known is None else list(known.open.values())

    def failed(self, holder: bytes) -> set[FragmentKey]:
        """What a holder did not answer for when it was asked last; it may have taken it back."""
        known = self.states.get(holder)
        return set() if known is None else {*known.failed}

    def is_silent(self, holder: bytes) -> bool:
        """Whether a holder answered nothing in its last challenge that was over."""
        known = self.states.get(holder)
        return known is not None and known.is_silent

    def tally(self, holder: bytes, first: int, last: int) -> tuple[int, int]:
        """How many chunks a holder was asked for, and answered, in the challenges that were over
        in these rounds: those after which no answer counted any more.

        Raises:
            ValueError: the last one was not taken yet.
        """
        self._is_taken(last)
        if (known := self.states.get(holder)) is None:
            return 0, 0
        begin, end = bisect_left(known.closed_in, first), bisect_right(known.closed_in, last)
        if end <= begin:
            return 0, 0
        return known.asked[end] - known.asked[begin], known.answered[end] - known.answered[begin]

    def availability(self, holder: bytes, first: int, last: int) -> Fraction | None:
        """What part of the chunks of `tally` was answered; ``None`` if none was asked for.

        It is the same whatever rounds were taken after the last one.

        Raises:
            ValueError: the last one was not taken yet.
        """
        asked, answered = self.tally(holder, first, last)
        return Fraction(answered, asked) if asked else None

    def proved(self, holder: bytes, first: int, last: int) -> Fraction:
        """How many fragments a holder proved to have, added up over the challenges that were over
        in these rounds: of each challenge those that it had receipts for, times the part of the
        chunks that it answered with. Only fragments of `CHUNKS_WEIGHED` chunks count, so a
        challenge that asks for none of these proves nothing.

        Raises:
            ValueError: the last one was not taken yet.
        """
        self._is_taken(last)
        if (known := self.states.get(holder)) is None:
            return Fraction(0)
        begin = bisect_left(known.proved, (first,))
        end = bisect_left(known.proved, (last + 1,))
        parts = (
            Fraction(held * answered, asked)
            for _, held, answered, asked in known.proved[begin:end]
            if asked
        )
        return sum(parts, Fraction(0))

    def announced(self, first: int, last: int) -> int:
        """What somebody would have in `proved` who holds all that is announced.

        Raises:
            ValueError: the last one was not taken yet.
        """
        self._is_taken(last)
        return sum(number for over, number in self._announced if first <= over <= last)

    def _is_taken(self, last: int) -> None:
        if last > self.round:
            raise ValueError(f"round {last} was not taken yet: the last one is {self.round}")

    def proven(self, holder: bytes, at_ms: int) -> set[FragmentKey]:
        """What a holder has live receipts of at a time, without what failed when asked last;
        nothing if it answered nothing then."""
        known = self.states.get(holder)
        return set() if known is None else set(known.proven(at_ms))

    def lapsed(self, holder: bytes, at_ms: int) -> set[FragmentKey]:
        """What a holder once had receipts of, and is not proven to have at a time: their time is
        over, they were taken back, it failed when it was asked last, or the holder is silent."""
        known = self.states.get(holder)
        if known is None:
            return set()
        return (known.ended | known.receipts.keys()).difference(known.proven(at_ms))

    def lacking(self, at_ms: int) -> dict[FragmentKey, int]:
        """Fragments that fewer holders than the rules want are proven to have at a time, and how
        many these are: what is to be put elsewhere as well."""
        counts = Counter(key for holder in self.states.values() for key in holder.proven(at_ms))
        return {key: counts[key] for key in self._chunks if counts[key] < self.rules.receipts}


def _is_proof(given: AnsweredChunk) -> bool:
    key = given.key
    try:
        proof = ChunkProof.from_bytes(given.proof_bytes)
        proof.verify(key.root, key.index, given.chunk)
        return proof.object_id == key.object_id
    except VerificationError:
        return False
