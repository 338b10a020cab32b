"""What ``citychain audit`` does, apart from telling it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias

from citychain.acknowledgement import Promise, verify
from citychain.backup.opening import genesis_of, read_copy
from citychain.backup.taking import beyond
from citychain.city.answers import Archived
from citychain.city.founding import genesis_path
from citychain.city.replay import PublishedRound
from citychain.city.state import MemoryState
from citychain.cli.output import say
from citychain.cli.reaching import Servers, connect
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import ConfigurationError, InvalidRequest, NotFound, VerificationError
from citychain.following.audit import Audit, AuditResult
from citychain.following.composing import open_replay
from citychain.following.source import RoundSource, ServerSource, StorageSource
from citychain.genesis import Genesis
from citychain.moving.composing import open_home
from citychain.promise import PromiseCheck, PromiseVerdict
from citychain.retention.composing import segments_of
from citychain.retention.segments import ArchivedTransactions

__all__ = ["Seen", "open_source", "run_audit"]

Seen: TypeAlias = Callable[[PublishedRound, bool], None]
"""Told of a round that holds, and whether it and all before are certified."""


async def run_audit(
    *,
    city: str,
    given: Genesis | None,
    first: int,
    promise: Promise | None,
    servers: Servers | None,
    timeout: float,
    settings: Settings,
    progress: bool,
    watch: Callable[[Genesis, CommitteeChain], Seen] | None = None,
    folder: Path | None = None,
) -> tuple[AuditResult, PromiseVerdict | None]:
    """Audit a city, and a promise if there is one.

    Args:
        given: The genesis that the city must have.
        servers: Where to ask, or ``None`` to read the storage that the settings name.
        watch: Gives for the city, and the committees that the audit finds, what is told of each
            round that holds, as `Audit` does.
        folder: Of a backup to read instead.

    Raises:
        InvalidRound: the first thing that does not hold.
        InvalidRequest: ``first`` is after the last round.
        InvalidAcknowledgement: the promise is not the city's.
    """
    core = CoreContainer(settings=settings)
    async with (
        core.compute(),
        open_source(core, city, servers, timeout, folder) as (source, genesis),
    ):
        if given is not None and given.id != genesis.id:
            raise VerificationError(
                f"genesis: the file is {given.id.hex()}, the city's {genesis.id.hex()}"
            )
        state = MemoryState(genesis.initial_objects())
        check = None
        if promise is not None:
            verify(genesis, promise)
            check = PromiseCheck(promise)
        chain = CommitteeChain(genesis)
        told = None if watch is None else watch(genesis, chain)
        sealed, _ = await source.last_round()
        if first > max(sealed, 1):
            detail = f"is {first}, and the city's last round is {sealed}"
            raise InvalidRequest("--from-round", detail)
        async with open_replay(core, genesis, state, source.public_keys) as replay:
            with _progress(sealed, progress) as advance:

                def seen(published: PublishedRound, certified: bool) -> None:
                    advance()
                    if check is not None:
                        check.see(published.stored, published.record, certified)
                    if told is not None:
                        told(published, certified)

                audit = Audit(
                    replay=replay,
                    state=state,
                    chain=chain,
                    source=source,
                    compute=core.compute(),
                    seen=seen,
                )
                result = await audit.run(sealed, first)
    return result, None if check is None else check.verdict(core.clock().time_ms())


@asynccontextmanager
async def open_source(
    core: CoreContainer,
    city: str,
    servers: Servers | None,
    timeout: float,
    folder: Path | None = None,
) -> AsyncIterator[tuple[RoundSource, Genesis]]:
    """A city's rounds and its genesis, from a backup in a folder, from a server, or from the
    storage that is configured: one of the three."""
    if folder is not None:
        if servers is None:
            raise InvalidRequest("--from", "reads a backup: leave out --storage")
        genesis = _genesis_in(core, city, folder)
        async with read_copy(core, genesis, folder) as copy:
            if later := await beyond(copy):
                say(
                    f"{folder} ends with round {(await copy.head()).round}, and round "
                    f"{max(later)} was certified when it was taken: no city lives on from it alone"
                )
            yield StorageSource(copy), genesis
        return
    if servers is not None:
        async with connect(servers, city, timeout) as client:
            info = await client.info()
            yield ServerSource(client), Genesis.from_bytes(info.genesis_file)
        return
    plan = core.catalogue().plan(_slug(core, city))
    path = genesis_path(core.settings().data_dir, plan)
    try:
        genesis = Genesis.read(path)
    except FileNotFoundError:
        raise ConfigurationError(f"city {plan.slug}: there is no genesis file {path}") from None
    async with core.engines(), AsyncExitStack() as stack:
        storage = (await open_home(core, plan, genesis)).storage
        archived: Archived | None = None
        if core.settings().fragments.stores:
            stores = await stack.enter_async_context(open_fragment_stores(core))
            archived = ArchivedTransactions(segments_of(core, genesis, storage, stores)).raw
        yield StorageSource(storage, archived), genesis


def _genesis_in(core: CoreContainer, city: str, folder: Path) -> Genesis:
    genesis = genesis_of(folder)
    found = core.catalogue().find(city)
    if city != genesis.id.hex() and genesis.city != (city if found is None else found.slug):
        raise ConfigurationError(f"--from: {folder} is of city {genesis.city}, not of {city}")
    return genesis


def _slug(core: CoreContainer, city: str) -> str:
    found = core.catalogue().find(city)
    if found is None:
        raise NotFound("city", city, core.catalogue().suggestions(city))
    return found.slug


@contextmanager
def _progress(rounds: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal; gives what moves it on by a round."""
    from rich.console import Console
    from rich.progress import Progress

    drawn = shown and sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not drawn, transient=True) as bar:
        task = bar.add_task("rounds", total=rounds)
        yield lambda: bar.advance(task)
