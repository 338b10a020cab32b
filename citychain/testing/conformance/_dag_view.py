"""What a rule may look at, and nothing else: the ledger, through a window that keeps watch."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

from citychain.errors import StorageError
from citychain.ports import StateView
from citychain.types import NodeRef, ObjectState, SealedNode

__all__ = ["Clockless", "View"]

OFFERED = ("objects", "find", "latest", "tips", "round_nodes", "checkpoint_hashes")


class View:
    """A `StateView` in front of the ledger.

    Args:
        turns: How often the event loop goes round before an answer comes.
        order: Gives the entries of mappings in a random order.
        failing: The call, counted from 1, that fails.
    """

    def __init__(
        self,
        state: StateView,
        *,
        turns: int = 0,
        order: random.Random | None = None,
        failing: int | None = None,
    ) -> None:
        self._state = state
        self._turns = turns
        self._order = order
        self._failing = failing
        self._answers: list[tuple[str, object, object]] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(
            f"the rule uses state.{name}: who repeats the round has a StateView, which offers "
            f"{', '.join(OFFERED)}"
        )

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `StateView.objects`."""
        answer: Mapping[str, ObjectState] = await self._mapping("objects", objects, str)
        return answer

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `StateView.find`."""
        answer: Mapping[bytes, SealedNode] = await self._mapping("find", tx_ids, bytes)
        return answer

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `StateView.latest`."""
        answer: Mapping[bytes, NodeRef] = await self._mapping("latest", authors, bytes)
        return answer

    async def tips(self) -> Sequence[NodeRef]:
        """See `StateView.tips`."""
        await self._wait("tips")
        answer = list(await self._state.tips())
        self._note("tips", answer)
        return answer

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `StateView.round_nodes`."""
        assert isinstance(round, int), f"the rule calls state.round_nodes({round!r}): not a number"
        await self._wait("round_nodes")
        answer = list(await self._state.round_nodes(round))
        self._note("round_nodes", answer)
        return answer

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        answer: Mapping[int, bytes] = await self._mapping("checkpoint_hashes", rounds, int)
        return answer

    def check_unchanged(self) -> None:
        """Fail if the rule changed what it was given."""
        for name, given, before in self._answers:
            assert given == before, (
                f"the rule changed what state.{name} had answered: others are given the same "
                "object, so it must be left as it is"
            )

    async def _mapping(self, name: str, asked: Any, of: type) -> Any:
        is_sequence = isinstance(asked, Sequence) and not isinstance(asked, (str, bytes))
        assert is_sequence, (
            f"the rule calls state.{name} with a {type(asked).__name__}: it takes a sequence, in "
            "an order that is the same for everybody"
        )
        for key in asked:
            assert isinstance(key, of), f"the rule asks state.{name} for {key!r}, no {of.__name__}"
        await self._wait(name)
        entries = list((await getattr(self._state, name)(asked)).items())
        if self._order is not None:
            self._order.shuffle(entries)
        answer = dict(entries)
        self._note(name, answer)
        return answer

    async def _wait(self, name: str) -> None:
        self.calls += 1
        for _ in range(self._turns):
            await asyncio.sleep(0)
        if self.calls == self._failing:
            raise StorageError(f"state.{name} fails on purpose")

    def _note(self, name: str, answer: object) -> None:
        self._answers.append((name, answer, copy.deepcopy(answer)))


class Clockless:
    """A `citychain.ports.Clock` that nobody may ask."""

    def __init__(self) -> None:
        self.asked = False

    def time_ms(self) -> int:
        """Fails."""
        raise self._fault("time_ms")

    def monotonic(self) -> float:
        """Fails."""
        raise self._fault("monotonic")

    async def sleep(self, seconds: float) -> None:
        """Fails."""
        raise self._fault("sleep")

    def _fault(self, name: str) -> AssertionError:
        self.asked = True
        return AssertionError(
            f"the rule called city.clock.{name}: the only time that it may use is round.time_ms"
        )
