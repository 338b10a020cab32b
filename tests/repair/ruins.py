"""A city's archive in folders that a test can damage, and what repairs it."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from archive.conftest import at_once
from history import History

from citychain import notes
from citychain.fragments._names import name_of
from citychain.fragments.checking import State, check_object
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.layout import Shape
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place
from citychain.fragments.sources import find_sources
from citychain.fragments.storing import store_object
from citychain.ports import Clock, FragmentStore, StorageContext
from citychain.repair.repairer import Repairer, RepairNumbers, RepairPlan
from citychain.statements import Segment
from citychain.storage.memory import MemoryCity
from citychain.testing.clock import FakeClock

SMALL = 4 << 10
NAMES = ("attic", "barn", "cellar", "dairy")
GENESIS = History({1: 1}).genesis
DAY = timedelta(days=1)


def no_recounts(rests: Any) -> Any:
    """Where no store has a holder."""


@dataclass
class Ruin:
    """A city of which nothing is known but its announced segments, and their fragments."""

    folder: Path
    stores: dict[str, FragmentStore]
    storage: Any = field(default_factory=lambda: MemoryCity(FakeClock(), b"", ()))
    clock: Any = field(default_factory=FakeClock)
    segments: list[Segment] = field(default_factory=list)
    numbers: RepairNumbers = field(default_factory=RepairNumbers)
    pending: int = 0

    async def archive(self, bytes: int = 5 * SMALL + 77) -> Segment:
        """One more segment of ten rounds, announced."""
        shape, first = Shape(2, 2, SMALL), 10 * len(self.segments) + 1
        content = random.Random(first).randbytes(bytes)
        places = [Place(name, 1, name) for name in self.stores]
        stored = await store_object(io.BytesIO(content), shape, self.stores, places, at_once)
        assert not stored.missing
        segment = Segment(
            first=first,
            last=first + 9,
            object=stored.manifest.object_id.hex(),
            root=stored.manifest.root.hex(),
            data=shape.data,
            parity=shape.parity,
            chunk=shape.chunk,
            size=bytes,
        )
        self.segments.append(segment)
        name = notes.round_name(notes.SEGMENT, segment.last)
        await self.storage.keep({name: b"\0" * 32 + segment.encode()})
        return segment

    def plan(self, **changed: Any) -> RepairPlan:
        given: dict[str, Any] = {
            "every": timedelta(hours=1),
            "read_every": 30 * DAY,
            "stores": lambda: self.stores,
            "places": [Place(name, 1, name) for name in NAMES],
            "holders": {},
            "recounts": no_recounts,
            "pace": Pace(self.clock),
            "read_pace": Pace(self.clock),
            "turns": asyncio.Semaphore(1),
            "round_transactions": 2_000,
        }
        return RepairPlan(**(given | changed))

    def repairer(self, clock: Clock | None = None, **changed: Any) -> Repairer:
        """A new one, which knows nothing: as after a restart."""
        city: Any = SimpleNamespace(genesis=GENESIS, storage=self.storage, pending=self.pending)
        return Repairer(
            city, self.plan(**changed), self.numbers, compute=at_once, clock=clock or self.clock
        )

    # --- what is in the folders

    def file(self, segment: Segment, index: int) -> Path:
        """The only file of a fragment."""
        [file] = self.files(segment, index)
        return file

    def files(self, segment: Segment, index: int) -> list[Path]:
        """All files of a fragment."""
        return list(self.folder.glob(f"*/???/{name_of(segment.keys[index])}"))

    def content(self) -> dict[str, bytes]:
        """All files."""
        files = (it for it in self.folder.glob("*/???/*-*"))
        return {str(it.relative_to(self.folder)): it.read_bytes() for it in files}


def spoil(file: Path, at: int = 100) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


async def are_whole(stores: Mapping[str, FragmentStore], *segments: Segment) -> None:
    """Every byte of every fragment is there."""
    for segment in segments:
        sources, faults = await find_sources(bytes.fromhex(segment.object), stores, at_once)
        assert not faults
        [checked] = await check_object(sources, at_once)
        assert checked.state is State.WHOLE, checked
        assert checked.root.hex() == segment.root


@asynccontextmanager
async def open_ruin(folder: Path, segments: int = 1) -> AsyncIterator[Ruin]:
    """An archive in four folders, whole."""
    stores: dict[str, FragmentStore] = {}
    async with AsyncExitStack() as stack:
        for name in NAMES:
            (folder / name).mkdir()
            context = StorageContext(folder / name, at_once, FakeClock())
            store = DirectoryStore(DirectoryOptions(path=folder / name), context)
            stores[name] = await stack.enter_async_context(store)
        ruin = Ruin(folder, stores)
        for _ in range(segments):
            await ruin.archive()
        yield ruin
