"""Candidacies and withdrawals: who may lock and free how much, and that no money is lost."""

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
    data,
    equivocation,
    id_of,
    stake_account,
    transfer,
    withdrawal,
)

NewCity = Callable[..., ModelCity]
SMALL = {"epoch_rounds": 8, "seed_rounds": 2, "seed_hashes": 3, "seats": 3, "stake_min": 10}
ANNA, BEN, CARL = PEOPLE[:3]


async def test_a_candidacy_locks_a_stake_and_a_withdrawal_frees_it(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(30))) == [""]
    assert await city.candidates() == {id_of(ANNA): 30}
    assert city.balances()[id_of(ANNA)] == 70
    assert city.balances()[stake_account(id_of(ANNA))] == 30
    assert await city.seal(city.sign(ANNA, candidacy(5))) == [""]
    assert await city.candidates() == {id_of(ANNA): 35}
    assert await city.seal(city.sign(ANNA, withdrawal(25))) == [""]
    assert await city.candidates() == {id_of(ANNA): 10}
    assert await city.seal(city.sign(ANNA, withdrawal(10))) == [""]
    assert await city.candidates() == {}
    assert city.balances()[id_of(ANNA)] == 100


async def test_an_asset_that_is_none_for_stakes(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    codes = await city.seal(
        city.sign(ANNA, candidacy(30, "coin")), city.sign(BEN, withdrawal(30, "coin"))
    )
    assert codes == ["WRONG_ASSET"] * 2


async def test_the_least_stake_counts_all_that_stands(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(9))) == ["STAKE_TOO_SMALL"]
    assert await city.seal(city.sign(ANNA, candidacy(10))) == [""]
    assert await city.seal(city.sign(ANNA, candidacy(1))) == [""]
    low = city.sign(ANNA, withdrawal(2))
    assert await city.seal(low) == ["STAKE_TOO_SMALL"]
    assert "9 would be left" in city.reason(low)


async def test_nobody_withdraws_what_is_not_their_stake(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(30))) == [""]
    # Money sent to a stake account by mistake is no stake.
    assert await city.seal(city.sign(BEN, transfer(stake_account(id_of(ANNA)), 50))) == [""]
    codes = await city.seal(city.sign(BEN, withdrawal(1)), city.sign(ANNA, withdrawal(31)))
    assert codes == ["NO_STAKE"] * 2


async def test_of_one_key_a_round_takes_one_move(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(50))) == [""]
    moves = [city.sign(ANNA, withdrawal(30)), city.sign(ANNA, candidacy(10))]
    codes = await city.seal(*moves, city.sign(BEN, candidacy(10)))
    assert sorted(codes) == ["", "", "STAKE_BUSY"]
    assert codes[moves.index(min(moves, key=lambda item: item.tx_id))] == ""


async def test_a_city_takes_so_many_candidates_and_those_with_money_first(
    new_city: NewCity,
) -> None:
    city = new_city(**SMALL, candidates_max=3)
    assert await city.seal(city.sign(PEOPLE[9], candidacy(10))) == [""]
    poor = [city.sign(key, candidacy(1_000)) for key in PEOPLE[4:9]]
    rich = [city.sign(key, candidacy(10)) for key in (ANNA, BEN)]
    codes = await city.seal(*poor, *rich)
    assert codes == ["CANDIDATES_FULL"] * 5 + ["", ""]
    # Who stands may still add.
    codes = await city.seal(city.sign(CARL, candidacy(10)), city.sign(ANNA, candidacy(1)))
    assert codes == ["CANDIDATES_FULL", ""]


async def test_a_candidacy_that_its_author_cannot_pay_leaves_nothing(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(101))) == ["OVERDRAFT"]
    assert await city.candidates() == {}


async def test_a_candidacy_can_wait_for_the_money(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    money = city.sign(ANNA, transfer(id_of(BEN), 50))
    waiting = city.sign(BEN, candidacy(120), depends_on=[money.tx_id])
    assert await city.seal(waiting) == ["HELD"]
    assert await city.seal(money) == [""]
    await city.seal()
    assert await city.candidates() == {id_of(BEN): 120}


async def test_a_representative_keeps_their_stake_in(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    await city.seal(*(city.sign(key, candidacy(10 + at)) for at, key in enumerate(PEOPLE[:6])))
    # Before the closing anybody leaves; from then on nobody who stands does.
    await city.seal_until(5)
    assert await city.seal(city.sign(ANNA, withdrawal(10))) == [""]
    codes = await city.seal(*(city.sign(key, withdrawal(10 + at)) for at, key in
                              enumerate(PEOPLE[:6]) if at))  # fmt: skip
    assert codes == ["SERVING"] * 5
    await city.seal_until(8)
    elected = {seat.key_id for seat in city.checkpoint(8).next_committee or ()}
    assert len(elected) == 3
    codes = await city.seal(*(city.sign(key, withdrawal(10 + at)) for at, key in
                              enumerate(PEOPLE[:6]) if at))  # fmt: skip
    assert codes == ["SERVING" if id_of(key) in elected else "" for key in PEOPLE[1:6]]


async def test_an_excluded_key_loses_its_stake_and_its_place(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(ANNA, candidacy(30))) == [""]
    proof = city.sign(OPERATOR, equivocation(ANNA, city.genesis.id))
    # Even in the round of the proof.
    assert await city.seal(city.sign(ANNA, withdrawal(30)), proof) == ["EXCLUDED", ""]
    assert await city.candidates() == {}
    codes = await city.seal(
        city.sign(ANNA, withdrawal(30)),
        city.sign(ANNA, candidacy(30)),
        city.sign(ANNA, data()),
    )
    assert codes == ["EXCLUDED", "EXCLUDED", ""]
    assert city.balances()[stake_account(id_of(ANNA))] == 30


@pytest.mark.parametrize("seed", range(4))
async def test_no_money_comes_or_goes_whatever_is_sent(new_city: NewCity, seed: int) -> None:
    city = new_city(**SMALL, candidates_max=5)
    choose = random.Random(seed)
    total = sum(city.balances().values())
    seen: set[str] = set()
    sent: list[bytes] = []
    for _ in range(30):
        batch = []
        for _ in range(choose.randint(1, 8)):
            key = choose.choice(PEOPLE[:8])
            amount = choose.choice([1, 9, 10, 20, 60, 90])
            to = choose.choice([id_of(PEOPLE[0]), stake_account(id_of(PEOPLE[1]))])
            action = choose.choice([candidacy, withdrawal, lambda n, to=to: transfer(to, n)])
            depends_on = choose.choices([*sent[-5:], bytes(32)]) if choose.random() < 0.2 else []
            signed = city.sign(key, action(amount), depends_on=depends_on)
            sent.append(signed.tx_id)
            batch.append(signed)
        if choose.random() < 0.2:
            batch.append(city.sign(OPERATOR, equivocation(choose.choice(PEOPLE), city.genesis.id)))
        seen |= set(await city.seal(*batch))
        candidates = await city.candidates()
        assert all(stake >= 10 for stake in candidates.values())
        assert len(candidates) <= 5
        balances = city.balances()
        assert sum(balances.values()) == total
        for key, stake in candidates.items():
            assert balances[stake_account(key)] >= stake
    print(seen)
    assert {"", "HELD", "OVERDRAFT", "NO_STAKE", "STAKE_TOO_SMALL"} <= seen


async def test_members_without_a_stake_have_none_to_withdraw(new_city: NewCity) -> None:
    city = new_city(**SMALL)
    assert await city.seal(city.sign(MEMBERS[0], withdrawal(1))) == ["NO_STAKE"]
