"""What ``citychain prune`` does, apart from telling it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from citychain.city.plan import Part
from citychain.cli.output import say
from citychain.cli.saving import founded
from citychain.config import Settings
from citychain.config_tables import FOREVER
from citychain.containers import CoreContainer, open_fragment_stores
from citychain.errors import (
    ConfigurationError,
    DirectoryInUse,
    NotSupported,
    StoreUnavailable,
)
from citychain.fragments.sources import Silence, find_sources
from citychain.hooks.definitions import StorageDefinition
from citychain.keeping.stores import OpenStores
from citychain.moving.composing import open_home
from citychain.ports import Compute, StorageBackend, can_prune
from citychain.retention.composing import segments_of
from citychain.retention.pruner import Portion, Pruner
from citychain.upkeep import has_upkeep

__all__ = ["Pruned", "run_prune"]


@dataclass
class Pruned:
    """What came of it."""

    city: str = ""
    storage: str = ""
    keeps: timedelta = FOREVER
    portions: int = 0
    """Segments of which something went, or would."""
    gone: int = 0
    bytes: int = 0
    stay: int = 0
    unproven: int = 0
    """Segments that are old enough, and not proven in the archive."""
    away: dict[str, str] = field(default_factory=dict)
    """By name, why stores do not answer."""
    bytes_before: int = 0
    """Of the whole storage; 0 where that is not known."""
    bytes_after: int = 0

    def add(self, portion: Portion) -> None:
        """Count a segment."""
        if portion.why_not:
            self.unproven += 1
            return
        self.portions += 1
        self.gone += portion.gone
        self.bytes += portion.bytes
        self.stay += portion.stay


async def run_prune(
    *, city: str, dry: bool, settings: Settings, told: Callable[[Portion], None]
) -> Pruned:
    """Prune a city's storage once, without a server.

    Args:
        dry: Change nothing.
        told: Of each segment that is old enough.

    Raises:
        ConfigurationError: the city has no genesis yet, or there are no fragment stores.
        NotSupported: its storage cannot forget what transactions say.
        DirectoryInUse: its server runs.
        StoreUnavailable: no fragment store can be opened.
        StorageError: the storage failed; what was told of is done.
    """
    core = CoreContainer(settings=settings)
    if not settings.fragments.stores:
        raise ConfigurationError(
            "fragments.stores: there are none, so no archive that could be proven: nothing may go"
        )
    async with core.compute(), core.engines(), open_fragment_stores(core) as stores:
        away: dict[str, str] = {}
        for name, error in stores.failed.items():
            _lose(away, name, str(error))
        if not stores.stores:
            raise StoreUnavailable("no store of [fragments.stores] answers")
        plan, genesis = founded(core, city)
        try:
            home = await open_home(core, plan, genesis)
        except DirectoryInUse as error:
            raise DirectoryInUse(
                error.directory,
                error.process,
                "if that is the city's server, it prunes by itself; else stop it",
            ) from None
        if (retention := can_prune(home.storage)) is None:
            raise NotSupported(f"storage {home.part.name} cannot forget what transactions say")
        backend = await core.engines().backend(home.part)
        pruned = Pruned(plan.slug, home.part.name, plan.retention, away=away)
        pruned.bytes_before = pruned.bytes_after = await _bytes(backend)
        pruner = Pruner(
            genesis=genesis,
            storage=home.storage,
            retention=retention,
            segments=segments_of(core, genesis, home.storage, stores),
            keeps=plan.retention,
            compute=core.compute(),
            clock=core.clock(),
        )
        async for portion in pruner.prune(dry=dry):
            if portion.why_not:
                portion = await _with_those_away(portion, stores, away, core.compute())
            pruned.add(portion)
            told(portion)
    if not dry and pruned.bytes_before:
        pruned.bytes_after = await _bytes_of(home.part, settings)
    return pruned


async def _with_those_away(
    portion: Portion, stores: OpenStores, away: dict[str, str], compute: Compute
) -> Portion:
    """A segment that is not proven, and which stores may have what it lacks."""
    _, faults = await find_sources(bytes.fromhex(portion.object_id), stores.stores, compute)
    for fault in faults:
        if isinstance(fault, Silence):
            _lose(away, fault.store, fault.detail)
    if not away:
        return portion
    detail = f"{portion.why_not}; these stores do not answer: {', '.join(sorted(away))}"
    return replace(portion, why_not=detail)


def _lose(away: dict[str, str], name: str, why: str) -> None:
    if name not in away:
        away[name] = why
        say(f"store {name} does not answer: {why}")


async def _bytes_of(part: Part[StorageDefinition], settings: Settings) -> int:
    """Of a storage that was closed, and so has put all where it belongs."""
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines():
        return await _bytes(await core.engines().backend(part))


async def _bytes(backend: StorageBackend) -> int:
    upkeep = has_upkeep(backend)
    return 0 if upkeep is None else (await upkeep.stats()).bytes
