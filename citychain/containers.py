"""The composition root: how a server, and each of its cities, is put together.

The only module that names concrete classes together. `CoreContainer` holds
what a server's cities share; a `CityContainer` holds one city's parts, which
are built when the city is opened. A test replaces any of them by name.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from dependency_injector import containers, providers

import citychain.client.builtin
import citychain.consensus.builtin
import citychain.dag.builtin
import citychain.fragments.builtin
import citychain.storage.builtin
from citychain._native.transactions import Limits
from citychain.access.composing import guard, judge_anew
from citychain.access.key_files import KeyFiles
from citychain.archive.composing import Archiving, city_archiving
from citychain.city.accuser import accusation
from citychain.city.catalogue import Catalogue
from citychain.city.directory import CityDirectory
from citychain.city.door import Doors
from citychain.city.engines import StorageEngines
from citychain.city.founding import found_city, keep_genesis
from citychain.city.metering import UNMETERED
from citychain.city.neighbours import find_neighbours, operator_signs, parent_of
from citychain.city.overrides import NOTHING_REPLACED, Overrides, check_cities, read_overrides
from citychain.city.pipeline import City
from citychain.city.plan import CityPlan, Part
from citychain.city.pool import PoolLimits
from citychain.city.replay import Replay
from citychain.city.spread_cities import SpreadCities
from citychain.city.spreading import Spreading, server_name
from citychain.city.state import LedgerState
from citychain.client.keys import load_key
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import Settings
from citychain.config_reload import first_of, refuse_restarts
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.errors import (
    CitychainError,
    CityUnavailable,
)
from citychain.exchange.exchange import Exchange
from citychain.following.composing import open_replay
from citychain.genesis import Genesis
from citychain.handler import CityHandler
from citychain.hooks.definitions import StorageDefinition
from citychain.hooks.events import RoundEvents
from citychain.hooks.registry import load_plugins
from citychain.keeping.server_stores import keep_stores
from citychain.keeping.stores import Opening, OpenStores, open_stores, plan_stores
from citychain.metrics.composing import server_metrics, storage_meters, tell_metrics
from citychain.moving.composing import city_mover, open_home
from citychain.moving.served import ServedMoves
from citychain.ports import (
    CityContext,
    CityStorage,
    Clock,
    StorageBackend,
    takes_votes,
)
from citychain.repair.composing import Repairing, Repairs, city_repair
from citychain.retention.composing import CityRetention, city_retention
from citychain.rpc.access import AccessInterceptor
from citychain.rpc.certificates import open_certificates
from citychain.rpc.listening import ConnectionBounds
from citychain.rpc.server import CoreServer, ServerOptions
from citychain.tracing import open_tracer

__all__ = [
    "CityContainer",
    "CoreContainer",
    "Overrides",
    "RunningServer",
    "open_directory",
    "open_fragment_stores",
    "open_server",
]

logger = logging.getLogger(__name__)

BUILTIN: Final = (
    citychain.storage.builtin,
    citychain.dag.builtin,
    citychain.consensus.builtin,
    citychain.fragments.builtin,
    citychain.client.builtin,
)


class CoreContainer(containers.DeclarativeContainer):
    """What the cities of one server share."""

    settings = providers.Dependency(instance_of=Settings)
    clock = providers.Singleton(SystemClock)
    compute = providers.Singleton(Executor)
    registry = providers.Singleton(
        load_plugins,
        builtin=providers.Object(BUILTIN),
        allow=settings.provided.plugins.allow,
        disabled=settings.provided.plugins.disabled,
        load_seconds=settings.provided.plugins.load_seconds,
    )
    events = providers.Singleton(RoundEvents, registry)
    catalogue = providers.Singleton(Catalogue, registry, settings)
    operator = providers.Singleton(load_key, settings.provided.operator_key)
    # Of its own for each server in a process, and each start: a lease names one of them.
    server_name = providers.Singleton(
        lambda network, key: server_name(network, key.public_key),
        settings.provided.network,
        operator,
    )
    keys = providers.Singleton(
        KeyCache,
        prepared=settings.provided.crypto.prepared_keys,
        public=settings.provided.crypto.public_keys,
    )
    repairs = providers.Singleton(Repairs, settings.provided.fragments, clock)
    metrics = providers.Singleton(
        server_metrics, settings.provided.metrics, clock, repairs.provided.numbers
    )
    tracer = providers.Singleton(open_tracer, settings.provided.traces)
    engines = providers.Singleton(
        StorageEngines,
        directory=settings.provided.data_dir,
        compute=compute,
        clock=clock,
        meter=providers.Callable(storage_meters, metrics),
    )
    lease = providers.Factory(timedelta, seconds=settings.provided.cluster.lease_seconds)
    spreading = providers.Singleton(Spreading, server=server_name, lease=lease, clock=clock)


def _representatives(
    plan: CityPlan, genesis: Genesis, operator: SigningKey
) -> tuple[SigningKey, ...]:
    """Those that vote inside the server: the configured ones, or the operator with a seat."""
    if plan.representatives:
        return tuple(map(load_key, plan.representatives))
    seats = {seat.key_id for seat in genesis.seats}
    return (operator,) if key_id(operator.public_key) in seats else ()


class CityContainer(containers.DeclarativeContainer):
    """One city's parts."""

    core = providers.DependenciesContainer()
    plan = providers.Dependency(instance_of=CityPlan)
    genesis = providers.Dependency(instance_of=Genesis)
    storage: providers.Dependency[CityStorage] = providers.Dependency()
    # By names of the city's own, so that a test can replace them for one city alone.
    clock = core.clock
    operator = core.operator
    representatives = providers.Callable(_representatives, plan, genesis, operator)
    context = providers.Singleton(
        CityContext,
        slug=plan.provided.slug,
        genesis=genesis,
        compute=core.compute,
        clock=clock,
        operator=operator,
        representatives=representatives,
        storage=storage,
    )
    dag = providers.Singleton(
        lambda plan, context: plan.dag.definition.factory(plan.dag.options, context),
        plan,
        context,
    )
    consensus = providers.Singleton(
        lambda plan, context: plan.consensus.definition.factory(plan.consensus.options, context),
        plan,
        context,
    )
    state = providers.Singleton(
        LedgerState, storage, shared=plan.provided.storage.definition.shared
    )
    replay: providers.Object[Replay | None] = providers.Object(None)
    """Set where representatives vote inside the server."""
    directory: providers.Dependency[CityDirectory] = providers.Dependency()
    exchange = providers.Singleton(
        Exchange,
        slug=plan.provided.slug,
        neighbours=providers.Factory(
            functools.partial, find_neighbours, plan, core.settings, directory, core.compute
        ),
        parent=providers.Factory(parent_of, plan, core.settings),
        anchor_seconds=core.settings.provided.exchange.anchor_seconds,
        operator=providers.Callable(lambda key: key_id(key.public_key), operator),
        sign=providers.Callable(operator_signs, operator, core.compute),
        compute=core.compute,
        clock=clock,
    )
    archive: providers.Object[Archiving | None] = providers.Object(None)
    retention: providers.Object[CityRetention] = providers.Object(CityRetention())
    repair: providers.Object[Repairing | None] = providers.Object(None)
    meter = providers.Object(UNMETERED)
    handler = providers.Singleton(
        City,
        slug=plan.provided.slug,
        genesis=genesis,
        storage=storage,
        shared=plan.provided.storage.definition.shared,
        dag=dag,
        consensus=consensus,
        state=state,
        replay=replay,
        compute=core.compute,
        clock=clock,
        keys=core.keys,
        operator=operator,
        pool_limits=providers.Factory(
            PoolLimits,
            transactions=plan.provided.limits.pending_transactions,
            bytes=plan.provided.limits.pending_bytes,
            author_transactions=plan.provided.limits.author_pending,
            author_per_second=plan.provided.limits.author_per_second,
        ),
        limits=providers.Factory(Limits, body_bytes_max=plan.provided.limits.body_bytes),
        final_within_ms=plan.provided.limits.final_within_ms,
        pacer=plan.provided.pacer,
        accusation=providers.Factory(
            functools.partial, accusation, genesis, operator, core.compute
        ),
        exchange=exchange,
        holder=core.server_name,
        lease=core.lease,
        on_sealed=core.events.provided.sealed,
        on_approved=core.events.provided.approved,
        archive=archive,
        prune=retention.provided.prune,
        archived=retention.provided.archived,
        repair=repair,
        meter=meter,
        tracer=core.tracer,
    )


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers calls."""

    address: str
    """Host and port."""
    directory: CityDirectory
    core: CoreContainer
    metrics_address: str
    """Host and port of the metrics; empty where there are none."""
    reload: Callable[[Settings], Awaitable[None]]
    """Go on with other settings; new cities are opened after that. One call at a time. Raises
    `ConfigurationError`: not with these; then nothing has changed."""


@asynccontextmanager
async def open_server(
    settings: Settings,
    overrides: Overrides | None = None,
    clock: Clock | None = None,
    operator: SigningKey | None = None,
    unnamed: Collection[str] = (),
    plugins: Sequence[object] = (),
    engines: Callable[..., StorageEngines] | None = None,
) -> AsyncIterator[RunningServer]:
    """Run a server; leaving finishes calls and rounds within the drain time, then closes.

    Args:
        overrides: For tests, as the five below.
        operator: Instead of the key in the file that the settings name.
        unnamed: Cities that only the overrides name, and that may be misspelt there.
        plugins: Besides those that are built in or installed.
        engines: Makes what stands in for `StorageEngines`, of the same arguments.

    Raises:
        ConfigurationError: a setting, or an override, is wrong.
    """
    core = CoreContainer(settings=settings)
    if clock is not None:
        core.clock.override(providers.Object(clock))
    if operator is not None:
        core.operator.override(providers.Object(operator))
    if plugins:
        core.registry.add_kwargs(builtin=providers.Object((*BUILTIN, *plugins)))
    if engines is not None:
        core.engines.set_provides(engines)
    # In a thread: a plugin may take its time, and signals are heeded meanwhile.
    registry = await asyncio.to_thread(core.registry)
    fresh = [slug for slug in unnamed if not await asyncio.to_thread(registry.source_of, slug)]
    check_cities(fresh, registry.cities)
    core.operator()  # Without its key no city could be opened.
    drain = timedelta(seconds=settings.server.drain_seconds)
    ready, metrics = threading.Event(), core.metrics()
    async with (
        tell_metrics(settings.metrics, metrics, ready.is_set) as metrics_address,
        _open_cities(core, overrides) as (directory, opener),
    ):
        moves = ServedMoves(directory, city_mover(core, opener.opened, core.server_name()))
        doors = Doors(directory)
        before = await guard(settings.auth, settings.rates, doors, core.clock())
        if metrics is not None:
            # Theirs are the first labels, whichever city somebody asks for before they are open.
            for slug in core.catalogue().eager():
                metrics.cities.label(slug)
        try:
            async with (
                open_certificates(settings.server.tls) as certificates,
                KeyFiles(before, settings.auth, core.clock()) as keys,
                CoreServer(
                    doors,
                    registry.records,
                    ServerOptions(
                        listen=settings.server.listen,
                        drain=drain,
                        max_message_bytes=settings.server.max_message_mib << 20,
                        connections=ConnectionBounds(calls=settings.rates.open_calls + 256),
                    ),
                    (before, *registry.interceptors()),
                    moves,
                    metrics.interceptors if metrics is not None else (),
                    certificates,
                    core.tracer(),
                ) as server,
            ):
                if metrics is not None and certificates is not None:
                    metrics.certificates.show(certificates)
                # Those of an imported map are many, and alike: each is checked when it is opened.
                await opener.begin(settings.own_cities, core.catalogue().eager())
                ready.set()
                reload = _Reload(core, opener, before, keys)
                try:
                    yield RunningServer(server.address, directory, core, metrics_address, reload)
                finally:
                    ready.clear()
                    await reload.end()
        finally:
            await core.spreading().leave()
            # What does not finish in time is durable, and goes on at the next start.
            with suppress(TimeoutError):
                async with asyncio.timeout(drain.total_seconds()):
                    await directory.drain()


@asynccontextmanager
async def open_directory(
    core: CoreContainer, overrides: Overrides | None = None
) -> AsyncIterator[CityDirectory]:
    """The directory of a server's cities; leaving closes them and all that they share.

    Raises:
        ConfigurationError: a setting, or an override, names something unknown.
    """
    async with _open_cities(core, overrides) as (directory, _):
        yield directory


@asynccontextmanager
async def _open_cities(
    core: CoreContainer, overrides: Overrides | None
) -> AsyncIterator[tuple[CityDirectory, _Opener]]:
    opener = _Opener(core, overrides or {})
    async with AsyncExitStack() as stack:
        # The first, so that it is told of the last round.
        stack.push_async_callback((await asyncio.to_thread(core.tracer)).aclose)
        compute = await stack.enter_async_context(core.compute())
        await stack.enter_async_context(core.events())
        await stack.enter_async_context(core.engines())
        await stack.enter_async_context(core.spreading())
        if core.settings().fragments.stores:
            opener.stores = await stack.enter_async_context(open_fragment_stores(core, keep_stores))
        directory = CityDirectory(core.catalogue(), opener.open_city, core.clock(), compute)
        opener.cities = SpreadCities(directory, core.settings().network, compute)
        opener.directory = directory
        await stack.enter_async_context(directory)
        yield directory, opener


@asynccontextmanager
async def open_fragment_stores(
    core: CoreContainer, opening: Opening = open_stores
) -> AsyncIterator[OpenStores]:
    """The fragment stores of the configuration; ``core``'s compute is entered.

    Args:
        opening: `keep_stores` for a server, which runs on.

    Raises:
        ConfigurationError: a kind or an option does not exist or is wrong.
        PluginError: several plugins claim a kind.
    """
    plans = plan_stores(core.settings(), await asyncio.to_thread(core.registry))
    directory = core.settings().data_dir / "fragments"
    compute, clock = core.compute(), core.clock()
    async with opening(plans, directory=directory, compute=compute, clock=clock) as stores:
        yield stores


class _Reload:
    """Goes on with other settings, or as before."""

    def __init__(
        self, core: CoreContainer, opener: _Opener, before: AccessInterceptor, keys: KeyFiles
    ) -> None:
        self._core = core
        self._opener = opener
        self._guard = before
        self._keys = keys
        self._settings = core.settings()
        self._opening: set[asyncio.Task[None]] = set()

    async def __call__(self, settings: Settings) -> None:
        """See `RunningServer.reload`."""
        core = self._core
        await asyncio.to_thread(refuse_restarts, self._settings, settings)
        judge = await judge_anew(settings.auth, settings.rates, core.clock())
        fresh = await core.compute()(core.catalogue().grow, settings)
        judge(self._guard)
        self._keys.look_at(settings.auth)
        self._settings = settings
        logger.info("the configuration was read again; new cities: %s", first_of(fresh) or "none")
        new = set(fresh)
        own = [slug for slug in settings.own_cities if slug in new]
        eager = [slug for slug in core.catalogue().eager() if slug in new]
        # A storage that hangs must not keep the server from heeding that a key was taken away.
        opening = asyncio.create_task(self._begin(own, eager))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def end(self) -> None:
        """Open no more cities by itself."""
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    async def _begin(self, own: Collection[str], eager: Collection[str]) -> None:
        try:
            await self._opener.begin(own, eager)
        except Exception:
            logger.exception("new cities were not all opened; each is opened when asked for")


class _Opener:
    """Opens cities for a directory."""

    cities: SpreadCities
    """Set before the first city is opened."""

    def __init__(self, core: CoreContainer, overrides: Overrides) -> None:
        self._core = core
        self._replaced = read_overrides(overrides)
        self.directory: CityDirectory
        """Where cities of this server find each other."""
        self.stores: OpenStores | None = None
        """Where its cities are archived."""

    async def backend(self, part: Part[StorageDefinition]) -> StorageBackend:
        """The open storage engine of a city; a shared one's cities are spread from then on."""
        backend = await self._core.engines().backend(part)
        if part.definition.shared:
            self._core.spreading().join(part.name, backend, self.cities)
        return backend

    async def begin(self, slugs: Collection[str], eager: Collection[str]) -> None:
        """Check cities that are new to this server, and open those that are not opened on use."""
        for slug in slugs:
            try:
                plan = await self._core.compute()(self._core.catalogue().plan, slug)
                if plan.storage.definition.shared:
                    # Others see this server before it has any city open.
                    await self.backend(plan.storage)
            except CitychainError as error:
                logger.error("%s cannot be opened: %s", slug, error)
        for slug in eager:
            with suppress(CityUnavailable):  # Logged, and tried again when asked for.
                await self.directory.handler(slug)

    async def open_city(self, slug: str, stack: AsyncExitStack) -> CityHandler:
        """Build and enter a city's parts and its handler."""
        core = self._core
        replaced = self._replaced.get(slug, NOTHING_REPLACED)
        handler: CityHandler
        if not replaced.wants("handler"):
            handler = replaced("handler")
            return handler
        compute = core.compute()
        plan: CityPlan = await compute(core.catalogue().plan, slug)
        container = CityContainer(core=core, directory=providers.Object(self.directory))
        for name in ("clock", "operator"):
            if name in replaced:
                real = getattr(core, name)()
                getattr(container, name).override(providers.Object(replaced(name, real)))
        if not replaced.wants("representatives"):
            plan = plan.with_committee(replaced("representatives"))
        container.plan.override(providers.Object(plan))
        genesis: Genesis = await compute(
            found_city,
            core.settings().data_dir,
            core.settings().network,
            plan,
            container.operator().public_key,
        )
        container.genesis.override(providers.Object(genesis))
        if "representatives" in replaced:
            voters = replaced("representatives", container.representatives())
            container.representatives.override(providers.Object(voters))
        storage: CityStorage | None = None
        if replaced.wants("storage"):
            home = await open_home(core, plan, genesis, self.opened)
            storage = home.storage
            container.plan.override(providers.Object(replace(plan, storage=home.part)))
        storage = replaced("storage", storage)
        container.storage.override(providers.Object(storage))
        for part in ("dag", "consensus"):
            provider = getattr(container, part)
            built = None
            if replaced.wants(part):
                built = provider()
                if isinstance(built, AbstractAsyncContextManager):
                    built = await stack.enter_async_context(built)
            provider.override(providers.Object(replaced(part, built)))
        if takes_votes(container.consensus()) and container.context().representatives:
            replay = await stack.enter_async_context(
                open_replay(core, genesis, container.state(), storage.keys)
            )
            container.replay.override(providers.Object(replay))
        if (metrics := core.metrics()) is not None:
            container.meter.override(providers.Object(metrics.cities.meter(slug)))
        archiving = city_archiving(core, container, self.stores)
        container.archive.override(providers.Object(archiving))
        retention = city_retention(core, container, self.stores)
        container.retention.override(providers.Object(retention))
        repair = city_repair(core, container, self.stores)
        container.repair.override(providers.Object(repair))
        await compute(keep_genesis, core.settings().data_dir, plan, genesis)
        handler = city = await stack.enter_async_context(container.handler())
        if metrics is not None:
            stack.enter_context(metrics.cities.observed(slug, city))
        handler = replaced("handler", handler)
        return handler

    async def opened(self, genesis: Genesis, part: Part[StorageDefinition]) -> CityStorage:
        """A city in a storage, behind what stands in for its backend.

        Raises:
            NameTaken: the storage has another city of its network and name.
        """
        replaced = self._replaced.get(genesis.city, NOTHING_REPLACED)
        backend: StorageBackend | None = None
        if replaced.wants("backend"):
            backend = await self.backend(part)
        backend = replaced("backend", backend)
        return await backend.city(genesis.id, genesis.file, genesis.initial_objects())
