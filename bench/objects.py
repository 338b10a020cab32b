"""Storing and restoring one large object on four folders of a disk, 2 + 2; prints JSON.

    python bench/objects.py [--mib 2048] [--folder DIR]

Rates are bytes of the object by the clock, synced where something is written. ``copy`` is the
object copied and synced; ``hash`` its SHA-256 alone, by one thread; ``survey`` the first reading,
``write`` the second, which writes twice the object. It is restored from its data fragments,
from its parity fragments, and with one chunk wrong in every stripe of each data fragment by turns;
``repair`` is rebalancing after one store was emptied. ``zfec_write`` writes the four files with
zfec alone, without any hash, and ``zfec_restore`` reads the two of parity: ``pip install --group
bench``, else they are left out.
``memory_mib`` is the most that the process had until then, of which ``imports`` is the beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means
from citychain.fragments.restoring import restore_object
from citychain.fragments.writing import Survey, survey_object, write_fragments
from citychain.ports import FragmentStore, StorageContext

MIB = 1 << 20
SHAPE = Shape()


class Report:
    """Rates and memory, by step."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rates: dict[str, int] = {}
        self.memory: dict[str, int] = {"imports": memory_mib()}

    def step(self, name: str, began: float) -> None:
        self.rates[name] = round(self._size / (time.perf_counter() - began) / 1e6)
        self.memory[name] = memory_mib()


def memory_mib() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (MIB if sys.platform == "darwin" else 1024))


def make(path: Path, mib: int) -> None:
    """Noise that no file system makes small."""
    pick = random.Random(1)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(pick.randbytes(MIB))
        file.flush()
        os.fsync(file.fileno())


def copy(source: Path, target: Path) -> None:
    with source.open("rb") as here, target.open("wb") as there:
        shutil.copyfileobj(here, there, 4 * MIB)
        there.flush()
        os.fsync(there.fileno())
    target.unlink()


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def spoil(folder: Path, manifest: Manifest) -> None:
    """One chunk of each stripe, of the data fragments by turns."""
    for key in manifest.fragment_keys()[: SHAPE.data]:
        [path] = folder.glob(f"store-{key.index}/*/{key.object_id.hex()}-*")
        with path.open("r+b") as file:
            for stripe in range(key.index, manifest.layout.stripes, SHAPE.data):
                file.seek(stripe * SHAPE.chunk)
                file.write(b"wrong")


async def store(path: Path, stores: Mapping[int, FragmentStore], report: Report) -> Survey:
    with path.open("rb") as source:
        async with Executor() as compute:
            began = time.perf_counter()
            survey = await survey_object(source, SHAPE, compute)
            report.step("survey", began)
            began = time.perf_counter()
            written = await write_fragments(source, survey, stores, compute)
            assert len(written.stored) == SHAPE.fragments
            report.step("write", began)
    return survey


async def restore(
    name: str, object_id: bytes, stores: Mapping[int, FragmentStore], target: Path, report: Report
) -> None:
    named = {str(index): store for index, store in stores.items()}
    async with Executor() as compute:
        began = time.perf_counter()
        restored = await restore_object(object_id, named, target, compute)
        report.step(name, began)
    print(name, len(restored.faults), "faults", file=sys.stderr)
    os.unlink(target)


def zfec_files(content: Path, folder: Path, report: Report) -> None:
    """Write and restore with zfec, one call after the other, synced."""
    try:
        import zfec
    except ImportError:
        return
    k, n, block = SHAPE.data, SHAPE.fragments, 2 * MIB
    began = time.perf_counter()
    encoder = zfec.Encoder(k, n)
    files = [(folder / f"zfec-{index}").open("w+b") for index in range(n)]
    with content.open("rb") as source:
        while part := source.read(k * block):
            pieces = tuple(part[at : at + block] for at in range(0, k * block, block))
            for file, piece in zip(files, encoder.encode(pieces), strict=True):
                file.write(piece)
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    report.step("zfec_write", began)
    began = time.perf_counter()
    decoder, numbers = zfec.Decoder(k, n), tuple(range(n - k, n))
    with (folder / "zfec-restored").open("wb") as target:
        for file in files[n - k :]:
            file.seek(0)
        while pieces := tuple(filter(None, (file.read(block) for file in files[n - k :]))):
            for piece in decoder.decode(pieces, numbers):
                target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    report.step("zfec_restore", began)
    for path in folder.glob("zfec-*"):
        path.unlink()
    for file in files:
        file.close()


def lose(folder: Path, object_id: bytes) -> None:
    """All that a store has."""
    [path] = folder.glob(f"store-1/*/{object_id.hex()}-*")
    path.unlink()


async def repair(stores: Mapping[int, FragmentStore], report: Report) -> None:
    named = {str(index): store for index, store in stores.items()}
    places = [Place(name, 1.0, name) for name in named]
    async with Executor() as compute:
        began = time.perf_counter()
        means = Means(named, places, (), compute, Pace(SystemClock()))
        objects = every_object(named, compute, print)
        [outcome] = [it async for it in rebalance_objects(objects, means)]
        assert outcome.made == {1: "1"}
        report.step("repair", began)


async def run(folder: Path, content: Path, report: Report) -> None:
    async with AsyncExitStack() as stack:
        compute = await stack.enter_async_context(Executor())
        stores: dict[int, FragmentStore] = {}
        for index in range(SHAPE.fragments):
            (place := folder / f"store-{index}").mkdir()
            stores[index] = await stack.enter_async_context(
                DirectoryStore(
                    DirectoryOptions(path=place), StorageContext(folder, compute, SystemClock())
                )
            )
        survey = await store(content, stores, report)
        object_id, target = survey.manifest.object_id, folder / "restored"
        await restore("restore", object_id, stores, target, report)
        parity = {index: stores[index] for index in range(SHAPE.data, SHAPE.fragments)}
        await restore("restore_from_parity", object_id, parity, target, report)
        lose(folder, object_id)
        await repair(stores, report)
        spoil(folder, survey.manifest)
        await restore("restore_from_spoilt", object_id, stores, target, report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2_048)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make(content := folder / "content", arguments.mib)
        report = Report(arguments.mib * MIB)
        began = time.perf_counter()
        copy(content, folder / "copy")
        report.step("copy", began)
        began = time.perf_counter()
        digest(content)
        report.step("hash", began)
        asyncio.run(run(folder, content, report))
        zfec_files(content, folder, report)
    results: dict[str, Any] = {
        "mib": arguments.mib,
        "cores": os.cpu_count(),
        "mb_per_s": report.rates,
        "memory_mib": report.memory,
    }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
