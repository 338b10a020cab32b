"""The recount: what a holder is credited with, and what a liar is not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from deeds import (
    DAY,
    OPERATOR,
    RULES,
    SECOND,
    City,
    answered,
    archived,
    checkpoint_hash,
    holder,
    stated,
)

from citychain.holding.reading import unproven
from citychain.holding.recount import HoldingReceipt, Recount
from citychain.ports import FragmentKey
from citychain.statements import Answer, AnsweredChunk, Holding, HoldingRules, Segment

ALICE, BOB = holder("alice"), holder("bob")


@pytest.fixture
def city() -> City:
    """Alice holds everything, by a receipt of round 2; round 5 asks her, and waits until 8."""
    city = City()
    city.hold(ALICE, city.keys)
    city.seal_until(5)
    return city


def outcome(city: City, who: bytes = ALICE) -> Fraction | None:
    """The availability of the challenge of round 5, once it is over."""
    city.seal_until(8)
    return city.recount.availability(who, 8, 8)


def test_who_answers_everything_is_wholly_available(city: City) -> None:
    city.seal(city.answers(ALICE, 5))
    assert outcome(city) == 1
    assert city.recount.proven(ALICE, 9 * SECOND) == {*city.keys}
    assert city.recount.lacking(9 * SECOND) == {}


def test_answers_may_come_one_by_one_until_the_last_round(city: City) -> None:
    for answer in city.answers(ALICE, 5):
        city.seal([answer])
    assert city.recount.round == 8
    assert outcome(city) == 1


def test_one_that_deleted_everything_answers_nothing(city: City) -> None:
    assert outcome(city) == 0
    failed = city.recount.failed(ALICE)
    assert len(failed) == 3
    assert city.recount.is_silent(ALICE)
    assert city.recount.proven(ALICE, 9 * SECOND) == set(), "it may have lost the others as well"
    assert city.recount.lacking(9 * SECOND) == dict.fromkeys(city.keys, 0)


def test_part_of_the_answers_is_part_of_the_score(city: City) -> None:
    city.seal(city.answers(ALICE, 5)[:2])
    assert outcome(city) == Fraction(2, 3)
    [failed] = city.recount.failed(ALICE)
    assert not city.recount.is_silent(ALICE)
    assert city.recount.proven(ALICE, 9 * SECOND) == {*city.keys} - {failed}
    assert city.recount.lacking(9 * SECOND) == {failed: 0}


def test_another_chunk_is_no_answer(city: City) -> None:
    others = {key: (chunk + 1) % 5 for key, chunk in city.asked(ALICE).items()}
    city.seal(stated(ALICE, *answered(5, others, city.proofs)))
    assert outcome(city) == 0


def test_another_chunk_by_the_right_name_is_no_answer(city: City) -> None:
    city.seal(
        stated(
            ALICE,
            *(
                Answer(
                    challenge=5,
                    answers=(AnsweredChunk.of(key, chunk, city.proofs[key, (chunk + 1) % 5]),),
                )
                for key, chunk in city.asked(ALICE).items()
            ),
        )
    )
    assert outcome(city) == 0


def test_the_proof_of_another_object_is_no_answer(city: City) -> None:
    """Its hashes hold together; they lead to another root."""
    by_index = {(key.index, key.object_id): key for key in city.keys}
    swapped = []
    for key, chunk in city.asked(ALICE).items():
        [other] = [it for (index, of), it in by_index.items()
                   if index == key.index and of != key.object_id]  # fmt: skip
        answers = (AnsweredChunk.of(key, chunk, city.proofs[other, chunk]),)
        swapped.append(Answer(challenge=5, answers=answers))
    city.seal(stated(ALICE, *swapped))
    assert outcome(city) == 0


def test_anothers_answer_is_no_answer() -> None:
    """Both are asked for the only fragment there is, each for another chunk of it."""
    city = City(archive=[archived(3, stripes=5, data=1, parity=0)])
    city.seal(
        [*stated(ALICE, Holding.of(DAY, city.keys)), *stated(BOB, Holding.of(DAY, city.keys))]
    )
    city.seal_until(5)
    [(key, chunk)] = city.asked(ALICE).items()
    assert city.asked(BOB).keys() == {key}
    assert city.asked(BOB) != {key: chunk}, "another object: these two are asked for the same"
    [(_, _, content_type, content)] = honest = city.answers(ALICE, 5)
    city.seal([*honest, (b"t" * 32, BOB, content_type, content)])
    assert outcome(city, BOB) == 0
    assert outcome(city, ALICE) == 1


def test_what_another_sends_in_ones_place_is_no_answer(city: City) -> None:
    [*honest] = city.answers(ALICE, 5)
    city.seal((tx_id, BOB, kind, content) for tx_id, _, kind, content in honest)
    assert outcome(city) == 0
    assert city.recount.availability(BOB, 1, 8) is None


def test_a_late_answer_is_no_answer(city: City) -> None:
    late = city.answers(ALICE, 5)
    city.seal_until(8)
    city.seal(late)
    assert city.recount.availability(ALICE, 1, 9) == 0


def test_an_older_challenge_is_not_answered_any_more(city: City) -> None:
    older = city.answers(ALICE, 5)
    city.seal(older)
    city.seal_until(10)
    asked = city.asked(ALICE)
    city.seal(older)
    as_if = [Answer(challenge=10, answers=statement_of(it).answers) for it in older]
    city.seal(stated(ALICE, *as_if))
    city.seal_until(13)
    before = dict(answer_of(older))
    assert not asked.items() & before.items(), "another object: they have one in common"
    assert city.recount.availability(ALICE, 13, 13) == 0


def statement_of(transaction: tuple[bytes, bytes, str, bytes]) -> Answer:
    return Answer.from_bytes(transaction[3])


def answer_of(
    transactions: list[tuple[bytes, bytes, str, bytes]],
) -> list[tuple[FragmentKey, int]]:
    return [(it.key, it.chunk) for each in transactions for it in statement_of(each).answers]


def test_what_one_never_had_is_not_proven(city: City) -> None:
    """Bob has one fragment, and signs for all."""
    has = city.keys[0]
    city.seal_until(8)
    city.hold(BOB, city.keys)
    round, right, asked = 10, 0, 0
    while round < 200:
        city.seal_until(round)
        mine = [it for it in city.answers(BOB, round) if dict(answer_of([it])).keys() == {has}]
        city.seal(mine)
        right, asked = right + len(mine), asked + 3
        round += 5
    city.seal_until(198)
    availability = city.recount.availability(BOB, 1, 198)
    assert availability == Fraction(right, asked)
    assert availability < Fraction(1, 3)
    assert has not in city.recount.failed(BOB)


def test_a_wrong_answer_does_not_spoil_a_right_one(city: City) -> None:
    spoilt = [
        Answer(challenge=5, answers=(AnsweredChunk.of(key, chunk, b"nonsense"),))
        for key, chunk in city.asked(ALICE).items()
    ]
    nonsense = (b"t" * 32, ALICE, Answer.CONTENT_TYPE, b"{}")
    city.seal([*stated(ALICE, *spoilt), nonsense])
    city.seal([*city.answers(ALICE, 5), *stated(ALICE, *spoilt), *city.answers(ALICE, 5)])
    assert outcome(city) == 1


# --- receipts


def test_only_fragments_of_announced_segments_are_held() -> None:
    city, foreign = City(), archived(3)
    city.seal(stated(BOB, foreign.segment))
    city.hold(ALICE, foreign.keys)
    assert city.recount.receipts(ALICE, 0) == {}
    city.seal(stated(OPERATOR, foreign.segment))
    assert city.recount.receipts(ALICE, 0) == {}, "the receipt was there before"
    city.hold(ALICE, [*foreign.keys, FragmentKey(b"x" * 32, b"y" * 32, 0)])
    assert {*city.recount.receipts(ALICE, 0)} == {*foreign.keys}


def test_a_receipt_lives_until_its_time_and_the_last_one_counts() -> None:
    city = City()
    one, other = city.keys[:2]
    city.hold(ALICE, [one, other], until=60 * SECOND)
    city.hold(ALICE, [one], until=30 * SECOND)
    live = city.recount.receipts
    assert live(ALICE, 29_999) == {one: HoldingReceipt(3, 30_000), other: HoldingReceipt(2, 60_000)}
    assert [*live(ALICE, 30_000)] == [other]
    city.hold(ALICE, [other], until=1)
    assert [*live(ALICE, 1)] == [one]
    assert city.recount.lacking(29_999).keys() == {*city.keys} - {one}
    assert city.recount.lacking(30_000).keys() == {*city.keys}


def test_a_receipt_lives_for_no_more_than_a_year() -> None:
    city = City()
    city.hold(ALICE, city.keys, until=(1 << 53) - 1)
    over = (2 + 366 * 24 * 3_600) * SECOND
    assert city.recount.receipts(ALICE, over - 1).keys() == {*city.keys}
    assert city.recount.receipts(ALICE, over) == {}


def test_what_is_over_is_looked_at_no_more() -> None:
    """Else whoever signs once makes work for everybody, for ever."""
    city = City()
    city.hold(BOB, city.keys, until=SECOND)
    assert city.recount.holders == [], "it is over when it is sealed"
    one, *others = city.keys
    city.hold(ALICE, city.keys, until=4 * SECOND)
    city.seal_until(5)
    assert not city.recount.states[ALICE].receipts
    assert city.recount.lapsed(ALICE, 5 * SECOND) == {*city.keys}
    city.hold(ALICE, [one])
    assert city.recount.receipts(ALICE, 6 * SECOND) == {one: HoldingReceipt(6, DAY)}
    assert city.recount.lapsed(ALICE, 6 * SECOND) == {*others}


def test_who_has_no_live_receipt_is_asked_for_nothing() -> None:
    city = City()
    city.hold(ALICE, city.keys, until=5 * SECOND)
    city.seal_until(4)
    city.hold(BOB, city.keys)
    assert city.recount.round == 5
    assert city.recount.open(ALICE) == [], "its time is over when round 5 is sealed"
    assert city.recount.open(BOB) == [], "it is of round 5 itself"
    city.seal_until(13)
    assert city.recount.availability(ALICE, 1, 13) is None
    assert city.recount.tally(BOB, 1, 13) == (3, 0)


def test_who_takes_back_what_it_was_asked_for_has_failed_all_the_same(city: City) -> None:
    city.hold(ALICE, city.keys, until=1)
    assert outcome(city) == 0
    assert city.recount.receipts(ALICE, 0) == dict.fromkeys(city.keys, HoldingReceipt(6, 1))
    assert city.recount.receipts(ALICE, 1) == {}
    city.hold(ALICE, city.keys)
    assert len(city.recount.failed(ALICE)) == 3, "a new receipt proves nothing"
    assert city.recount.proven(ALICE, 0) == set()


def test_what_failed_is_asked_for_first_and_can_be_proven_again(city: City) -> None:
    city.seal_until(10)
    failed = city.recount.failed(ALICE)
    assert city.asked(ALICE).keys() == failed
    city.seal(city.answers(ALICE, 10))
    city.seal_until(13)
    assert city.recount.failed(ALICE) == set()
    assert city.recount.availability(ALICE, 1, 12) == 0
    assert city.recount.availability(ALICE, 9, 13) == 1
    assert city.recount.availability(ALICE, 1, 13) == Fraction(1, 2)


def test_a_fragment_wants_as_many_holders_as_the_rules_say(city: City) -> None:
    two = HoldingRules(challenge_rounds=5, answer_rounds=3, receipts=2)
    city.seal([*city.answers(ALICE, 5), *stated(BOB, Holding.of(DAY, city.keys[:2]), two)])
    assert city.recount.lacking(0) == {}, "rules are the operator's"
    city.seal(stated(OPERATOR, two))
    assert city.recount.lacking(0) == dict.fromkeys(city.keys[2:], 1)


def test_what_is_over_taken_back_or_failed_is_to_be_put_elsewhere(city: City) -> None:
    one, other, *_ = city.keys
    city.hold(BOB, [one, other], until=20 * SECOND)
    city.hold(BOB, [one], until=1)
    city.seal(city.answers(ALICE, 5)[:1])
    city.seal_until(8)
    failed = city.recount.failed(ALICE)
    assert len(failed) == 2
    holders = {"attic": ALICE, "barn": BOB, "cellar": holder("nobody")}

    def told(time: int) -> set[tuple[str, FragmentKey]]:
        return {*unproven(city.recount, holders, time)}

    alices = {("attic", key) for key in failed}
    assert told(9 * SECOND) == alices | {("barn", one)}
    assert told(20 * SECOND) == alices | {("barn", one), ("barn", other)}
    city.seal_until(13)
    assert city.recount.is_silent(ALICE)
    assert {it for it in told(9 * SECOND) if it[0] == "attic"} == {
        ("attic", key) for key in city.keys
    }
    assert told(DAY) == {("attic", key) for key in city.keys} | {("barn", one), ("barn", other)}


# --- rounds


def test_what_was_counted_stays_whatever_comes_after(city: City) -> None:
    city.seal(city.answers(ALICE, 5)[:1])
    city.seal_until(12)
    before = city.recount.availability(ALICE, 1, 12)
    assert before == Fraction(1, 3)
    city.seal_until(40)
    assert city.recount.availability(ALICE, 1, 12) == before
    assert city.recount.availability(ALICE, 9, 12) is None, "no challenge was over in these"
    with pytest.raises(ValueError, match="round 41 was not taken yet: the last one is 40"):
        city.recount.availability(ALICE, 1, 41)


def test_new_rules_are_for_challenges_that_come(city: City) -> None:
    city.seal(stated(OPERATOR, HoldingRules(challenge_rounds=7, answer_rounds=1, receipts=1)))
    assert [it.last_round for it in city.recount.open(ALICE)] == [8]
    city.seal_until(7)
    assert [(it.round, it.last_round) for it in city.recount.open(ALICE)] == [(5, 8), (7, 8)]


def test_rounds_come_in_order() -> None:
    recount = Recount(OPERATOR)
    with pytest.raises(ValueError, match="round 2 does not follow round 0"):
        recount.take(2, 1, checkpoint_hash(2), [])


@pytest.mark.parametrize(
    "change",
    [
        {"chunk": 64 << 10},  # A proof of it fits into no transaction.
        {"size": 0},
        {"size": 1 << 52, "chunk": 4096},  # More chunks than a fragment can have.
    ],
)
def test_segments_that_nobody_could_prove_are_left_out(change: dict[str, int]) -> None:
    segment = archived(0).segment
    odd = Segment(**(segment.model_dump() | change))
    recount = Recount(OPERATOR)
    recount.take(1, 1, checkpoint_hash(1), stated(OPERATOR, RULES, odd))
    recount.take(2, 2, checkpoint_hash(2), stated(ALICE, Holding.of(DAY, odd.keys)))
    assert (recount.segments, recount.holders, recount.lacking(0)) == ({}, [], {})


def test_an_object_that_the_root_is_not_of_cannot_be_proven() -> None:
    each = archived(0)
    lie = Segment(**(each.segment.model_dump() | {"object": "ab" * 32}))
    recount = Recount(OPERATOR)
    recount.take(1, 1, checkpoint_hash(1), stated(OPERATOR, RULES, lie))
    recount.take(2, 2, checkpoint_hash(2), stated(ALICE, Holding.of(DAY, lie.keys)))
    for round in (3, 4, 5):
        recount.take(round, round, checkpoint_hash(round), [])
    proofs = {
        (key._replace(object_id=b"\xab" * 32), at): it for (key, at), it in each.proofs.items()
    }
    [challenge] = recount.open(ALICE)
    recount.take(6, 6, checkpoint_hash(6), stated(ALICE, *answered(5, challenge.asked, proofs)))
    assert len(challenge.asked) == 3
    assert not challenge.answered
