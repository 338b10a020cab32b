"""DAG tests: a decision follows from what was asked, and from nothing else.

Whoever verifies a city asks another instance, in another process, later, and must be told the same.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from citychain._native.transactions import decode_batch
from citychain.errors import InvalidRound
from citychain.ports import DagHandler
from citychain.testing.conformance._dag_city import DagCity, Part, difference
from citychain.testing.conformance._dag_ledger import Question
from citychain.testing.conformance._dag_view import View
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._purity import InTurn, impurities
from citychain.types import Decision

__all__ = ["PurityTests"]

ROUNDS = 8


class PurityTests:
    """Part of `DagSuite`."""

    async def test_what_it_is_given_is_left_as_it_is(self, city: DagCity) -> None:
        traffic = city.traffic(20)
        async with city.rule() as rule:
            for _ in range(ROUNDS):
                batch = traffic.batch(12)
                asked, view = self._refusing(city, batch), View(city.rounds.storage)
                given = copy.copy((asked.candidates, asked.held_since, asked.refused))
                before = [copy.copy(each) for each in given]
                decision = await city.ask(rule, asked, view)
                for what, now, then in zip(
                    ("candidates", "held_since", "refused"), given, before, strict=True
                ):
                    assert now == then, f"the rule changed `{what}`, which is its caller's"
                view.check_unchanged()
                await city.commit(decision, batch)

    def _refusing(self, city: DagCity, batch: list[Any]) -> Question:
        for item in batch[::5]:
            city.refuse(item.tx_id)
        return city.question(batch)

    async def test_lists_tuples_and_other_mappings_are_alike(self, city: DagCity) -> None:
        async def asked_otherwise(rule: DagHandler, asked: Question) -> Decision:
            return await city.ask(
                rule,
                Question(
                    asked.round,
                    tuple(asked.candidates),
                    tuple(asked.held_since),
                    MappingProxyType(dict(reversed([*asked.refused.items()]))),
                ),
            )

        await self._compare(city, 21, asked_otherwise, "given tuples instead of lists")

    async def test_asking_twice_gives_the_same(self, city: DagCity) -> None:
        await self._compare(city, 22, city.ask, "when it was asked a second time")

    async def test_the_order_of_a_mapping_s_entries_says_nothing(self, city: DagCity) -> None:
        async def asked_in_another_order(rule: DagHandler, asked: Question) -> Decision:
            view = View(city.rounds.storage, order=random.Random(asked.round.round), turns=1)
            refused = dict(reversed([*asked.refused.items()]))
            other = Question(asked.round, asked.candidates, asked.held_since, refused)
            return await city.ask(rule, other, view)

        said = "when the entries of the ledger's mappings came in another order"
        await self._compare(city, 23, asked_in_another_order, said)

    async def test_another_instance_comes_to_the_same(self, city: DagCity) -> None:
        """It knows nothing of the rounds before, and has no key and no storage."""

        async def asked_anew(rule: DagHandler, asked: Question) -> Decision:
            async with city.rule() as other:
                return await city.ask(other, asked)

        await self._compare(city, 24, asked_anew, "when an instance was asked that is new")

    async def test_equal_transactions_are_the_same_transaction(self, city: DagCity) -> None:
        async def asked_about_copies(rule: DagHandler, asked: Question) -> Decision:
            copies = decode_batch([item.envelope for item in asked.candidates])
            other = Question(asked.round, copies, list(asked.held_since), dict(asked.refused))
            return await city.ask(rule, other)

        said = "when the transactions were other objects with the same content"
        await self._compare(city, 25, asked_about_copies, said)

    async def _compare(
        self,
        city: DagCity,
        seed: int,
        again: Callable[[DagHandler, Question], Any],
        when: str,
    ) -> None:
        traffic = city.traffic(seed)
        async with city.rule(server=True) as rule:
            for _ in range(ROUNDS):
                batch = traffic.batch(14)
                asked = self._refusing(city, batch)
                decision = await city.ask(rule, asked)
                differs = difference(decision, await again(rule, asked))
                assert differs is None, f"{when}, {differs}"
                await city.commit(decision, batch)

    async def test_nothing_is_remembered_of_what_was_asked_before(
        self, new_city: Callable[..., DagCity]
    ) -> None:
        """Transactions come and go at the same addresses, also those of rounds that came to
        nothing."""
        city = new_city()
        async with city.rule() as rule:
            await city.seal(rule, [city.note(number % 3) for number in range(3)])
            for seed in range(30):
                batch = city.traffic(seed).batch(6)
                asked = city.question(batch)
                decision = await city.ask(rule, asked)
                async with city.rule() as other:
                    differs = difference(await city.ask(other, asked), decision)
                assert differs is None, (
                    f"after {seed + 1} rounds that were decided and not committed, {differs}, "
                    "where an instance that is new says the former"
                )
                del batch, asked, decision

    async def test_it_reads_no_clock_no_chance_no_file(self, part: Part) -> None:
        compute = InTurn()
        city = DagCity(part, compute)
        traffic = city.traffic(26)
        async with city.rule(compute=compute) as rule:
            for _ in range(4):
                batch = traffic.batch(10)
                # Twice, since the first time may load what it needs.
                await city.ask(rule, batch)
                with impurities() as found:
                    decision = await city.ask(rule, batch)
                assert not found, (
                    f"the rule calls {found[0]}: who verifies the round has another answer; "
                    "round.time_ms is the only time, and what differs must come from the genesis"
                )
                await city.commit(decision, batch)

    async def test_validity_goes_by_no_other_time(self, city: DagCity) -> None:
        """Rounds are in 2001, and then in 2096; what has expired says the model."""
        traffic = city.traffic(27)
        async with city.rule() as rule:
            for _ in range(6):
                await city.seal(rule, traffic.batch(12))
            city.rounds.time_ms += 3_000_000_000_000
            await city.seal(rule, traffic.batch(12))

    async def test_its_options_are_pinned_by_the_genesis(self, part: Part, city: DagCity) -> None:
        pinned = json.loads(city.rounds.genesis.file)["rule_options"]
        again = part.definition.options.model_validate(pinned)
        assert again == part.options, (
            f"the options {part.options!r} come back from a genesis as {again!r}: who follows the "
            "city would go by other options"
        )

        async def asked_by_the_genesis(rule: DagHandler, asked: Question) -> Decision:
            async with city.rule(options=again) as other:
                return await city.ask(other, asked)

        await self._compare(city, 28, asked_by_the_genesis, "with the options of the genesis")

    async def test_another_process_comes_to_the_same(
        self, city: DagCity, elsewhere: Elsewhere
    ) -> None:
        traffic = city.traffic(29)
        async with city.rule() as rule:
            for _ in range(10):
                await city.seal(rule, traffic.batch(16))
        elsewhere.agrees("\n".join(self._lines(city)))

    def _lines(self, city: DagCity) -> list[str]:
        """The ledger in words, so that a difference can be read."""
        lines = []
        for played in city.rounds.played:
            sealed = played.sealed
            columns = zip(sealed.transactions, sealed.verdicts, sealed.parents, strict=True)
            for item, verdict, parents in columns:
                code = verdict.code if verdict else "APPROVED"
                places = [(parent.round, parent.seq) for parent in parents]
                lines.append(f"{sealed.round} {item.tx_id.hex()[:12]} {code} {places}")
            lines.append(f"{sealed.round} {sealed.checkpoint_hash.hex()}")
        return lines

    async def test_a_replay_of_the_whole_city_agrees(self, city: DagCity) -> None:
        traffic = city.traffic(30)
        async with city.rule(server=True) as rule:
            for _ in range(20):
                batch = traffic.batch(10)
                for item in batch[::7]:
                    city.refuse(item.tx_id)
                await city.seal(rule, batch)
        try:
            await city.replay()
        except InvalidRound as error:
            pytest.fail(
                f"another instance, given the rounds as published, does not come to them: {error}. "
                "Candidates that are new stand there in the order in which the rule sealed them",
                pytrace=False,
            )

    async def test_cities_that_are_decided_at_once_do_not_mix(
        self, new_city: Callable[..., DagCity]
    ) -> None:
        cities = [new_city(city=f"city-{number}", hold_rounds=2 + number) for number in range(3)]

        async def live(city: DagCity, seed: int) -> list[str]:
            traffic = city.traffic(seed)
            async with city.rule() as rule:
                for _ in range(6):
                    batch = traffic.batch(8)
                    view = View(city.rounds.storage, turns=3)
                    decision = await city.ask(rule, batch, view)
                    await city.commit(decision, batch)
            return self._lines(city)

        together = await asyncio.gather(*(live(city, 40) for city in cities))
        for number in range(3):
            alone = new_city(city=f"city-{number}", hold_rounds=2 + number)
            assert await live(alone, 40) == together[number], (
                "a city's rounds came out differently while others were decided"
            )
