"""Proofs of two votes, witnesses and recoveries: who may, and what they leave."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from consensus.model_city import (
    MEMBERS,
    OPERATOR,
    PEOPLE,
    ModelCity,
    candidacy,
    equivocation,
    id_of,
    recovery,
    vote,
    withdrawal,
)

from citychain.types import Seat

NewCity = Callable[..., ModelCity]
SMALL = {"epoch_rounds": 8, "seed_rounds": 2, "seed_hashes": 3, "seats": 3}
ANNA, BEN, CORA = PEOPLE[:3]
RESCUE = (Seat(id_of(ANNA), 2), Seat(id_of(BEN), 1))


# --- equivocations


async def test_anybody_proves_that_a_representative_voted_twice(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    proof = city.sign(BEN, equivocation(MEMBERS[0], city.genesis.id))
    assert await city.seal(proof) == [""]
    assert await city.value(f"$excluded/{id_of(MEMBERS[0]).hex()}") == proof.tx_id
    again = city.sign(ANNA, equivocation(MEMBERS[0], city.genesis.id, round=2))
    assert await city.seal(again) == ["EXCLUDED"]


async def test_of_several_proofs_in_a_round_one_excludes(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    proofs = [
        city.sign(BEN, equivocation(MEMBERS[0], city.genesis.id, round=number))
        for number in range(4)
    ]
    codes = await city.seal(*proofs)
    first = min(proofs, key=lambda item: item.tx_id)
    assert codes == ["" if item is first else "EXCLUDED" for item in proofs]


@pytest.mark.parametrize("bent", ["first_signature", "second_signature"])
async def test_a_proof_needs_both_votes(new_city: NewCity, bent: str) -> None:
    city = new_city(**SMALL)
    other = vote(MEMBERS[0], city.genesis.id, 1, b"3" * 32)
    claim = city.sign(BEN, equivocation(MEMBERS[0], city.genesis.id, **{bent: other}))
    good = city.sign(BEN, equivocation(MEMBERS[0], city.genesis.id))
    assert await city.seal(claim, good) == ["EQUIVOCATION_UNPROVEN", ""]
    assert bent.partition("_")[0] in city.reason(claim)


async def test_votes_in_another_city_prove_nothing(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    claim = city.sign(BEN, equivocation(MEMBERS[0], b"x" * 32))
    assert await city.seal(claim) == ["EQUIVOCATION_UNPROVEN"]


async def test_only_representatives_and_candidates_are_held_to_their_votes(
    new_city: NewCity,
) -> None:
    city = new_city(**SMALL)
    stranger = city.sign(BEN, equivocation(ANNA, city.genesis.id))
    assert await city.seal(stranger) == ["EQUIVOCATION_UNPROVEN"]
    assert await city.seal(city.sign(ANNA, candidacy(10))) == [""]
    assert await city.seal(city.sign(BEN, equivocation(ANNA, city.genesis.id))) == [""]


async def test_a_stake_stays_for_an_epoch_after_leaving_office(new_city: NewCity) -> None:
    """So that a second vote that is shown late still costs it."""
    city = new_city(**SMALL | {"seats": 1})
    await city.seal(city.sign(ANNA, candidacy(1)))
    await city.seal_until(8)
    await city.seal(city.sign(BEN, candidacy(100)))
    await city.seal_until(16)
    assert city.checkpoint(16).next_committee == (Seat(id_of(BEN), 100),)
    for _ in range(5):
        assert await city.seal(city.sign(ANNA, withdrawal(1))) == ["SERVING"]
    proof = city.sign(BEN, equivocation(ANNA, city.genesis.id, round=9))
    assert (await city.judge(proof)).refused == {}
    await city.seal_until(24)
    assert city.checkpoint(24).next_committee is None, "Ben was drawn again"
    assert await city.seal(city.sign(ANNA, withdrawal(1))) == [""]


async def test_who_a_recovery_replaces_answers_for_an_epoch_too(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(8)
    order = city.sign(OPERATOR, recovery(9, city.hashes[8], Seat(id_of(BEN), 1)))
    assert await city.seal(order) == [""]
    assert await city.seal(city.sign(ANNA, withdrawal(10))) == ["SERVING"]
    assert await city.value("$former") == b"\0\1" + id_of(ANNA) + (9).to_bytes(8, "big")
    proof = city.sign(BEN, equivocation(ANNA, city.genesis.id))
    assert await city.seal(proof) == [""]
    assert await city.seal(city.sign(ANNA, withdrawal(10))) == ["EXCLUDED"]


# --- recoveries


async def test_a_recovery_seats_another_committee_from_the_next_round_on(
    new_city: NewCity,
) -> None:
    city = new_city(**SMALL)
    await city.seal_until(3)
    order = city.sign(OPERATOR, recovery(2, city.hashes[1], *RESCUE))
    assert await city.seal(order) == [""]
    await city.seal()
    assert city.checkpoint(4).committee == city.genesis.seats
    assert city.checkpoint(5).committee == RESCUE


async def test_a_recovery_from_the_first_round_follows_the_genesis(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(OPERATOR, recovery(1, city.genesis.id, *RESCUE))) == [""]


async def test_nobody_but_the_operator_recovers(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    codes = await city.seal(
        *(city.sign(key, recovery(1, city.genesis.id, *RESCUE)) for key in (ANNA, MEMBERS[0]))
    )
    assert codes == ["NOT_OPERATOR"] * 2


async def test_a_recovery_fits_where_the_ledger_stands(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal_until(3)
    late = city.sign(OPERATOR, recovery(5, city.hashes[3], *RESCUE))
    assert await city.seal(late) == ["RECOVERY_MISFIT"]
    assert "later than this round, 4" in city.reason(late)
    other = city.sign(OPERATOR, recovery(3, city.hashes[1], *RESCUE))
    assert await city.seal(other) == ["RECOVERY_MISFIT"]
    assert "round 2's checkpoint" in city.reason(other)


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_latest_recovery_counts_in_whichever_order_they_are_sealed(
    new_city: NewCity, at_once: bool
) -> None:
    """As for `VoteBox`: the latest round's, and of those from one round the one signed last."""
    for seed in range(6):
        city = new_city(**SMALL)
        await city.seal_until(3)
        older, other, last = PEOPLE[seed : seed + 3]
        signings = [(2, 9, older), (3, 5, other), (3, 6, last)]
        random.Random(seed).shuffle(signings)
        orders = [
            city.sign(
                OPERATOR,
                recovery(since, city.hashes[since - 1], Seat(id_of(key), 1)),
                created_at_ms=signed,
            )
            for since, signed, key in signings
        ]
        for batch in [orders] if at_once else [[order] for order in orders]:
            assert set(await city.seal(*batch)) <= {"", "RECOVERY_MISFIT"}
        await city.seal()
        committee = city.checkpoint(city.head.round).committee
        assert committee == (Seat(id_of(last), 1),)


async def test_an_older_recovery_is_rejected_once_a_later_one_is_sealed(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal_until(3)
    [newer, again, older] = [
        city.sign(OPERATOR, recovery(since, city.hashes[since - 1], *RESCUE), created_at_ms=5)
        for since in (3, 3, 2)
    ]
    assert await city.seal(newer) == [""]
    assert await city.seal(again, older) == ["RECOVERY_MISFIT"] * 2
    assert "from round 3 on" in city.reason(older)


async def test_a_recovery_does_not_undo_a_later_election(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(8)
    old = city.sign(OPERATOR, recovery(8, city.hashes[7], *RESCUE))
    assert await city.seal(old) == ["RECOVERY_MISFIT"]
    assert "elected, in 8" in city.reason(old)
    assert city.checkpoint(9).committee == (Seat(id_of(ANNA), 10),)
    of_this = city.sign(OPERATOR, recovery(9, city.hashes[8], *RESCUE))
    assert await city.seal(of_this) == [""]
    await city.seal()
    assert city.checkpoint(11).committee == RESCUE


async def test_an_election_goes_before_a_recovery_in_its_round(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(7)
    assert await city.seal(city.sign(OPERATOR, recovery(7, city.hashes[6], *RESCUE))) == [""]
    await city.seal()
    assert city.checkpoint(9).committee == (Seat(id_of(ANNA), 10),)


async def test_a_recovery_reaches_over_elections_that_changed_nobody(new_city: NewCity) -> None:
    """Nobody was named, so no handover ends it."""
    city = new_city(**SMALL | {"epoch_rounds": 2, "seed_rounds": 1})
    await city.seal_until(6)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(140)
    named = [number for number in range(1, 141) if city.checkpoint(number).next_committee]
    assert named == [8]
    old, due = (city.sign(OPERATOR, recovery(n, city.hashes[n - 1], *RESCUE)) for n in (8, 9))
    assert await city.seal(old) == ["RECOVERY_MISFIT"]
    assert await city.seal(due) == [""]
    await city.seal()
    assert city.checkpoint(143).committee == RESCUE


async def test_who_is_lost_with_a_committee_stands_again_by_locking_more(
    new_city: NewCity,
) -> None:
    city = new_city(**SMALL)
    await city.seal(*(city.sign(key, candidacy(10)) for key in (ANNA, BEN, CORA)))
    await city.seal_until(8)
    # Anna and Ben are lost; the operator seats Cora and one of its own.
    rescue = sorted([Seat(id_of(CORA), 1), Seat(id_of(OPERATOR), 1)])
    order = city.sign(OPERATOR, recovery(9, city.hashes[8], *rescue))
    assert await city.seal(order) == [""]
    assert await city.candidates() == {id_of(key): 10 for key in (ANNA, BEN, CORA)}
    await city.seal_until(16)
    assert city.checkpoint(16).next_committee == (Seat(id_of(CORA), 10),)
    # Ben comes back; Anna does not, and her stake is hers once she has answered for an epoch.
    assert await city.seal(city.sign(BEN, candidacy(1))) == [""]
    assert await city.seal(city.sign(ANNA, withdrawal(10))) == [""]
    assert await city.value("$unseated") == b"\0\0"
    await city.seal_until(24)
    assert {seat.key_id for seat in city.checkpoint(24).next_committee or ()} == {
        id_of(BEN),
        id_of(CORA),
    }


async def test_who_is_excluded_is_not_among_the_unseated_either(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(8)
    order = city.sign(OPERATOR, recovery(9, city.hashes[8], Seat(id_of(BEN), 1)))
    assert await city.seal(order) == [""]
    assert await city.value("$unseated") == b"\0\1" + id_of(ANNA)
    assert await city.seal(city.sign(BEN, equivocation(ANNA, city.genesis.id))) == [""]
    assert await city.value("$unseated") == b"\0\0"
