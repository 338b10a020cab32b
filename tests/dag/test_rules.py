"""The built-in rules: what anybody who has the records computes again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from citychain import checkpoint, record
from citychain._native import link
from citychain._native.transactions import Transaction, decode_batch
from citychain.city.directory import CityDirectory
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.dag.dependencies_only import DependenciesOnly
from citychain.dag.random_tips import RandomTips, RandomTipsOptions
from citychain.dag.sealed_rounds import SealedRounds
from citychain.genesis import Genesis, Representative
from citychain.handler import CityHandler
from citychain.ports import CityContext, RoundContext, StateView
from citychain.statements import HoldingRules
from citychain.types import NodeRef, Rejection, SealedNode, State

RULES = {
    "sealed-rounds": lambda city: SealedRounds(city),
    "dependencies-only": lambda city: DependenciesOnly(city),
    "random-tips": lambda city: RandomTips(RandomTipsOptions(), city),
}
KEYS = [SigningKey(bytes([number]) * 32) for number in range(5)]


class Replayed:
    """A `StateView` of what was replayed so far, kept in the simplest way."""

    def __init__(self) -> None:
        self.rounds: dict[int, Sequence[SealedNode]] = {}

    def _all(self) -> list[SealedNode]:
        return [node for number in sorted(self.rounds) for node in self.rounds[number]]

    async def objects(self, objects: Sequence[str]) -> dict[str, Any]:
        raise NotImplementedError("parents do not depend on objects")

    async def find(self, tx_ids: Sequence[bytes]) -> dict[bytes, SealedNode]:
        return {node.tx_id: node for node in self._all() if node.tx_id in set(tx_ids)}

    async def latest(self, authors: Sequence[bytes]) -> dict[bytes, NodeRef]:
        return {
            node.author: node.ref
            for node in self._all()
            if node.rejection is None and node.author in set(authors)
        }

    async def tips(self) -> Sequence[NodeRef]:
        for number in sorted(self.rounds, reverse=True):
            if linked := [n.ref for n in self.rounds[number] if n.rejection is None]:
                return linked
        return []

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        return self.rounds.get(round, ())

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        return {}


async def _live(directory: CityDirectory, seed: int) -> CityHandler:
    """A city with a few rounds of entangled transactions."""
    city = await directory.handler("tokyo")
    choose = random.Random(seed)
    sent: list[bytes] = []
    for number in range(6):
        batch = []
        for index in range(choose.randint(1, 12)):
            depends_on = choose.sample(sent, min(len(sent), choose.randint(0, 3)))
            if not choose.randrange(6):
                depends_on.append(bytes([number, index]) * 16)
            signed = sign_transaction(
                choose.choice(KEYS),
                genesis=city.genesis.id,
                data=b"x",
                writes={f"o{choose.randrange(4)}": 0} if not choose.randrange(3) else {},
                depends_on=depends_on,
                with_public_key=True,
            )
            sent.append(signed.tx_id)
            batch.append(signed)
        await city.submit([signed.envelope for signed in batch])
        waits = [signed.tx_id for signed in batch]
        if number % 2:
            async for _ in city.watch_transactions(waits, State.SEALED):
                break
    async for _ in city.watch_transactions(sent, State.APPROVED):
        pass
    return city


class RefusesData(SealedRounds):
    """A city that takes payments alone."""

    def validate(self, transaction: Transaction, round: RoundContext) -> Rejection | None:
        return Rejection("RULE", "data") if transaction.action == "data" else None


class Nothing(Replayed):
    """A ledger before its first round."""

    async def objects(self, objects: Sequence[str]) -> dict[str, Any]:
        return {}


async def test_a_citys_rule_is_not_asked_about_what_its_operator_states() -> None:
    """Or a city could be neither archived nor paid; others' statements are for the rule."""
    operator, other = KEYS[:2]
    public_key = operator.public_key.hex()
    genesis = Genesis(
        network="test",
        city="tokyo",
        rule="refuses-data/1",
        consensus="solo/1",
        operator=public_key,
        committee=(Representative(public_key=public_key),),
    )
    sent = [
        sign_transaction(key, genesis=genesis.id, data=data, content_type=content_type)
        for key in (operator, other)
        for data in (HoldingRules().encode(), b"{}")
        for content_type in (HoldingRules.CONTENT_TYPE, "application/json")
    ]
    candidates = decode_batch([signed.envelope for signed in sent])
    first = RoundContext(genesis.id, 1, 1, bytes(32), genesis.id, genesis.id)
    async with Executor(1) as compute:
        rule = RefusesData(CityContext("tokyo", genesis, compute, SystemClock(), operator))
        decision = await rule.decide(first, candidates, [0] * len(sent), {}, Nothing())
    verdicts = dict(zip((it.tx_id for it in decision.order), decision.verdicts, strict=True))
    assert [verdicts[signed.tx_id] is None for signed in sent] == [True] + [False] * 7


@pytest.mark.parametrize("rule", RULES)
async def test_another_instance_computes_the_same_nodes_from_the_records(
    rule: str, tmp_path: Path
) -> None:
    create_key(tmp_path / "operator.key")
    settings = Settings(
        data_dir=tmp_path / "data",
        operator_key=tmp_path / "operator.key",
        pacer={"min_seconds": 0.01, "max_seconds": 0.03},
        cities={"tokyo": {"storage": "memory", "dag": rule, "num_hashes": 1}},
        plugins={"allow": ()},
    )
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with (
        open_directory(CoreContainer(settings=settings)) as directory,
        Executor() as compute,
    ):
        city = await _live(directory, seed)
        context = CityContext("tokyo", city.genesis, compute, SystemClock(), KEYS[0])
        handler = RULES[rule](context)
        replayed = Replayed()
        root = _empty_root()
        linked = 0
        for stored in await city.storage.rounds(1, 1_000):
            decoded = record.decode(stored.record)
            raw = await city.storage.raw(decoded.tx_ids)
            order = decode_batch([raw[tx_id].envelope for tx_id in decoded.tx_ids])
            approved = [verdict is None for verdict in decoded.verdicts]
            parents = await handler.parents(
                RoundContext(
                    city.genesis.id, stored.round, stored.time_ms, root, bytes(32), bytes(32)
                ),
                order,
                approved,
                await replayed.find([t for item in order for t in item.depends_on]),
                _view(replayed),
            )
            node_ids = link.node_ids(
                rule=city.genesis.rule,
                genesis=city.genesis.id,
                round=stored.round,
                tx_ids=decoded.tx_ids,
                parents=parents,
                approved=approved,
            )
            nodes = await city.storage.round_nodes(stored.round)
            assert [node.node_id for node in nodes] == node_ids
            for node in nodes:
                assert all(
                    (parent.round, parent.seq) < (node.round, node.seq) for parent in node.parents
                )
                assert len({parent.node_id for parent in node.parents}) == len(node.parents) <= 8
                linked += node.rejection is None
            replayed.rounds[stored.round] = nodes
            root = checkpoint.decode(stored.checkpoint).root
        assert linked


def _view(replayed: Replayed) -> StateView:
    return replayed


def _empty_root() -> bytes:
    from citychain.crypto import merkle

    return merkle.Tree().root()
