"""What ``citychain rebuild`` does, apart from telling it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, NamedTuple

from citychain.archive.rebuilding import Rebuilding, Rebuilt, Told, mark_unfinished
from citychain.city.founding import genesis_path, keep_genesis
from citychain.city.plan import CityPlan, Part
from citychain.cli.output import say
from citychain.config import Settings
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import (
    ConfigurationError,
    DirectoryInUse,
    InvalidRequest,
    NameTaken,
    NotFound,
    StorageError,
    StoreUnavailable,
)
from citychain.genesis import Genesis
from citychain.hooks.definitions import StorageDefinition
from citychain.moving.home import forget_home, write_home
from citychain.notes import HOME, KNOWN
from citychain.ports import CityStorage, Clock, SupportsServers, knows_servers
from citychain.upkeep import can_forget

__all__ = ["Prepared", "prepare", "progress", "rebuilt_record", "run_rebuild"]

PAUSE_SECONDS: Final = 0.2


class Prepared(NamedTuple):
    """A storage that a city is put into."""

    plan: CityPlan
    name: str
    """Of the storage."""
    storage: CityStorage
    left: Mapping[int, bytes]
    """Hash, by its round, of the last certified checkpoint in the storage where the city lives
    until now; empty if it is the same one, or cannot be opened."""


async def run_rebuild(
    *,
    city: str,
    genesis: Genesis,
    to: str | None,
    incomplete: bool,
    settings: Settings,
    shown: bool,
) -> tuple[Rebuilt, str]:
    """Rebuild a city from the fragment stores; what there is, and the storage that has it.

    Args:
        to: Name of the storage; ``None`` for the city's own.
        incomplete: Let it live there also if rounds are lost.
        shown: Show how far it is.

    Raises:
        InvalidRequest: the storage has the city already.
        NotFound: no store has a segment of it.
        StoreUnavailable: no store answers.
    """
    if not settings.fragments.stores:
        raise ConfigurationError(
            "fragments.stores: there are none: give the configuration a table "
            "[fragments.stores.NAME] for each place that has fragments of the archive"
        )
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines(), open_fragment_stores(core) as opened:
        compute = core.compute()
        for name, error in opened.failed.items():
            say(f"store {name} does not answer: {error}")
        if not opened.stores:
            raise StoreUnavailable("no store of [fragments.stores] answers")
        place = await prepare(core, city, genesis, to)
        with progress("rebuilding rounds", shown) as told:
            rebuilding = Rebuilding(
                genesis,
                opened.stores,
                place.storage,
                folder=settings.data_dir / "archive",
                compute=compute,
                told=told,
                away=opened.failed,
            )
            try:
                return await rebuilding.run(incomplete=incomplete), place.name
            except NotFound:
                plan = place.plan
                if place.name != plan.storage.name and await _has_rounds(core, genesis, plan):
                    await place.storage.keep({HOME: b""})
                    await compute(_remember, settings, plan, plan.storage.name)
                    say(f"{plan.slug} stays in storage {plan.storage.name}, which has it")
                    raise
                say(
                    f"no server opens {plan.slug} now: repeat this when more stores answer, or "
                    "with --incomplete to begin the city anew"
                )
                raise


async def prepare(core: CoreContainer, city: str, genesis: Genesis, to: str | None) -> Prepared:
    """Make a storage ready to be filled with a city; until that is done no server opens it.

    Args:
        core: Its compute and its engines are entered.
        to: Name of the storage; ``None`` for the city's own.

    Raises:
        InvalidRequest: the storage has the city already, or keeps nothing, or a server has it open.
        DirectoryInUse: a server has the storage open where it lives until now.
        ConfigurationError: the genesis is not the one of this city here.
    """
    compute, settings = core.compute(), core.settings()
    plan = await compute(_plan, core, city, genesis)
    part = plan.storage if to is None else _named(core, plan, to)
    if not part.definition.durable:
        raise InvalidRequest(
            "--to", f"backend {part.definition.name} keeps nothing when this command ends"
        )
    left = {} if part.name == plan.storage.name else await _left(core, genesis, plan)
    target = await _target(core, genesis, part)
    # From then on a server that opens the city finds what is unfinished, and begins no other:
    # first of all the mark, since with the genesis alone it would begin the city anew.
    is_new = await mark_unfinished(target)
    try:
        target = await _emptied(core, genesis, part, target)
    except InvalidRequest:
        if is_new:
            await target.keep({HOME: b""})
        raise
    await compute(keep_genesis, settings.data_dir, plan, genesis)
    await compute(_remember, settings, plan, part.name)
    return Prepared(plan, part.name, target, left)


async def _left(core: CoreContainer, genesis: Genesis, plan: CityPlan) -> Mapping[int, bytes]:
    """See `Prepared.left`: a server that went on there would lose the city when it starts again.

    Raises:
        InvalidRequest: a server has it open there.
        DirectoryInUse: likewise.
    """
    try:
        backend = await core.engines().backend(plan.storage)
        if (shared := knows_servers(backend)) is not None:
            await _alone(shared, plan.storage.name, genesis.id, core.lease(), core.clock())
        storage = await _target(core, genesis, plan.storage)
        certified = (await storage.head()).certified_round
        return await storage.checkpoint_hashes([certified]) if certified else {}
    except DirectoryInUse:
        raise
    except (ConfigurationError, StorageError) as error:
        say(f"what storage {plan.storage.name} has of {plan.slug} is not known: {error}")
        return {}


async def _has_rounds(core: CoreContainer, genesis: Genesis, plan: CityPlan) -> bool:
    """Whether the storage that the city lived in can be opened, and has something of it."""
    try:
        storage = await _target(core, genesis, plan.storage)
        return (await storage.head()).round > 0
    except (ConfigurationError, StorageError):
        return False


def _remember(settings: Settings, plan: CityPlan, storage: str) -> None:
    """Say where the city lives, if the configuration says otherwise."""
    if storage == plan.configured_storage:
        forget_home(settings.data_dir, plan.slug)
    else:
        write_home(settings.data_dir, plan.slug, storage)


def _plan(core: CoreContainer, city: str, genesis: Genesis) -> CityPlan:
    found = core.catalogue().find(city)
    if found is None:
        raise NotFound("city", city, core.catalogue().suggestions(city))
    plan = core.catalogue().plan(found.slug)
    if (genesis.network, genesis.city) != (core.settings().network, plan.slug):
        raise ConfigurationError(
            f"--genesis: it is of city {genesis.city} of network {genesis.network}, not of "
            f"{plan.slug} of network {core.settings().network}"
        )
    path = genesis_path(core.settings().data_dir, plan)
    if path.exists() and path.read_bytes() != genesis.file:
        raise ConfigurationError(
            f"{path}: it is another genesis file than the one given; remove it if the city that "
            "began with it is not wanted any more"
        )
    return plan


def _named(core: CoreContainer, plan: CityPlan, name: str) -> Part[StorageDefinition]:
    try:
        return core.catalogue().storage(plan.slug, name)
    except ConfigurationError as error:
        if name in core.settings().storage:
            raise
        raise InvalidRequest(
            "--to", f"the configuration has no table [storage.{name}], and {error}"
        ) from None


async def _target(
    core: CoreContainer, genesis: Genesis, part: Part[StorageDefinition]
) -> CityStorage:
    backend = await core.engines().backend(part)
    try:
        return await backend.city(genesis.id, genesis.file, genesis.initial_objects())
    except NameTaken:
        raise ConfigurationError(
            f"storage {part.name} has another city {genesis.city} of network {genesis.network}, "
            "with another genesis: rebuild into another storage"
        ) from None


async def _emptied(
    core: CoreContainer, genesis: Genesis, part: Part[StorageDefinition], target: CityStorage
) -> CityStorage:
    """A city without a round, as it was founded: servers may have taken its lease since.

    Raises:
        InvalidRequest: a server has it open.
    """
    backend = await core.engines().backend(part)
    if (shared := knows_servers(backend)) is not None:
        await _alone(shared, part.name, genesis.id, core.lease(), core.clock())
    if (await target.head()).round:
        return target
    if (forgetful := can_forget(backend)) is None:
        return target
    known = await target.notes(KNOWN)
    await forgetful.forget(genesis.id, genesis.initial_objects())
    target = await _target(core, genesis, part)
    await target.keep(known)
    return target


async def _alone(
    shared: SupportsServers, storage: str, city: bytes, lease: timedelta, clock: Clock
) -> None:
    """Wait until no server has the city's lease; in a storage that is filled, the mark keeps
    others from taking it.

    Raises:
        InvalidRequest: one has it for longer than one that stopped would.
    """
    since = clock.monotonic()
    while holders := [
        name for name, cities in (await shared.servers(lease)).items() if name and city in cities
    ]:
        if clock.monotonic() - since > 1.5 * lease.total_seconds():
            raise InvalidRequest(
                "--to",
                f"a server has the city open in storage {storage}: stop {', '.join(holders)}",
            )
        await clock.sleep(PAUSE_SECONDS)


@contextmanager
def progress(what: str, shown: bool) -> Iterator[Told]:
    """A bar on standard error, if that is a terminal; gives what moves it on."""
    from rich.console import Console
    from rich.progress import Progress

    drawn = shown and sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not drawn, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def told(done: int, of: int) -> None:
            bar.update(task, completed=done, total=max(done, of))

        yield told


def rebuilt_record(city: str, storage: str, result: Rebuilt) -> dict[str, object]:
    """What a command prints of a city that was rebuilt, as JSON."""
    return {
        "city": city,
        "storage": storage,
        "complete": not result.lost,
        "round": result.round,
        "checkpoint_hash": result.checkpoint_hash,
        "transactions": result.transactions,
        "segments": result.segments,
        "lost": result.lost,
        "beyond": result.beyond,
        "faults": result.faults,
    }
