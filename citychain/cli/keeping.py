"""What the commands on fragments do, apart from telling it: ``store``, ``scrub`` and the like."""

from __future__ import annotations

import ctypes
import errno
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from citychain.cli.output import say
from citychain.config import load_settings
from citychain.config_fragments import FragmentsSettings
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import (
    ConfigurationError,
    InvalidRequest,
    NotFound,
    NotRestorable,
    StoreUnavailable,
)
from citychain.fragments.checking import Checked, check_objects
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.pacing import Pace
from citychain.fragments.patience import ANSWER_SECONDS, StoreHangs, within
from citychain.fragments.placement import Place
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means, Outcome
from citychain.fragments.restoring import Restored, restore_object
from citychain.fragments.sources import (
    Fault,
    Group,
    Silence,
    Source,
    find_sources,
    grouped,
    told,
)
from citychain.fragments.storing import Stored, store_object
from citychain.keeping.stores import OpenStores
from citychain.ports import Compute, FragmentKey

__all__ = ["Keeping", "open_keeping"]

M_ARENA_MAX: Final = -8
"""Of malloc.h."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """The stores of a configuration that answer, and what can be done with them."""

    opened: OpenStores
    away: dict[str, str]
    """By name, why others do not answer; more come when they stop."""
    _settings: FragmentsSettings
    _compute: Compute
    _shown: bool
    """Whether to show how far it is."""

    async def store(self, file: Path) -> Stored:
        """Store a file; see `store_object`."""
        shape = Shape(self._settings.data, self._settings.parity, self._settings.chunk_bytes)
        _be_plain(file)
        with file.open("rb") as source, _progress(self._shown) as bar:
            return await store_object(
                source, shape, self.opened.stores, self.opened.places, self._compute, bar
            )

    async def restore(self, object_id: bytes, target: Path) -> Restored:
        """Restore an object; see `restore_object`.

        Raises:
            InvalidRequest: the file's folder is not there, or takes no file.
            StoreUnavailable: no store that answers has a fragment of it.
        """
        if not target.parent.is_dir():
            raise InvalidRequest("--output", f"{target.parent} is no folder")
        _be_writable(target.parent)
        with _progress(self._shown) as bar:
            try:
                return await restore_object(
                    object_id,
                    self.opened.stores,
                    target,
                    self._compute,
                    lambda done, of: bar("restoring", done, of),
                )
            except NotFound:
                self._found_nothing(object_id)
                raise
            except NotRestorable as error:
                if not self.away:
                    raise
                raise NotRestorable(object_id, f"{error.detail}; {self._who_is_away()}") from error

    async def groups(
        self, object_id: bytes | None
    ) -> AsyncIterator[tuple[list[Group], list[list[Source]]]]:
        """Of each object, or of one: its groups, and the fragments without a manifest."""
        async for sources in self._sources(object_id):
            yield await grouped(sources, self._compute)

    async def check(
        self, object_ids: Sequence[bytes], after: bytes | None = None
    ) -> AsyncIterator[list[Checked]]:
        """Check these objects, or all, or all after one; what is to be said of each."""
        of, read = 0 if object_ids else await self._used(), 0
        with _progress(self._shown) as bar:

            def told(count: int) -> None:
                nonlocal read
                read += count
                bar("checking", read, max(of, read))

            wanted = self._wanted(object_ids, after)
            async with aclosing(check_objects(wanted, self._compute, told)) as checked:
                async for some in checked:
                    yield some

    async def rebalance(
        self,
        object_ids: Sequence[bytes],
        pace: Pace,
        failed: dict[str, str],
        *,
        check: bool = False,
        dry_run: bool = False,
        unproven: Collection[tuple[str, FragmentKey]] = frozenset(),
    ) -> AsyncIterator[Outcome]:
        """Bring these objects in order, or all; see `rebalance_objects`.

        Args:
            pace: At which stores are read and written.
            failed: Gets the stores that fail meanwhile, and why.
        """
        of, done = 0 if object_ids else await self._used(), 0
        plans = self.opened.plans.values()
        with _progress(self._shown) as bar:

            def told(count: int, more: int) -> None:
                nonlocal of, done
                of, done = of + more, done + count
                bar("rebalancing", done, max(of, done))

            means = Means(
                stores=self.opened.stores,
                places=[Place(plan.name, plan.weight, plan.domain) for plan in plans],
                away=self.away.keys(),
                compute=self._compute,
                pace=pace,
                dry_run=dry_run,
                unproven=unproven,
                told=told,
                failed=failed,
            )
            wanted = self._wanted(object_ids)
            async with aclosing(rebalance_objects(wanted, means, check=check)) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def _used(self) -> int:
        """Bytes of all fragments."""
        used = 0
        for name, store in self.opened.stores.items():
            try:
                used += (await within(ANSWER_SECONDS, store.space())).used
            except StoreHangs:
                continue  # It may have so many that counting them takes long.
            except Exception as error:
                self._lose(Fault(name, None, told(error)))
        return used

    async def _wanted(
        self, object_ids: Sequence[bytes], after: bytes | None = None
    ) -> AsyncIterator[list[Source]]:
        for object_id in object_ids or (None,):
            async for sources in self._sources(object_id, after):
                yield sources

    async def _sources(
        self, object_id: bytes | None, after: bytes | None = None
    ) -> AsyncIterator[list[Source]]:
        if object_id is None:
            stores = self.opened.stores
            async for sources in every_object(stores, self._compute, self._lose, after):
                yield sources
            return
        sources, faults = await find_sources(object_id, self.opened.stores, self._compute)
        for fault in faults:
            if isinstance(fault, Silence):
                self._lose(fault)
            else:
                say(f"store {fault.store}: {fault.detail}")
        if not sources:
            self._found_nothing(object_id)
            raise NotFound("object", object_id.hex())
        yield sources

    def _lose(self, fault: Fault) -> None:
        if fault.store not in self.away:
            self.away[fault.store] = fault.detail
            say(f"store {fault.store} does not answer: {fault.detail}")

    def _found_nothing(self, object_id: bytes) -> None:
        """Raises unless everybody was asked."""
        if self.away:
            raise StoreUnavailable(
                f"no store that answers has a fragment of {object_id.hex()}; {self._who_is_away()}"
            )

    def _who_is_away(self) -> str:
        return f"these do not answer: {', '.join(sorted(self.away))}"


def _be_plain(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise InvalidRequest("FILE", f"{file} is no plain file, which can be read twice")


def _be_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return  # There may be room soon, and the file may be there in part.
        raise InvalidRequest("--output", f"{folder} takes no file: {error.strerror}") from None


@asynccontextmanager
async def open_keeping(config: Path | None, *, shown: bool) -> AsyncIterator[Keeping]:
    """Open the stores of a configuration, and tell which cannot be opened.

    Raises:
        ConfigurationError: there are none, or one is wrong.
        StoreUnavailable: none can be opened.
    """
    settings = load_settings(config)
    if not settings.fragments.stores:
        raise ConfigurationError(
            "fragments.stores: there are none: give the configuration a table "
            '[fragments.stores.NAME] with kind = "directory" for each place to keep fragments in'
        )
    _share_one_heap()
    core = CoreContainer(settings=settings)
    async with core.compute(), open_fragment_stores(core) as opened:
        away = {name: str(error) for name, error in opened.failed.items()}
        for name, why in away.items():
            say(f"store {name} does not answer: {why}")
        if not opened.stores:
            raise StoreUnavailable("no store of [fragments.stores] answers")
        yield Keeping(opened, away, settings.fragments, core.compute(), shown)


def _share_one_heap() -> None:
    """Have all threads share the memory that is free. glibc gives each a heap of its own, and each
    keeps the megabytes of a run that it once coded: 70 MiB more, for nothing."""
    with suppress(AttributeError, OSError):  # Another C library.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if that is a terminal; gives what moves it on, in bytes."""
    if not (shown and sys.stderr.isatty()):
        yield lambda phase, done, of: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    # What is printed meanwhile goes above the bar, but only where both are on the terminal.
    both = sys.stdout.isatty()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=both
    ) as bar:
        task, last = bar.add_task("", total=None), ""

        def told(phase: str, done: int, of: int) -> None:
            nonlocal last
            if phase != last:
                bar.reset(task, description=phase)
                last = phase
            bar.update(task, completed=done, total=of)

        yield told
