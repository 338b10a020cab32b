"""Objects on stores in memory that a test can damage, and what several tests do with them."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from citychain.errors import StoreUnavailable
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.memory import MemoryStore
from citychain.fragments.restoring import Restored, restore_object
from citychain.fragments.writing import Survey, survey_object, write_fragments
from citychain.ports import Compute, FragmentKey

SMALL = 4 << 10
"""The smallest chunks there are."""


class Shelf(MemoryStore):
    """A store whose fragments can be looked at, and spoilt."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(limit)
        self.is_down = False
        self.reads: list[tuple[int, int, int]] = []
        """Index, offset and length of each."""
        self.puts: list[int] = []
        """Indexes of fragments whose parts were asked for."""

    @property
    def content(self) -> dict[FragmentKey, bytes]:
        return self._fragments

    def only(self) -> tuple[FragmentKey, bytes]:
        [item] = self.content.items()
        return item

    def drop(self) -> None:
        self.content.clear()

    def flip(self, at: int) -> None:
        """Another value for one byte of the only fragment; ``at`` may count from the end."""
        key, content = self.only()
        spoilt = bytearray(content)
        spoilt[at] ^= 0x10
        self.content[key] = bytes(spoilt)

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        self._answer()

        async def told() -> AsyncIterator[bytes]:
            self.puts.append(key.index)
            async for part in parts:
                self._answer()
                yield part

        await super().put(key, size, told())

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        self._answer()
        self.reads.append((key.index, offset, length))
        return await super().read(key, offset, length)

    async def size(self, key: FragmentKey) -> int | None:
        self._answer()
        return await super().size(key)

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        self._answer()
        return await super().find(object_id)

    def _answer(self) -> None:
        if self.is_down:
            raise StoreUnavailable("it is switched off")


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def shelves(number: int) -> dict[str, Shelf]:
    return {f"shelf-{index}": Shelf() for index in range(number)}


async def store(content: bytes, shape: Shape, stores: Iterable[Shelf], compute: Compute) -> Survey:
    """Fragment i into the i-th store."""
    source = io.BytesIO(content)
    survey = await survey_object(source, shape, compute)
    places = dict(zip(range(shape.fragments), stores, strict=False))
    written = await write_fragments(source, survey, places, compute)
    assert not written.failed
    return survey


async def store_lie(
    content: bytes, object_id: bytes, shape: Shape, stores: Iterable[Shelf], compute: Compute
) -> Survey:
    """Fragments that hold together, and of another object than they say."""
    source = io.BytesIO(content)
    truth = await survey_object(source, shape, compute)
    lie = replace(truth, manifest=replace(truth.manifest, object_id=object_id))
    written = await write_fragments(source, lie, dict(enumerate(stores)), compute)
    assert not written.failed
    return lie


async def restore(
    content: bytes, stores: Mapping[str, Shelf], folder: Path, compute: Compute
) -> Restored:
    """Restore, and hold the file to what was stored."""
    target = folder / "restored"
    restored = await restore_object(hashlib.sha256(content).digest(), stores, target, compute)
    assert target.read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["restored"]
    assert restored.size == len(content)
    target.unlink()
    return restored


def part_of(survey: Survey, folder: Path) -> Path:
    """What `restore` fills until it is whole."""
    return folder / f"restored.{survey.manifest.root.hex()[:16]}.part"


def chunk_at(manifest: Manifest, stripe: int) -> tuple[int, int]:
    """Where a stripe's chunk begins in each fragment, and how many bytes it has."""
    layout = manifest.layout
    whole = stripe < layout.stripes - 1
    return stripe * layout.shape.chunk, layout.shape.chunk if whole else layout.last_chunk
