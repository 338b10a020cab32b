"""The rounds that the suites of DAG handlers and consensus steps are driven by."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from citychain.compute import Executor
from citychain.consensus.solo import Solo, SoloOptions
from citychain.dag.dependencies_only import DependenciesOnly
from citychain.dag.sealed_rounds import SealedRounds
from citychain.errors import InvalidRound
from citychain.testing.conformance._rounds import (
    AUTHORS,
    OPERATOR,
    Rounds,
    Traffic,
    new_genesis,
    ordinary,
)


@pytest.fixture
async def rounds() -> AsyncIterator[Rounds]:
    async with Executor(2) as compute:
        yield Rounds(new_genesis(), compute)


async def _drive(rounds: Rounds, count: int, seed: int) -> Counter[str]:
    dag = SealedRounds(rounds.context())
    step = Solo(SoloOptions(), rounds.context(operator=OPERATOR))
    traffic = Traffic(rounds, seed)
    codes: Counter[str] = Counter()
    for _ in range(count):
        played = await rounds.seal(dag, step, traffic.batch(10))
        codes.update(verdict.code if verdict else "" for verdict in played.sealed.verdicts)
        codes["HELD"] += len(played.sealed.held)
    return codes


async def test_random_traffic_meets_every_rule(rounds: Rounds) -> None:
    codes = await _drive(rounds, 20, seed=1)
    assert min(codes.values()) >= 3
    assert codes.keys() >= {
        "",
        "HELD",
        "CONFLICT",
        "DEPENDENCY_MISSING",
        "DEPENDENCY_REJECTED",
        "EXPIRED",
        "OVERDRAFT",
    }


async def test_the_same_seed_gives_the_same_ledger(rounds: Rounds) -> None:
    async with Executor(1) as compute:
        again = Rounds(new_genesis(), compute)
        assert await _drive(rounds, 5, seed=2) == await _drive(again, 5, seed=2)
    assert rounds.round == again.round


async def test_rounds_are_repeated_by_the_same_parts_and_by_no_others(rounds: Rounds) -> None:
    await _drive(rounds, 8, seed=3)
    step = Solo(SoloOptions(), rounds.context())
    await rounds.replay(SealedRounds(rounds.context()), step)
    with pytest.raises(InvalidRound, match="root"):
        await rounds.replay(DependenciesOnly(rounds.context()), step)


async def test_a_crowd_has_as_many_as_were_asked_for(rounds: Rounds) -> None:
    crowd = rounds.sign.crowd(5_000, ordinary)
    assert len({item.tx_id for item in crowd}) == 5_000
    assert len({item.author for item in crowd}) == len(AUTHORS)
