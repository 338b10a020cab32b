"""What is between cities, and rewards, is for rules that settle it; others never approve it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from exchange.aloof import Aloof
from exchange.towns import AUTHORS, OPERATOR, Town, town_genesis

from citychain.client.actions import Transfer
from citychain.compute import Executor
from citychain.dag.dependencies_only import DependenciesOnly
from citychain.dag.random_tips import RandomTips
from citychain.dag.sealed_rounds import SealedRounds
from citychain.genesis import balance_object, escrow_account
from citychain.ports import SETTLED_ACTIONS, settled_actions
from citychain.types import Anchor, Delivery, Peer, Rejection, Reward, Settlement

ANNA, BEN = AUTHORS[:2]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


def told(other: bytes) -> list[Any]:
    return [
        Peer(town_genesis("beppu").file),
        Delivery(other, bytes(32), "gold", bytes(32), 1, b"proof"),
        Settlement(bytes(32), bytes(32), other, "gold", 1, False, b"proof"),
        Anchor(other, bytes(42), b"proof"),
        Reward(1, "gold", bytes(32), 1),
    ]


async def test_a_rule_that_settles_none_is_given_none(compute: Executor) -> None:
    beppu = town_genesis("beppu")
    town = Town("aomori", compute, [beppu])
    town.dag = Aloof(town.rounds.context())
    other = Town("beppu", compute)
    new = [town.remittance(ANNA, other, BEN, 5)]
    new += [town.sign(OPERATOR, action) for action in told(other.id)]
    assert await town.close(*new) == [
        Rejection("UNSUPPORTED_ACTION", f"this city's rule knows no {item.action}") for item in new
    ]
    assert {item.action for item in new} == SETTLED_ACTIONS
    assert town.rounds.played[-1].sealed.writes == []
    assert await town.codes(town.sign(ANNA, Transfer("gold", bytes(32), 5))) == [""]


async def test_the_ledgers_rules_move_what_is_sent(compute: Executor) -> None:
    beppu = town_genesis("beppu")
    town = Town("aomori", compute, [beppu])
    assert await town.codes(town.remittance(ANNA, Town("beppu", compute), BEN, 5)) == [""]
    escrow = await town.value(balance_object("gold", escrow_account(beppu.id)))
    assert escrow == (5).to_bytes(8, "big")


def test_whoever_does_not_say_so_settles_nothing() -> None:
    class Mock:
        def __getattr__(self, name: str) -> object:
            return self

    class Some(Aloof):
        settles = frozenset(("peer", "transfer"))

    mock: Any = Mock()
    assert settled_actions(mock) == frozenset()
    assert settled_actions(Some.__new__(Some)) == {"peer"}
    for rule in (SealedRounds, DependenciesOnly, RandomTips):
        assert settled_actions(rule.__new__(rule)) == SETTLED_ACTIONS
