"""Moves cities between the storages of one configuration, and clears away what they left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Final

from citychain.city.plan import CityPlan, Part
from citychain.errors import InvalidRequest, MoveFailed, NameTaken, NotSupported
from citychain.genesis import Genesis
from citychain.hooks.definitions import StorageDefinition
from citychain.moving.home import forget_home, write_home
from citychain.moving.moving import MoveResult, Place, Told, move_city
from citychain.moving.opening import home_note
from citychain.ports import CityStorage, Clock, Compute, StorageBackend, knows_servers
from citychain.upkeep import can_forget

__all__ = ["CityMover"]

StoragePart = Part[StorageDefinition]

FIELD: Final = "storage"
PAUSE_SECONDS: Final = 0.2


class CityMover:
    """Moves cities between the storages of one configuration.

    Args:
        plan: Of a city, by slug; may block.
        named: A storage for a city, by slug and name; may block.
        opened: Opens a city in a storage; raises `NameTaken` where another one has its name.
        backend: The engine of a storage.
        server: The name by which this server leads cities, and says that it is at work.
        lease: For how long one that says nothing counts as at work.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        plan: Callable[[str], CityPlan],
        named: Callable[[str, str], StoragePart],
        opened: Callable[[Genesis, StoragePart], Awaitable[CityStorage]],
        backend: Callable[[StoragePart], Awaitable[StorageBackend]],
        compute: Compute,
        clock: Clock,
        server: str,
        lease: timedelta,
    ) -> None:
        self._data_dir = data_dir
        self._plan = plan
        self._named = named
        self._opened = opened
        self._backend = backend
        self._compute = compute
        self._clock = clock
        self._server = server
        self._lease = lease
        self._busy: set[bytes] = set()

    async def move(
        self,
        genesis: Genesis,
        home: CityStorage,
        name: str,
        held: Callable[[], AbstractAsyncContextManager[object]],
        slowed: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
        *,
        volatile: bool = False,
        told: Told = lambda phase, done, of: None,
    ) -> MoveResult:
        """Move a city to the storage of a name.

        Args:
            home: The city in the storage where it lives.
            held: See `move_city`, also for ``slowed``.
            volatile: Also to one that does not outlive the server.

        Raises:
            InvalidRequest: it lives there, or the storage keeps nothing.
            ConfigurationError: there is no such storage, or its options are wrong.
            MoveFailed: the message says why; it lives where it lived.
            StorageError: a storage failed.
        """
        slug = genesis.city
        plan = await self._compute(self._plan, slug)
        part = await self._compute(self._named, slug, name)
        if part.name == plan.storage.name:
            raise InvalidRequest(FIELD, f"{slug} lives in storage {name} already")
        if not (part.definition.durable or volatile):
            raise InvalidRequest(
                FIELD,
                f"backend {part.definition.name} keeps nothing when the server stops; to move "
                "there all the same, say --volatile",
            )
        await self._be_alone(plan.storage)
        if genesis.id in self._busy:
            raise MoveFailed(f"{slug} is being moved already")
        self._busy.add(genesis.id)

        async def remember(storage: str) -> None:
            if storage == plan.configured_storage:
                await self._compute(forget_home, self._data_dir, slug)
            else:
                await self._compute(write_home, self._data_dir, slug, storage)

        try:
            return await move_city(
                genesis=genesis,
                source=Place(plan.storage.name, home),
                target=Place(part.name, await self._target(genesis, part)),
                server=self._server,
                held=held,
                slowed=slowed,
                remember=remember,
                compute=self._compute,
                clock=self._clock,
                told=told,
            )
        finally:
            self._busy.discard(genesis.id)

    async def _target(self, genesis: Genesis, part: StoragePart) -> CityStorage:
        """The city in the storage to which it is to go.

        Raises:
            MoveFailed: another one has its name there.
        """
        try:
            return await self._opened(genesis, part)
        except NameTaken:
            raise MoveFailed(
                f"storage {part.name} has another city {genesis.city} of network "
                f"{genesis.network}, with another genesis: move to another storage; or, if that "
                "city has left it, let a server of that city forget it there, by `citychain move "
                f"--city {genesis.city} --forget {part.name}`, then try again"
            ) from None

    async def _be_alone(self, part: StoragePart) -> None:
        """See that no other server is at work on a storage that a city is to leave.

        Raises:
            MoveFailed: one is; what it accepts meanwhile would be left behind.
        """
        backend = knows_servers(await self._backend(part)) if part.definition.shared else None
        if backend is None:
            return
        since = self._clock.monotonic()
        while others := {*await backend.servers(self._lease)} - {self._server, ""}:
            # One that is seen for the first time may have stopped long ago.
            if self._clock.monotonic() - since > 1.5 * self._lease.total_seconds():
                raise MoveFailed(
                    f"storage {part.name} is shared, and {', '.join(sorted(others))} is at work on "
                    "it: stop all servers but one, then try again"
                )
            await self._clock.sleep(PAUSE_SECONDS)

    async def forget(self, genesis: Genesis, home: CityStorage, name: str) -> None:
        """Remove a city from a storage that it left. A note stays that says where it went.

        Raises:
            InvalidRequest: the city did not move away from there.
            MoveFailed: where it lives does not have all that was there.
            NotSupported: the backend cannot remove a city.
            ConfigurationError: there is no such storage, or its options are wrong.
        """
        slug = genesis.city
        part = await self._compute(self._named, slug, name)
        try:
            left = await self._opened(genesis, part)
        except NameTaken:
            raise InvalidRequest(
                FIELD, f"storage {name} has another city {slug}, and nothing of this one to forget"
            ) from None
        note = await home_note(left)
        if note is None or not note.moved:
            raise InvalidRequest(FIELD, f"{slug} did not move away from storage {name}")
        there = await home.checkpoint_hashes([note.round])
        if note.round and there.get(note.round) != note.checkpoint_hash:
            raise MoveFailed(
                f"round {note.round}, with which {slug} left storage {name}, is not where it "
                "lives: nothing is removed"
            )
        forgetful = can_forget(await self._backend(part))
        if forgetful is None:
            raise NotSupported(
                f"backend {part.definition.name} cannot remove a city: remove what storage {name} "
                "has by its own means, if nothing else is in it"
            )
        await forgetful.forget(genesis.id, genesis.initial_objects())
