"""Storage tests: processes that are killed while they write, as by the kernel when memory is short.

The test starts itself in another process (`Elsewhere`). That one goes through a `_Plan`, several
calls at a time, and says what has returned. It is killed at some moment; then whatever was said
must be in the storage, and the rest whole or not at all. The next process goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from citychain.hooks.definitions import StorageDefinition
from citychain.ports import CityStorage
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._storage_session import Factory, Session
from citychain.testing.conformance.ledger import Ledger
from citychain.types import Certificate, ObjectWrite, RawTransaction, SealedRound

__all__ = ["KilledTests"]

SEED: Final = 130
STEPS: Final = 300
"""More than are done until the last process is killed."""
BATCH: Final = 8
LINES: Final = 60
"""What a process says before it is killed, at most."""


class _Plan:
    """What is written, by number from 1: the same in each process.

    Batch ``n`` is sealed by round ``n``, which is certified.
    """

    def __init__(self, place: Path, *, whole: bool) -> None:
        self.whole = whole
        ledger = Ledger(SEED)
        # The same city in each process, and another in each run.
        ledger.genesis = self.genesis = sha256(bytes(place)).digest()
        self.batches: dict[int, list[RawTransaction]] = {}
        self.keys: dict[int, dict[bytes, bytes]] = {}
        self.rounds: dict[int, SealedRound] = {}
        self.certificates: dict[int, Certificate] = {}
        self.notes: dict[int, dict[str, bytes]] = {}
        for number in range(1, STEPS + 1):
            self.batches[number] = batch = ledger.transactions(BATCH, size=500)
            self.keys[number] = {ledger.random.randbytes(32): b"%d" % number}
            writes = [ObjectWrite(name, number, b"%d" % number) for name in ("a", "b")]
            sealed = ledger.round(batch, [number % BATCH], writes=writes, pops=number % 2 == 1)
            self.rounds[number] = sealed
            ledger.receive(batch)
            ledger.commit(sealed)
            self.certificates[number] = ledger.certificate(number)
            notes = {f"{number:04}/{part}": ledger.random.randbytes(100) for part in "abc"}
            self.notes[number] = notes | {"last": b"%d" % number}

    async def batches_in(self, city: CityStorage) -> dict[int, _Batch]:
        """What is stored of the batches, by number; those of which nothing is are absent."""
        ids = [t.tx_id for batch in self.batches.values() for t in batch]
        raw = await city.raw(ids)
        keys = await city.keys([key_id for keys in self.keys.values() for key_id in keys])
        stored = {}
        for number, batch in self.batches.items():
            found = [t for t in batch if t.tx_id in raw]
            with_key = self.keys[number].keys() <= keys.keys()
            assert (len(found), with_key) in ((0, False), (BATCH, True)) or not self.whole, (
                f"an append of {BATCH} transactions and a key was under way when the process was "
                f"killed: {len(found)} and {int(with_key)} are stored, which must be all or none"
            )
            assert with_key or not found, (
                "an append was under way when the process was killed: some of its transactions "
                "are stored without its key, which must be stored before them"
            )
            if with_key:
                stored[number] = _Batch(found, self.keys[number])
        return stored


class _Batch(NamedTuple):
    """What is stored of a batch."""

    transactions: list[RawTransaction]
    keys: dict[bytes, bytes]

    @property
    def is_whole(self) -> bool:
        return len(self.transactions) == BATCH


# --- in the process that is killed ------------------------------------------------


async def _write_until_killed(backends: Factory, place: Path, *, whole: bool) -> None:
    """Go through the plan from where it stands."""
    plan = _Plan(place, whole=whole)
    parent = os.getppid()
    with place.open("ab", buffering=0) as said:  # One write a line: a kill leaves whole ones.
        async with backends() as backend:
            city = await backend.city(plan.genesis, b"genesis file", [])
            while (epoch := await city.acquire_lease("killed", timedelta(seconds=1))) is None:
                await asyncio.sleep(0.05)
            said.write(b"epoch %d\n" % epoch)
            await _go_through(plan, city, epoch, said.write)
        while os.getppid() == parent:
            await asyncio.sleep(0.05)


async def _go_through(
    plan: _Plan, city: CityStorage, epoch: int, say: Callable[[bytes], object]
) -> None:
    head = await city.head()
    stored = await plan.batches_in(city)
    appended = {number for number, batch in stored.items() if batch.is_whole}
    kept = int((await city.notes("last")).get("last", b"0"))
    # What is done up to some number, and a waker for those that wait for the next.
    committed = head.round
    more = asyncio.Condition()
    numbers = iter(range(max(appended, default=0) + 1, STEPS + 1))

    async def done() -> None:
        async with more:
            more.notify_all()

    async def append() -> None:
        for number in numbers:
            await city.append(plan.batches[number], plan.keys[number])
            say(b"append %d\n" % number)
            appended.add(number)
            await done()

    async def commit() -> None:
        nonlocal committed
        for number in range(head.round + 1, STEPS + 1):
            async with more:
                await more.wait_for(lambda number=number: number in appended)  # type: ignore[misc]
            await city.commit(replace(plan.rounds[number], epoch=epoch))
            say(b"commit %d\n" % number)
            committed = number
            await done()

    async def certify() -> None:
        for number in range(head.certified_round + 1, STEPS + 1):
            async with more:
                await more.wait_for(lambda number=number: number <= committed)  # type: ignore[misc]
            await city.certify([plan.certificates[number]])
            say(b"certify %d\n" % number)

    async def keep() -> None:
        for number in range(kept + 1, STEPS + 1):
            await city.keep(plan.notes[number])
            say(b"keep %d\n" % number)

    await asyncio.gather(append(), append(), append(), commit(), certify(), keep())


# --- in the process that judges ---------------------------------------------------


class _Judge:
    """Compares what was said with what is stored."""

    def __init__(self, place: Path, *, whole: bool) -> None:
        self.plan = _Plan(place, whole=whole)
        self.ledger = Ledger(SEED)
        self.ledger.genesis = self.plan.genesis

    async def judge(self, city: CityStorage, lines: Iterable[str]) -> None:
        """Look at the storage after a kill."""
        said: dict[str, set[int]] = {}
        for line in lines:
            what, number = line.split()
            said.setdefault(what, set()).add(int(number))
        await self._appends(city, said.get("append", set()))
        await self._rounds(city, said.get("commit", set()), max(said["epoch"]))
        await self._certificates(city, said.get("certify", set()))
        await self._notes(city, said.get("keep", set()))
        await self.ledger.check(city, sample=3)

    async def _appends(self, city: CityStorage, said: set[int]) -> None:
        stored = await self.plan.batches_in(city)
        lost = sorted(
            number for number in said if number not in stored or not stored[number].is_whole
        )
        assert not lost, f"append returned for these batches, which a kill has lost: {_few(lost)}"
        for number in sorted(stored):
            self.ledger.receive(*stored[number])

    async def _rounds(self, city: CityStorage, said: set[int], epoch: int) -> None:
        known = self.ledger.head.round
        last = max(said, default=known)
        head = (await city.head()).round
        assert head >= last, f"commit returned for round {last}, and a kill has lost it: {head}"
        assert head <= last + 1, f"round {head} is stored, and was not committed yet"
        for number in range(known + 1, head + 1):
            self.ledger.commit(replace(self.plan.rounds[number], epoch=epoch))

    async def _certificates(self, city: CityStorage, said: set[int]) -> None:
        rounds = await city.rounds(1, STEPS)
        stored = {r.round: r.certificate for r in rounds if r.certificate is not None}
        lost = sorted(said - stored.keys())
        assert not lost, f"certify returned for these rounds, and a kill has lost it: {_few(lost)}"
        known = {*range(self.ledger.head.certified_round + 1)}
        # A server may write what a killed process had sent behind the opening that looks for it.
        unsaid = sorted(stored.keys() - said - known)
        await city.certify([self.plan.certificates[number] for number in unsaid])
        self.ledger.certify(self.plan.certificates[number] for number in stored)

    async def _notes(self, city: CityStorage, said: set[int]) -> None:
        found = await city.notes("")
        last = int(found.get("last", b"0"))
        assert last >= max(said, default=0), "keep returned, and a kill has lost the note"
        for number in range(1, last + 1):
            self.ledger.keep(self.plan.notes[number])

    async def mend(self, city: CityStorage) -> None:
        """Append again what was under way, so that batches are without gaps."""
        stored = await self.plan.batches_in(city)
        whole = {number for number, batch in stored.items() if batch.is_whole}
        for number in sorted(set(range(1, max(stored, default=0) + 1)) - whole):
            await city.append(self.plan.batches[number], self.plan.keys[number])
            self.ledger.receive(self.plan.batches[number], self.plan.keys[number])


def _few(numbers: list[int]) -> str:
    """The first of them; how many there are."""
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more


class KilledTests:
    """Part of `StorageSuite`."""

    kills: ClassVar[int]

    async def test_what_was_acknowledged_survives_a_kill(
        self,
        definition: StorageDefinition,
        backends: Factory,
        storage_directory: Path,
        elsewhere: Elsewhere,
    ) -> None:
        """Kills a process at random moments while it appends, commits, certifies and keeps."""
        Session(backends, definition).need_durable()
        if elsewhere.place is not None:
            await _write_until_killed(backends, elsewhere.place, whole=definition.whole_appends)
            return
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        moments = random.Random(seed)
        place = storage_directory.with_name("said")
        judge = _Judge(place, whole=definition.whole_appends)
        for _ in range(self.kills):
            place.unlink(missing_ok=True)
            await elsewhere.kill_after(place, moments.randint(1, LINES), moments.uniform(0, 0.02))
            for _ in range(2):
                async with backends() as backend:
                    city = await backend.city(judge.plan.genesis, b"genesis file", [])
                    await judge.judge(city, place.read_text().splitlines())
                    await judge.mend(city)
