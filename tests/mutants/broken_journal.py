"""Durable storage backends, with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from biting import Mutant
from broken_storage import Suite
from journal_backend import journal, storage

from citychain.storage.memory import MemoryCity, Names

__all__ = ["MUTANTS", "Suite"]

MUTANTS: list[Mutant] = []

Backend: Any = storage.JournalBackend
Journal: Any = journal.Journal


def caught_by(test: str, name: str):
    """Lists a class of backends as a mutant."""

    def listed(backend):
        factory = lambda options, context: backend(context)  # noqa: E731
        MUTANTS.append(Mutant(name, replace(storage.STORAGE, factory=factory), test))
        return backend

    return listed


def with_file(file):
    """Makes a backend whose journal is of this class."""

    class OnFile(Backend):
        def __init__(self, context):
            super().__init__(context)
            self._journal = file(context.directory)

    return OnFile


@caught_by("test_what_was_acknowledged_survives_a_kill", "acknowledges before the write")
class AcknowledgesEarly(Backend):
    """Writes when there is time for it."""

    async def write(self, genesis, call, *arguments):
        made = await self._make(genesis, call, arguments)
        writing = asyncio.create_task(self._later(genesis, call, arguments))
        self._under_way.add(writing)
        writing.add_done_callback(self._under_way.discard)
        return made

    async def __aexit__(self, *exc_info):
        for writing in self._under_way:
            writing.cancel()
        await super().__aexit__(*exc_info)

    async def _later(self, *record):
        await asyncio.sleep(3_600)
        async with self._turn:
            await self.context.compute(self._journal.write, *record)


@caught_by("test_arrival_order_is_the_order_of_the_calls", "loses arrival order after reopening")
class LosesOrder(Backend):
    """Reads back in order of id."""

    async def _open(self):
        await super()._open()
        for city in self.cities.values():
            city._pending = {t: n for n, t in enumerate(sorted(city._pending), start=1)}


@caught_by("test_a_write_that_fails_at_any_step_is_whole_or_absent", "is ahead of its file")
class AheadOfItsFile(Backend):
    """Changes its memory first, and leaves it so when the write fails."""

    async def _write(self, genesis, call, arguments):
        async with self._turn:
            made = await self._make(genesis, call, arguments)
            await self.context.compute(self._journal.write, genesis, call, arguments)
            return made


@caught_by("test_lease_epochs_grow", "forgets leases when it is closed")
class ForgetsLeases(Backend):
    """They are only a matter of who is here now."""

    async def write(self, genesis, call, *arguments):
        if call == "acquire_lease":
            return await MemoryCity.acquire_lease(self.cities[genesis], *arguments)
        return await super().write(genesis, call, *arguments)


KEPT = []


@caught_by("test_an_opening_that_is_cut_short_keeps_nobody_out", "keeps its lock when cancelled")
class KeepsItsLock(Backend):
    """Opens in a thread, which goes on when its caller is gone."""

    async def __aenter__(self):
        KEPT.append(self)
        await self._to_its_end(self._open())
        await asyncio.sleep(0)  # Here, at the latest, it has the lock.
        return self


@caught_by("test_cities_in_one_backend_do_not_see_each_other", "has the notes of all in one place")
class MixesCities(Backend):
    """Opens all cities as one."""

    async def city(self, genesis, genesis_file, initial):
        first = next(iter(self.cities), genesis)
        return await super().city(first, genesis_file, initial)


@caught_by("test_a_storage_has_one_city_of_a_name", "knows names until it is closed")
class ForgetsNames(Backend):
    """Reads its cities again, and not their names."""

    async def _open(self):
        await super()._open()
        self._names = Names()


class NeverTakesBack(Journal):
    """Leaves in the file what the memory refused."""

    def take_back(self):
        pass


@caught_by(
    "test_a_failed_write_does_not_take_its_neighbours_with_it", "cannot be opened after a refusal"
)
class StumblesOverItself(with_file(NeverTakesBack)):
    """Makes all calls again when it is opened, and one of them raises again."""


class LeavesTheRest(Journal):
    """Leaves on the disk what it could not finish, and goes on behind it."""

    def write(self, *record):
        self.end = self.path.stat().st_size
        super().write(*record)


@caught_by("test_a_full_disk_is_told_and_loses_nothing", "goes on behind half a line")
class GoesOnBehindHalf(with_file(LeavesTheRest)):
    """Whoever reads the file finds nothing after that."""


class SaysNothing(Journal):
    """Takes a short write for a whole one."""

    def write(self, *record):
        try:
            super().write(*record)
        except (OSError, journal.StorageError):
            self.end = self.path.stat().st_size


@caught_by("test_a_full_disk_is_told_and_loses_nothing", "does not tell of a full disk")
class TellsNothing(with_file(SaysNothing)):
    """Its callers believe that all is well."""
