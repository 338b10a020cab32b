"""Opens the folder of a backup: ``genesis.json`` and, in ``ledger/``, a SQLite storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from citychain.city.founding import write_new
from citychain.errors import ConfigurationError, DirectoryInUse, NameTaken, NotFound
from citychain.genesis import Genesis
from citychain.ports import CityStorage, StorageBackend, StorageContext
from citychain.upkeep import can_be_looked_at, can_be_read

if TYPE_CHECKING:
    from citychain.containers import CoreContainer

__all__ = ["check_copy", "found_backup", "genesis_of", "open_copy", "read_copy"]

GENESIS_FILE: Final = "genesis.json"
LEDGER: Final = "ledger"


def genesis_of(folder: Path) -> Genesis:
    """The genesis of the city that a backup is of.

    Raises:
        ConfigurationError: there is no backup there.
    """
    try:
        return Genesis.read(folder / GENESIS_FILE)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{folder}: there is no copy of a city: it has no {GENESIS_FILE}"
        ) from None


def check_copy(folder: Path, genesis: Genesis) -> None:
    """Hold a folder to the city that it is to have a copy of, as a backup or a representative's
    state directory.

    Raises:
        ConfigurationError: it is another city's, or no such folder.
    """
    if (there := genesis_of(folder)).file != genesis.file:
        raise ConfigurationError(
            f"{folder}: has {there.city} with genesis {there.id.hex()}, not {genesis.city} with "
            f"{genesis.id.hex()}"
        )


def found_backup(folder: Path, genesis: Genesis) -> None:
    """Make the folder one of this city's backup, if it is not yet.

    Raises:
        ConfigurationError: it is another city's, or something else's.
    """
    if not (folder / GENESIS_FILE).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError(
                f"{folder}: has other files, and no backup: give it a folder of its own"
            )
        write_new(folder / GENESIS_FILE, genesis.file)
        return
    check_copy(folder, genesis)


@asynccontextmanager
async def open_copy(
    core: CoreContainer, genesis: Genesis, folder: Path
) -> AsyncIterator[CityStorage]:
    """The copy of the ledger in a backup of this city, to go on with.

    Args:
        core: Its compute is entered.

    Raises:
        ConfigurationError: it has another city.
        DirectoryInUse: another process has it open.
        StorageError: it cannot be opened.
    """
    async with AsyncExitStack() as stack:
        with _told_of(folder):
            backend = await stack.enter_async_context(_backend(core, folder))
        try:
            copy = await backend.city(genesis.id, genesis.file, genesis.initial_objects())
        except NameTaken as error:
            raise ConfigurationError(
                f"{folder}: its {LEDGER} is of another city {error.name}, with another genesis"
            ) from None
        yield copy


@asynccontextmanager
async def read_copy(
    core: CoreContainer, genesis: Genesis, folder: Path
) -> AsyncIterator[CityStorage]:
    """The same to read it: nothing in the folder changes, unless an earlier release wrote it.

    Args:
        core: Its compute is entered.

    Raises:
        ConfigurationError: it has no copy of this city.
        DirectoryInUse: another process has it open.
        StorageError: it cannot be read, or a newer release wrote it.
    """
    check_copy(folder, genesis)
    backend = _backend(core, folder)
    looking, reading = can_be_looked_at(backend), can_be_read(backend)
    assert looking is not None
    assert reading is not None
    found = await looking.look()
    if not found.schema_version:
        raise ConfigurationError(f"{folder}: there is no copy of a city: it has no {LEDGER}")
    async with AsyncExitStack() as stack:
        if found.schema_version != found.schema_version_known:
            # To bring it up to date; one of a newer release is refused before anything changes.
            yield await stack.enter_async_context(open_copy(core, genesis, folder))
            return
        try:
            with _told_of(folder):
                copy = await stack.enter_async_context(reading.reading(genesis.id))
        except NotFound:
            raise ConfigurationError(
                f"{folder}: its {LEDGER} has no city with genesis {genesis.id.hex()}"
            ) from None
        yield copy


def _backend(core: CoreContainer, folder: Path) -> StorageBackend:
    context = StorageContext(directory=folder / LEDGER, compute=core.compute(), clock=core.clock())
    definition = core.registry().storage_backend("sqlite")
    return definition.factory(definition.options(), context)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except DirectoryInUse as error:
        raise DirectoryInUse(
            str(folder), error.process, "stop what works on it, or wait for its end"
        ) from None
