"""Epochs: who stands at the closing, who is drawn, and who is in office."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from consensus.model_city import (
    OPERATOR,
    PEOPLE,
    ModelCity,
    candidacy,
    equivocation,
    id_of,
    withdrawal,
)

from citychain import checkpoint, election
from citychain.types import Seat

NewCity = Callable[..., ModelCity]
SMALL = {"epoch_rounds": 8, "seed_rounds": 2, "seed_hashes": 3, "seats": 3}
ANNA, BEN = PEOPLE[:2]


def drawn(
    candidates: dict[bytes, int], seats: int, previous_poh: bytes, genesis: bytes, epoch: int
) -> tuple[Seat, ...]:
    """Who is elected, written down once more from the description, for weights below 2^63."""
    number = epoch.to_bytes(8, "big")
    mixin = hashlib.sha256(b"citychain/seed/v1\0" + genesis + number).digest()
    seed = previous_poh
    for _ in range(SMALL["seed_hashes"] - 1):
        seed = hashlib.sha256(seed).digest()
    seed = hashlib.sha256(seed + mixin).digest()
    left, elected, counter = dict(sorted(candidates.items())), [], 0
    while left and len(elected) < seats:
        tickets = [key for key, stake in left.items() for _ in range(stake)]
        while True:
            text = b"citychain/election/v1\0" + seed + genesis + number + counter.to_bytes(8, "big")
            x = int(hashlib.sha256(text).hexdigest(), 16)
            counter += 1
            if x < 2**256 // len(tickets) * len(tickets):
                break
        key = tickets[x % len(tickets)]
        elected.append(Seat(key, left.pop(key)))
    return tuple(sorted(elected))


async def test_many_epochs_elect_as_described(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    choose = random.Random(5)
    in_office = city.genesis.seats
    changes = 0
    for epoch in range(12):
        for _ in range(6):
            people = choose.sample(PEOPLE, 3)
            moves = [
                choose.choice([candidacy, withdrawal])(choose.choice([1, 2, 5])) for _ in people
            ]
            await city.seal(*map(city.sign, people, moves))
        standing = await city.candidates()
        snapshot = election.decode_snapshot(await city.value(f"$election/{epoch}"))
        assert snapshot.closing_round == 8 * epoch + 6
        assert snapshot.candidates == tuple(
            election.Candidate(key, stake, stake) for key, stake in sorted(standing.items())
        )
        # Who comes after the closing waits for the next election.
        await city.seal(city.sign(choose.choice(PEOPLE), candidacy(7)))
        last = checkpoint.decode(city.rounds[-1].checkpoint).poh.hash
        await city.seal()
        due = drawn(standing, 3, last, city.genesis.id, epoch)
        named = [city.checkpoint(8 * epoch + number) for number in range(1, 9)]
        assert {item.committee for item in named} == {in_office}
        assert [item.next_committee for item in named[:7]] == [None] * 7
        assert named[7].next_committee == (None if due == in_office else due)
        changes += due != in_office
        in_office = due
    assert changes >= 6


async def test_without_candidates_nothing_changes_and_nothing_is_written(
    new_city: NewCity,
) -> None:
    city = new_city(**SMALL)
    await city.seal_until(17)
    assert {item.committee for item in map(city.checkpoint, range(1, 18))} == {city.genesis.seats}
    assert not [write for sealed in city.rounds for write in sealed.writes]


async def test_who_is_elected_again_is_not_named_again(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)))
    await city.seal_until(17)
    only = (Seat(id_of(ANNA), 10),)
    assert city.checkpoint(8).next_committee == only
    assert city.checkpoint(16).next_committee is None
    assert city.checkpoint(17).committee == only


async def test_exclusion_counts_from_the_next_closing_on(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(city.sign(ANNA, candidacy(10)), city.sign(BEN, candidacy(10)))
    await city.seal_until(6)
    await city.seal(city.sign(OPERATOR, equivocation(ANNA, city.genesis.id)))
    await city.seal_until(16)
    assert {seat.key_id for seat in city.checkpoint(9).committee} == {id_of(ANNA), id_of(BEN)}
    assert city.checkpoint(16).next_committee == (Seat(id_of(BEN), 10),)
