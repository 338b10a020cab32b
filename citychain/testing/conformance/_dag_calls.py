"""DAG tests: what a caller may do to it, and residents too."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from citychain.client.actions import Transfer
from citychain.testing.conformance._dag_city import DagCity, Part, difference, entered
from citychain.testing.conformance._dag_view import View
from citychain.testing.conformance._hostile import each_is_survived, hostile_data
from citychain.testing.conformance._purity import InTurn
from citychain.testing.conformance._rounds import id_of
from citychain.types import Decision

__all__ = ["CallTests"]

TURNS_MAX = 2_000
"""Turns of the event loop after which a decision without any real wait must be there."""


class CallTests:
    """Part of `DagSuite`."""

    big_batch: ClassVar[int]

    async def test_cancelling_it_anywhere_leaves_it_usable(self, part: Part) -> None:
        compute = InTurn()
        city = DagCity(part, compute)
        traffic = city.traffic(50)
        async with city.rule(compute=compute) as rule:
            for _ in range(3):
                await city.seal(rule, traffic.batch(8))
            asked = city.question(traffic.batch(8))
            expected = await city.ask(rule, asked)
            for turn in range(TURNS_MAX):
                view = View(city.rounds.storage, turns=1)
                task = asyncio.ensure_future(city.ask(rule, asked, view))
                for _ in range(turn):
                    await asyncio.sleep(0)
                done = task.done()
                task.cancel()
                try:
                    decided: Decision | None = await task
                except asyncio.CancelledError:
                    decided = None
                again = await asyncio.wait_for(city.ask(rule, asked), 60)
                for decision in filter(None, (decided, again)):
                    differs = difference(expected, decision)
                    assert differs is None, f"after a call was cancelled at turn {turn}, {differs}"
                if done:
                    return
        pytest.fail("a decision takes thousands of turns of the event loop without any real wait")

    async def test_an_error_of_the_ledger_is_no_answer(self, city: DagCity) -> None:
        """A decision that was made without it would be another one the next time."""
        traffic = city.traffic(51)
        async with city.rule() as rule:
            for _ in range(3):
                await city.seal(rule, traffic.batch(10))
            asked = city.question(traffic.batch(10))
            view = View(city.rounds.storage)
            expected = await city.ask(rule, asked, view)
            for call in range(1, view.calls + 1):
                try:
                    await city.ask(rule, asked, View(city.rounds.storage, failing=call))
                except AssertionError:
                    raise
                except Exception:
                    # Whatever it is, the round is asked for again.
                    pass
                else:
                    pytest.fail(
                        f"call {call} of the ledger failed, and the rule decided all the same: "
                        "let the error through",
                        pytrace=False,
                    )
                differs = difference(expected, await city.ask(rule, asked))
                assert differs is None, f"after call {call} of the ledger had failed, {differs}"

    async def test_nothing_that_residents_write_makes_it_fail(self, city: DagCity) -> None:
        batch = [
            city.rounds.sign(city.part.authors[number % 3], data)
            for number, data in enumerate(hostile_data())
        ]
        keys = city.part.authors
        odd = [("a", 1), ("-" * 32, 1), ("0", (1 << 64) - 1)]
        batch += [
            city.rounds.sign(keys[0], Transfer(asset, id_of(keys[1]), amount))
            for asset, amount in odd
        ]
        batch += [city.note(writes={name: 0}) for name in ("x" * 128, "\U0001f3d9", "a/../b")]
        async with city.rule() as rule:
            await each_is_survived(batch, lambda one: city.ask(rule, [one]), "the rule", "reject")
            await city.seal(rule, batch)

    def test_any_event_loop_will_do(self, part: Part) -> None:
        """It is made where no loop runs, and asked in one that runs in another thread."""

        def decided() -> Decision:
            compute = InTurn()
            city = DagCity(part, compute)
            made = city.make(compute=compute)

            async def ask() -> Decision:
                async with entered(made) as rule:
                    return await city.ask(rule, city.traffic(52).batch(12))

            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return runner.run(ask())

        here = decided()
        with ThreadPoolExecutor(1) as threads:
            there = threads.submit(decided).result()
        differs = difference(here, there)
        assert differs is None, f"in the event loop of another thread {differs}"

    async def test_a_round_of_very_many(self, city: DagCity) -> None:
        """Prints how long it took; how long it may take is the operator's to say."""
        crowd = city.rounds.sign.crowd(self.big_batch, city.part.ordinary, city.part.authors)
        async with city.rule() as rule:
            await city.seal(rule, [city.note(number % 3) for number in range(3)])
            asked = city.question(crowd)
            begun = time.perf_counter()
            decision = await asyncio.wait_for(
                rule.decide(
                    asked.round,
                    asked.candidates,
                    asked.held_since,
                    asked.refused,
                    View(city.rounds.storage),
                ),
                600,
            )
            print(f"{len(crowd)} candidates decided in {time.perf_counter() - begun:.2f} s")
            city.model.check(asked, decision)

    async def test_one_that_is_left_leaves_the_others_alone(self, city: DagCity) -> None:
        made = city.make()
        if not isinstance(made, AbstractAsyncContextManager):
            pytest.skip("the rule is no async context manager: it is neither entered nor left")
        asked = city.question([city.note(number % 3) for number in range(4)])
        async with city.rule() as rule:
            expected = await city.ask(rule, asked)
            async with made as other:
                assert difference(expected, await city.ask(other, asked)) is None
            differs = difference(expected, await city.ask(rule, asked))
            assert differs is None, f"after another instance was left, {differs}"
