"""What stands between a consensus step and a city, to see what it does: a clock that hurries,
keys that remember what they signed, a storage that lets others have their turn, or fails.

All of it keeps to one event loop without threads and without waiting. A test gives a step some
turns of the loop (`settled`) before it says that something did not happen. What must happen may
take its time (`comes`): the step may ask a signer or a server.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from citychain.checkpoint import VOTE_CONTEXT
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import StorageError
from citychain.ports import CityStorage, StateView
from citychain.testing.clock import FakeClock
from citychain.types import NodeRef, ObjectState, SealedNode

__all__ = [
    "Behind",
    "HurriedClock",
    "InTime",
    "OnlyState",
    "Signed",
    "TurningStorage",
    "WatchedKey",
    "cancelled_at_each_await",
    "comes",
    "ended",
    "settled",
]

T = TypeVar("T")

TURNS: Final = 300
"""Turns of the loop in which whatever waits for nothing outside has happened."""
SECONDS: Final = 120
"""For what must end; a machine may be busy."""
WAITS: Final = frozenset(("approve",))
"""What may take as long as it takes."""


class HurriedClock(FakeClock):
    """A clock that nobody waits for: who sleeps moves it on."""

    async def sleep(self, seconds: float) -> None:
        """Be then."""
        await self.advance(max(seconds, 0.0))


# --- keys


class Signed:
    """What all keys of a city signed, in whichever instance of the step."""

    def __init__(self) -> None:
        self.votes: defaultdict[tuple[bytes, int], set[bytes]] = defaultdict(set)
        """Hashes of checkpoints by key id and round."""

    def note(self, key: bytes, message: bytes, context: bytes) -> None:
        """A key signs."""
        if context == VOTE_CONTEXT and len(message) == 72:
            self.votes[key, int.from_bytes(message[32:40], "big")].add(message[40:])

    def check(self) -> None:
        """No key may sign two checkpoints of one round, ever."""
        twice = [round for (_, round), hashes in self.votes.items() if len(hashes) > 1]
        assert not twice, (
            f"a key signed two checkpoints of round {min(twice)}: whoever holds both votes can "
            "prove that it lied. Sign the checkpoint that the storage has, and no other: compare "
            "with CityStorage.checkpoint_hashes before signing"
        )


class WatchedKey:
    """A `SigningKey` whose signatures are noted."""

    def __init__(self, key: SigningKey, signed: Signed) -> None:
        self._key = key
        self._id = key_id(key.public_key)
        self._signed = signed

    @property
    def public_key(self) -> bytes:
        """As of the key."""
        return self._key.public_key

    def sign(self, message: bytes, context: bytes, *, deterministic: bool = False) -> bytes:
        """As by the key."""
        self._signed.note(self._id, message, context)
        return self._key.sign(message, context, deterministic=deterministic)

    def sign_batch(
        self, messages: Sequence[bytes], context: bytes, *, deterministic: bool = False
    ) -> list[bytes]:
        """As by the key."""
        for message in messages:
            self._signed.note(self._id, message, context)
        return self._key.sign_batch(messages, context, deterministic=deterministic)


# --- storage


class TurningStorage:
    """In front of a storage: each call takes two turns of the loop, and some calls fail.

    Args:
        fails: Numbers of the calls that fail, from 1.
    """

    def __init__(self, real: CityStorage, fails: Collection[int] = ()) -> None:
        self._real = real
        self.fails = fails
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: object, **kwargs: object) -> Any:
            self.calls += 1
            number = self.calls
            await asyncio.sleep(0)
            if number in self.fails:
                raise StorageError(f"{name} fails on purpose")
            result = await attribute(*args, **kwargs)
            await asyncio.sleep(0)
            return result

        return call


class OnlyState:
    """A `StateView` and nothing else, which remembers what it gave away."""

    def __init__(self, state: StateView) -> None:
        self._state = state
        self._given: list[tuple[Any, Any]] = []

    async def objects(self, objects: Sequence[str]) -> Mapping[str, ObjectState]:
        """See `StateView.objects`."""
        return self._kept(await self._state.objects(objects))

    async def find(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, SealedNode]:
        """See `StateView.find`."""
        return self._kept(await self._state.find(tx_ids))

    async def latest(self, authors: Sequence[bytes]) -> Mapping[bytes, NodeRef]:
        """See `StateView.latest`."""
        return self._kept(await self._state.latest(authors))

    async def tips(self) -> Sequence[NodeRef]:
        """See `StateView.tips`."""
        return self._kept(await self._state.tips())

    async def round_nodes(self, round: int) -> Sequence[SealedNode]:
        """See `StateView.round_nodes`."""
        return self._kept(await self._state.round_nodes(round))

    async def checkpoint_hashes(self, rounds: Sequence[int]) -> Mapping[int, bytes]:
        """See `StateView.checkpoint_hashes`."""
        return self._kept(await self._state.checkpoint_hashes(rounds))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(
            f"judge asks the state for `{name}`, which a StateView does not have: who repeats a "
            "round may hold the ledger in another way than this server's storage"
        )

    def _kept(self, given: T) -> T:
        self._given.append((given, copy.copy(given)))
        return given

    def check(self) -> None:
        """Nothing that was given away may be changed: others read it too."""
        assert all(given == before for given, before in self._given), (
            "judge changed what it had read from the state: copy it first"
        )


class Behind:
    """In front of anything: knows its attributes by asking alone, as recorders and fakes do."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real, name)


class InTime(Behind):
    """In front of a step: a call that does not end fails, and the test with it."""

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        if name in WAITS or not callable(attribute):
            return attribute

        async def call(*args: object, **kwargs: object) -> Any:
            try:
                async with asyncio.timeout(SECONDS):
                    return await attribute(*args, **kwargs)
            except TimeoutError:
                raise AssertionError(
                    f"{name} does not end: does it wait for a lock that a call before it, which "
                    "failed or was cancelled, did not give back?"
                ) from None

        return call


# --- turns of the loop


async def settled(*tasks: asyncio.Task[Any]) -> None:
    """Let everything happen that can without waiting for anything outside of the process."""
    for _ in range(TURNS):
        if tasks and all(task.done() for task in tasks):
            return
        await asyncio.sleep(0)


async def comes(task: asyncio.Task[Any], otherwise: str) -> None:
    """Wait for a task that has all that it needs.

    Args:
        otherwise: What is told if it does not end.
    """
    await asyncio.wait({task}, timeout=SECONDS)
    done = task.done()
    if not done:
        task.cancel()
    assert done, otherwise


async def ended(task: asyncio.Task[Any], what: str) -> None:
    """Wait for a task that was cancelled, or has all that it needs."""
    await comes(task, f"{what} does not end")


async def cancelled_at_each_await(
    call: Callable[[], Coroutine[Any, Any, T]],
    what: str,
    after: Callable[[], Awaitable[None]],
) -> T:
    """Cancel a call after each turn of the loop in turn; the result of the one that got through.

    Args:
        after: Awaited after each cancelled call: what must hold then.
    """
    for turns in range(TURNS):
        task = asyncio.create_task(call())
        for _ in range(turns):
            if task.done():
                break
            await asyncio.sleep(0)
        if task.done():
            return task.result()
        task.cancel()
        await ended(task, f"{what}, cancelled at await {turns},")
        assert task.cancelled(), (
            f"{what} was cancelled at await {turns} and did not pass that on: let "
            "asyncio.CancelledError through, or shutting down waits for what nobody wants any more"
        )
        await after()
    return await call()
