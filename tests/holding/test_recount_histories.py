"""Whatever happened, the recount is what another, slower one makes of it."""

from __future__ import annotations

import random
from fractions import Fraction
from unittest import mock

from deeds import OPERATOR, SECOND, Archived, archived, checkpoint_hash, holder, stated
from hypothesis import given, settings
from hypothesis import strategies as st
from recount_reference import Deed, Round, challenges, chunks_held

from citychain.holding import recount
from citychain.holding.recount import Recount, StatedTransaction
from citychain.ports import FragmentKey
from citychain.statements import Answer, AnsweredChunk, Holding, HoldingRules

WHO = [holder("alice"), holder("bob"), OPERATOR]


class History:
    """Makes rounds by chance, and takes them as they come."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.recount = Recount(OPERATOR)
        self.rounds: list[Round] = []
        self.taken: list[list[StatedTransaction]] = []
        """Transactions of each round."""
        self.archive = [archived(0), archived(1), archived(2, data=1, parity=0)]
        self.answered: list[tuple[Deed, StatedTransaction]] = []
        """Answers of before, to be given again."""

    def seal(self) -> None:
        number, chance = len(self.rounds) + 1, self.chance
        deeds = [self.deed() for _ in range(chance.choice([0, 0, 1, 1, 2, 3]))]
        if number == 1:
            deeds = [self.announce(OPERATOR, each) for each in self.archive[:2]]
            deeds.insert(0, self.rule(OPERATOR))
        time_ms, digest = number * SECOND, checkpoint_hash(number + chance.randrange(1 << 40))
        self.rounds.append(Round(time_ms, digest, [deed for deed, _ in deeds]))
        self.taken.append([transaction for _, transaction in deeds])
        self.recount.take(number, time_ms, digest, self.taken[-1])

    def deed(self) -> tuple[Deed, StatedTransaction]:
        who = self.chance.choice(WHO)
        kind = self.chance.choice(["hold", "hold", *["answer"] * 6, "announce", "rule"])
        if kind == "hold":
            return self.hold(who)
        if kind == "announce":
            return self.announce(who, self.chance.choice(self.archive))
        return self.rule(who) if kind == "rule" else self.answer(who)

    def rule(self, who: bytes) -> tuple[Deed, StatedTransaction]:
        rules = HoldingRules(
            challenge_rounds=self.chance.choice([2, 3, 5]),
            answer_rounds=self.chance.choice([1, 2, 4, 7]),
            receipts=1,
        )
        deed = Deed(who, rules=(rules.challenge_rounds, rules.answer_rounds))
        return deed, *stated(who, rules)

    def announce(self, who: bytes, each: Archived) -> tuple[Deed, StatedTransaction]:
        return Deed(who, announced=dict.fromkeys(each.keys, each.chunks)), *stated(
            who, each.segment
        )

    def hold(self, who: bytes) -> tuple[Deed, StatedTransaction]:
        keys = [key for each in self.archive for key in each.keys]
        held = {*self.chance.sample(keys, self.chance.randint(1, len(keys)))}
        until = (len(self.rounds) + self.chance.choice([-1, 4, 12, 60])) * SECOND
        until = max(until, 1)
        return Deed(who, held=held, until=until), *stated(who, Holding.of(until, [*held]))

    def answer(self, who: bytes) -> tuple[Deed, StatedTransaction]:
        if self.answered and self.chance.random() < 0.2:
            return self.chance.choice(self.answered)
        open = [it for each in WHO for it in self.recount.open(each)]
        if not open:
            return self.hold(who)
        # Mostly one's own; now and then what another was asked for.
        own = self.recount.open(who)
        asked = self.chance.choice(own if own and self.chance.random() < 0.8 else open)
        round = asked.round if self.chance.random() < 0.9 else asked.round + 1
        answers: dict[FragmentKey, tuple[int, bool]] = {}
        content = []
        for key, chunk in [*asked.asked.items()][: self.chance.randint(1, 3)]:
            [each] = [each for each in self.archive if key in each.keys]
            told = chunk if self.chance.random() < 0.9 else (chunk + 1) % each.chunks
            given = told if self.chance.random() < 0.9 else (told + 1) % each.chunks
            answers[key] = (told, given == told)
            content.append(AnsweredChunk.of(key, told, each.proofs[key, given]))
        deed = Deed(who, challenge=round, answers=answers)
        [transaction] = stated(who, Answer(challenge=round, answers=tuple(content)))
        self.answered.append((deed, transaction))
        return deed, transaction


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(1, 45), st.data())
def test_the_recount_is_what_the_reference_makes_of_it(
    seed: int, rounds: int, data: st.DataObject
) -> None:
    history = History(random.Random(seed))
    for _ in range(rounds):
        history.seal()
    recount, told = history.recount, history.rounds
    first = data.draw(st.integers(1, rounds))
    last = data.draw(st.integers(first, rounds))
    at_ms = told[-1].time_ms
    proven = 0
    for who in WHO:
        found = challenges(told, OPERATOR, who)
        over = [(asked, answered) for end, asked, answered in found if first <= end <= last]
        asked, answered = (
            (sum(map(len, each)) for each in zip(*over, strict=True))
            if over
            else (
                0,
                0,
            )
        )
        assert recount.tally(who, first, last) == (asked, answered)
        expected = Fraction(answered, asked) if asked else None
        assert recount.availability(who, first, last) == expected
        held = chunks_held(told, OPERATOR, who, at_ms).keys()
        assert recount.receipts(who, at_ms).keys() == held
        outcome = {key: key in answered for _, asked, answered in found for key in asked}
        good = {key for key in held if outcome.get(key, True)}
        if found and not found[-1][2]:
            good = set()  # It said nothing at all when it was asked last.
        assert recount.proven(who, at_ms) == good
        proven += len(good)
    keys = [key for each in recount.segments.values() for key in each.keys]
    assert len(recount.lacking(at_ms)) >= len(keys) - proven


def test_histories_have_what_they_are_for() -> None:
    """Answers that count and that do not, of several holders."""
    seen = set()
    for seed in range(20):
        history = History(random.Random(seed))
        for _ in range(45):
            history.seal()
        for who in WHO:
            seen.add((who, history.recount.availability(who, 1, 45)))
    some = {who for who, part in seen if part is not None and 0 < part < 1}
    assert some == {*WHO}


@settings(max_examples=30)
@given(st.integers(0, 1 << 32), st.integers(1, 45))
def test_nobody_proves_more_than_is_announced(seed: int, rounds: int) -> None:
    with mock.patch.object(recount, "CHUNKS_WEIGHED", 5):
        history = History(random.Random(seed))
        for _ in range(rounds):
            history.seal()
    found = history.recount
    for first in range(1, rounds + 1):
        parts = [found.proved(who, first, rounds) for who in WHO]
        assert 0 <= min(parts) <= max(parts) <= found.announced(first, rounds)
        availabilities = [found.availability(who, first, rounds) for who in WHO]
        # All fragments here weigh, so whoever answered something proved something.
        assert [bool(part) for part in parts] == [bool(it) for it in availabilities]
