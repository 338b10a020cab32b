"""All kinds of transactions at random, many of them wrong, some waiting for what never comes.

As a program it prints the last checkpoint's hash: ``python -m consensus.traffic SEED``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter

from consensus.model_city import (
    EAST,
    MEMBERS,
    OPERATOR,
    PEOPLE,
    SOUTH,
    WEST,
    WITNESSED,
    WITNESSES,
    ModelCity,
    candidacy,
    data,
    equivocation,
    id_of,
    recovery,
    transfer,
    withdrawal,
    witness,
)

from citychain._native.transactions import Transaction
from citychain.compute import Executor
from citychain.types import Seat

OPTIONS = WITNESSED | {
    "epoch_rounds": 6,
    "seed_rounds": 2,
    "seed_hashes": 3,
    "seats": 3,
    "stake_min": 5,
    "candidates_max": 4,
    "validity_rounds": 9,
    "speed_max_mps": 5_000,
}


def some(city: ModelCity, choose: random.Random) -> Transaction:
    """One transaction."""
    key = choose.choice(PEOPLE[:6])
    depends_on = []
    if choose.random() < 0.3:
        unknown = [bytes([choose.randrange(250)] * 32) for _ in range(8)]
        sealed = [item.tx_id for it in city.rounds[-2:] for item in it.transactions]
        depends_on = [choose.choice([*sealed, *unknown])]
    if choose.random() < 0.4:
        first = max(0, city.head.round - choose.randrange(3))
        return city.presence(
            key,
            SOUTH + choose.randrange(1_000_000),
            choose.randrange(WEST, EAST + 100_000),
            first_round=first,
            last_round=first + choose.randrange(1, 6),
            by=choose.sample(WITNESSES, choose.randrange(1, 4)),
            depends_on=depends_on,
        )
    amount = choose.choice([1, 5, 6, 30, 90])
    seat = Seat(id_of(choose.choice(MEMBERS)), 1)
    accused = [*PEOPLE[3:], *MEMBERS]
    since = choose.randrange(max(1, city.head.round - 2), city.head.round + 2)
    action = choose.choice(
        [
            data(),
            transfer(id_of(choose.choice(PEOPLE)), amount),
            candidacy(amount),
            candidacy(amount),
            withdrawal(amount),
            witness(choose.choice(WITNESSES), revoked=choose.random() < 0.2),
            equivocation(choose.choice(accused), city.genesis.id, choose.choice([1, 2])),
            recovery(since, city.hashes[since - 1], seat) if choose.random() < 0.3 else data(),
        ]
    )
    author = OPERATOR if {"witness", "recovery"} & action.keys() and choose.random() < 0.8 else key
    return city.sign(author, action, depends_on=depends_on)


async def drive(city: ModelCity, seed: int, rounds: int) -> Counter[str]:
    """Seal rounds of random transactions; how often each code was given."""
    choose = random.Random(seed)
    codes = Counter(await city.seal(*(city.sign(OPERATOR, witness(it)) for it in WITNESSES)))
    for _ in range(rounds):
        batch = [some(city, choose) for _ in range(choose.randrange(12))]
        codes.update(await city.seal(*batch))
    return codes


async def _main(seed: int) -> None:
    async with Executor(2) as compute:
        city = ModelCity(compute, **OPTIONS)
        codes = await drive(city, seed, 25)
        print(city.hashes[-1].hex(), sum(codes.values()))


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
