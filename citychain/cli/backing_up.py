"""What ``citychain backup`` and ``citychain restore-city`` do, apart from telling it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

from citychain import notes
from citychain.archive.rebuilding import Rebuilding, Rebuilt
from citychain.backup.opening import check_copy, found_backup, open_copy, read_copy
from citychain.backup.taking import Backup, beyond, notes_of
from citychain.backup.voted import add_voted, furthest
from citychain.city.replay import PublishedRound, held_since
from citychain.city.state import LedgerState, MemoryState
from citychain.cli.auditing import open_source
from citychain.cli.output import counted, say
from citychain.cli.reaching import Servers
from citychain.cli.rebuilding import prepare, progress
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import ConfigurationError, InvalidRound, VerificationError
from citychain.following.audit import Audit, AuditResult
from citychain.following.composing import open_replay
from citychain.following.source import StorageSource
from citychain.genesis import Genesis
from citychain.moving.copying import CityCopy, copy_waiting
from citychain.ports import CityStorage, FragmentStore

__all__ = ["Taken", "run_backup", "run_restore"]

NOTES_PAGE: Final = 16
"""Notes that are kept in one call: one has at most some hundred kilobytes of public keys."""


class Taken(NamedTuple):
    """What a backup has now."""

    first: int
    """The first round that is new in it; after the last, if none is."""
    found: AuditResult


async def run_backup(
    *,
    city: str,
    given: Genesis | None,
    folder: Path,
    up_to: int | None,
    servers: Servers | None,
    source: Path | None,
    timeout: float,
    settings: Settings,
    shown: bool,
) -> Taken:
    """Take a backup, or go on with one.

    Args:
        given: The genesis that the city must have.
        up_to: The last round to take.
        servers: Where to ask, or ``None`` to read the storage that the settings name.
        source: The folder of a backup to read instead.
        shown: Show how far it is.

    Raises:
        InvalidRequest: there is no certified round ``up_to``, or the backup is beyond it.
        InvalidRound: the first thing that does not hold; the rounds before it are taken.
    """
    core = CoreContainer(settings=settings)
    async with (
        core.compute() as compute,
        open_source(core, city, servers, timeout, source) as (given_rounds, genesis),
    ):
        if given is not None and given.id != genesis.id:
            raise VerificationError(
                f"genesis: the file is {given.id.hex()}, the city's {genesis.id.hex()}"
            )
        await compute(found_backup, folder, genesis)
        async with AsyncExitStack() as stack:
            copy = await stack.enter_async_context(open_copy(core, genesis, folder))
            first = (await copy.head()).round + 1
            state = LedgerState(copy)
            replay = await stack.enter_async_context(
                open_replay(core, genesis, state, given_rounds.public_keys)
            )
            await replay.resume(copy)
            told = stack.enter_context(progress("rounds", shown))
            backup = Backup(
                genesis=genesis,
                source=given_rounds,
                copy=copy,
                state=state,
                replay=replay,
                compute=compute,
                told=told,
            )
            return Taken(first, await backup.run(up_to))


async def run_restore(
    *,
    city: str,
    genesis: Genesis,
    folder: Path,
    to: str | None,
    known: Sequence[tuple[int, bytes]],
    representatives: Sequence[Path],
    settings: Settings,
    shown: bool,
) -> tuple[Rebuilt, str]:
    """Restore a city from a backup, and from the fragment stores what came after it; what there
    is, and the storage that has it.

    Args:
        to: Name of the storage; ``None`` for the city's own.
        known: Rounds that are certified, and the hashes of their checkpoints: the city lives only
            with them, the backup's last, and that of the storage that it is to leave.
        representatives: State directories of representatives, for the last rounds.
        shown: Show how far it is.

    Raises:
        InvalidRound: the first thing in the backup that does not hold; nothing was changed.
        VerificationError: a certified round is not there, and no server opens the city.
        InvalidRequest: the storage has the city already, or a server has it open where it lives.
    """
    for directory in representatives:
        check_copy(directory, genesis)
    core = CoreContainer(settings=settings)
    async with core.compute() as compute, core.engines(), AsyncExitStack() as stack:
        copy = await stack.enter_async_context(read_copy(core, genesis, folder))
        voted = {
            str(directory): await stack.enter_async_context(read_copy(core, genesis, directory))
            for directory in representatives
        }
        most = await furthest(voted) if voted else ""
        stores: Mapping[str, FragmentStore] = {}
        away: Mapping[str, object] = {}
        if settings.fragments.stores:
            opened = await stack.enter_async_context(open_fragment_stores(core))
            stores, away = opened.stores, opened.failed
            for name, error in away.items():
                say(f"store {name} does not answer: {error}")
        kept = await _check(core, genesis, copy, folder, shown)
        place = await prepare(core, city, genesis, to)
        head = await copy.head()
        last = await copy.checkpoint_hashes([head.certified_round])
        await _keep_known(place.storage, [*known, *last.items(), *place.left.items()])
        with progress("restoring rounds", shown) as told:
            if (await place.storage.head()).round <= head.round:
                copying = CityCopy(genesis.id, copy, place.storage, compute)
                await copying.begin()
                await copying.rounds(told)
                held = await held_since(copy, head.round, genesis.hold_rounds, compute)
                await copy_waiting(copy, place.storage, held)
                # Nothing else of the backup was checked: not its other notes, nor what waits.
                beside = [*kept.items(), *(await copy.notes(notes.RECOVERY)).items()]
                for start in range(0, len(beside), NOTES_PAGE):
                    await place.storage.keep(dict(beside[start : start + NOTES_PAGE]))
            if voted:
                count = await add_voted(core, genesis, voted[most], place.storage)
                say(f"{most}: {counted(count, 'round')} more")
            rebuilding = Rebuilding(
                genesis,
                stores,
                place.storage,
                folder=settings.data_dir / "archive",
                compute=compute,
                told=told,
                away=away,
                claimed=await beyond(copy),
            )
            return await rebuilding.run(), place.name


async def _keep_known(target: CityStorage, known: Sequence[tuple[int, bytes]]) -> None:
    """Note rounds that are certified, besides those of earlier attempts.

    Raises:
        VerificationError: a round is certified in two versions.
    """
    there = await target.notes(notes.KNOWN)
    hashes = {notes.round_of(name): digest for name, digest in there.items() if digest}
    for round, digest in known:
        if hashes.setdefault(round, digest) != digest:
            raise VerificationError(
                f"round {round} is certified in two versions: the city has two histories, and "
                "cannot go on as the same city; begin another one, with a genesis of its own"
            )
    await target.keep({notes.round_name(notes.KNOWN, it): hashes[it] for it in hashes})


async def _check(
    core: CoreContainer, genesis: Genesis, copy: CityStorage, folder: Path, shown: bool
) -> Mapping[str, bytes]:
    """Audit a backup; the notes that its rounds say.

    Raises:
        InvalidRound: the first thing that does not hold.
        ConfigurationError: it has no round.
    """
    source, state = StorageSource(copy), MemoryState(genesis.initial_objects())
    last, _ = await source.last_round()
    if not last:
        raise ConfigurationError(f"{folder}: the backup has no round: take one that has")
    kept: dict[str, bytes] = {}
    async with open_replay(core, genesis, state, source.public_keys) as replay:
        with progress("checking rounds", shown) as told:

            def seen(published: PublishedRound, certified: bool) -> None:
                told(published.stored.round, last)
                # Where taking was broken off, that of the last one had not come.
                if not certified and published.stored.round < last:
                    raise InvalidRound(published.stored.round, "certificate", "it is not there")
                kept.update(notes_of(genesis, published))

            audit = Audit(
                replay=replay,
                state=state,
                chain=CommitteeChain(genesis),
                source=source,
                compute=core.compute(),
                seen=seen,
            )
            await audit.run(last)
    return kept
