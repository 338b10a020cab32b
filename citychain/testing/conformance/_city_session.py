"""The city under test: where it is kept, and the servers that serve it one after the other."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from pydantic import ValidationError

from citychain.city.names import CityNames
from citychain.city.plan import CityPlan, define_city
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.errors import ConfigurationError
from citychain.explain import Source, explain
from citychain.genesis import Genesis
from citychain.handler import EventBatch
from citychain.hooks.definitions import CityDefinition
from citychain.ports import StorageBackend, StorageContext
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, services_pb2_grpc
from citychain.rpc.messages import decode_events
from citychain.testing.conformance._city_installed import DISTRIBUTION
from citychain.testing.server import CityServerFactory
from citychain.types import State

__all__ = ["AT_ONCE", "Cities", "City", "Serving", "Sign", "to_install"]

Sign: TypeAlias = Callable[..., Awaitable[list[SignedTransaction]]]
"""Called as `citychain.testing.server.TransactionFactory` is."""

AT_ONCE: Final = {"listen": "127.0.0.1:0", "drain_seconds": 0}
"""``[server]`` of one that is closed without finishing anything."""

SHARING: Final = {"cluster": {"lease_seconds": 0.5}}
"""What servers have that share a city, unless the settings say otherwise: one that died is not
missed for long."""

CHEAP: Final = {"num_hashes": 10}
"""What a city under test has, unless its options say otherwise: rounds that cost little."""


class Cities:
    """Makes cities of one definition, each with storage of its own.

    Args:
        slug: Offered by an installed plugin, as the whole of the city is.
        table: Over it, as in ``[cities.SLUG]``.
        settings: As `CityServerFactory` takes them.
        folder: For their data.
    """

    def __init__(
        self,
        slug: str,
        table: Mapping[str, Any],
        settings: Mapping[str, Any],
        start: CityServerFactory,
        folder: Path,
    ) -> None:
        self.slug = slug
        self.patience = timedelta(seconds=30)
        """How long the tests wait for a city to do what it must."""
        self._settings = dict(settings)
        if "plugins" in settings and settings["plugins"].get("allow") is not None:
            plugins = settings["plugins"]
            self._settings["plugins"] = {**plugins, "allow": [*plugins["allow"], DISTRIBUTION]}
        self._others: Mapping[str, Any] = self._settings.pop("cities", {})
        self._overrides: Mapping[str, Any] = self._settings.pop("overrides", None) or {}
        self._start = start
        self._folder = folder
        self._numbers = itertools.count()
        # Said always, since a server of the tests keeps in memory what says nothing.
        core = self.core({slug: table})
        defined, _ = define_city(slug, core.settings(), core.registry())
        self._table = {**CHEAP, "storage": defined.storage, **table}
        self.plan = self.core().catalogue().plan(slug)
        """What the city is made of."""
        self.durable = self.plan.storage.definition.durable
        """Its storage outlives a process."""

    def core(self, tables: Mapping[str, Any] | None = None) -> CoreContainer:
        """Parts for who follows the city; serves nothing.

        Args:
            tables: Instead of the city's own, as in ``[cities.SLUG]``.
        """
        named = {"plugins", "storage", "network"} & self._settings.keys()
        values: dict[str, Any] = {name: self._settings[name] for name in named}
        values["cities"] = {self.slug: self._table} if tables is None else tables
        return CoreContainer(settings=_settings(data_dir=self._folder / "nowhere", **values))

    def clashes(self) -> Mapping[str, tuple[str, ...]]:
        """Names, as `normalise` gives them, that cities claim that only happen to be installed;
        not those of the fixture `settings`."""
        installed = self.core().registry().cities.values()
        cities = {city.slug: city for city in installed if city.slug not in self._others}
        names = {slug: (*it.titles.values(), *it.aliases) for slug, it in cities.items()}
        names[self.slug] = (*self.plan.titles.values(), *self.plan.aliases)
        return CityNames(names).clashes

    def __call__(self) -> City:
        """Another city."""
        return City(self, self._folder / str(next(self._numbers)))

    def server(self, directory: Path, network: str, parts: Mapping[str, Any], server: Any) -> Any:
        """A server of the city in a directory, to be entered.

        Args:
            network: Unless the settings name one.
        """
        overrides = {**self._overrides}
        if parts:
            own = overrides.get(self.slug, {})
            own = own if isinstance(own, Mapping) else {"handler": own}
            overrides[self.slug] = _in_front(own, parts)
        return self._start(
            {**self._others, self.slug: self._table},
            overrides,
            directory=directory,
            **{
                **SHARING,
                "network": network,
                **self._settings,
                **({"server": server} if server else {}),
            },
        )


def _settings(**values: Any) -> Settings:
    """Like `load_settings`, of nothing but these values."""
    try:
        return Settings(**values)
    except ValidationError as error:
        explained = explain(error, Settings, (Source(values, lambda key: ""),))
        raise ConfigurationError(explained) from None


def _in_front(own: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """A city's own overrides, and those of a test: a backend behind them, other parts before."""

    def chain(first: Any, then: Any) -> Any:
        return lambda real: then(first(real) if callable(first) else first)

    both = {**parts, **own}
    for part in own.keys() & parts.keys():
        if part != "backend":
            both[part] = chain(own[part], parts[part])
        elif callable(own[part]):
            both[part] = chain(parts[part], own[part])
    return both


class City:
    """One city, in a directory of its own."""

    def __init__(self, cities: Cities, directory: Path) -> None:
        self.cities = cities
        self.directory = directory
        # Its own: cities of other tests may be in the same storage, under the same name.
        self._network = f"suite-{secrets.token_hex(8)}"
        self._stack = AsyncExitStack()
        self._backend: StorageBackend | None = None

    @property
    def plan(self) -> CityPlan:
        """What it is made of."""
        return self.cities.plan

    @asynccontextmanager
    async def serve(self, *, server: Any = None, **parts: Any) -> AsyncIterator[Serving]:
        """A server of the city, that goes on from what the last one left.

        Args:
            server: Instead of the ``[server]`` that the tests have.
            parts: Overrides of the city's parts.
        """
        if not self.cities.durable:
            parts["backend"] = await self._kept()
        starting = self.cities.server(self.directory, self._network, parts, server)
        async with starting as running:
            serving = Serving(running.address, self.cities)
            async with serving.named(self.cities.slug) as client:
                serving.client = client
                yield serving

    async def _kept(self) -> StorageBackend:
        """The backend of a storage that goes with its process.

        Servers of a test stand for processes that end and begin anew, so it outlives them.
        """
        if self._backend is None:
            storage = self.plan.storage
            context = StorageContext(
                self.directory / "kept",
                await self._stack.enter_async_context(Executor(2)),
                SystemClock(),
            )
            self._backend = await self._stack.enter_async_context(
                storage.definition.factory(storage.options, context)
            )
        return self._backend

    async def close(self) -> None:
        """Let go of what the city's storage keeps."""
        self._backend = None
        await self._stack.aclose()


class Serving:
    """A server, and a client of the city."""

    client: CityClient
    """Entered."""

    def __init__(self, address: str, cities: Cities) -> None:
        self.address = address
        self.patience = cities.patience

    def named(self, name: str) -> CityClient:
        """Another client, of the city of a name; to be entered."""
        return CityClient(name, ChannelFactory([self.address]), timeout=self.patience)

    async def genesis(self) -> Genesis:
        """The city's genesis."""
        return Genesis.from_bytes((await self.client.info()).genesis_file)

    async def events(
        self,
        *,
        tx_ids: Sequence[bytes] = (),
        author: bytes | None = None,
        from_state: State,
        after: int | None = None,
    ) -> AsyncGenerator[EventBatch, None]:
        """What the server tells a watcher, as it tells it: the client would mend some of it.

        Of transactions, of an author, or of everything.
        """
        slug = (await self.client.info()).listing.slug
        request = services_pb2.WatchRequest(
            city=slug, from_state=ledger_pb2.State.ValueType(from_state), after_position=after
        )
        if tx_ids:
            request.transactions.tx_ids.extend(tx_ids)
        elif author is not None:
            request.author = author
        else:
            request.everything = True
        async with ChannelFactory([self.address]).channel() as channel:
            stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
            call = stub.Watch(request, timeout=self.patience.total_seconds())
            try:
                async for message in call:
                    yield decode_events(message)
            finally:
                call.cancel()


def to_install(
    definition: CityDefinition | str, plugins: Mapping[str, Any]
) -> tuple[str, list[CityDefinition]]:
    """A city's slug, and its definition where no installed plugin offers it.

    Args:
        plugins: The table ``[plugins]``.
    """
    slug = definition if isinstance(definition, str) else definition.slug
    registry = CoreContainer(settings=_settings(plugins=plugins)).registry()
    offered = registry.find_city(slug)
    if offered is not None and offered.slug != slug:
        offered = None  # A catalogue knows a city by this name that has another slug.
    if offered is not None and definition not in (slug, offered):
        pytest.fail(
            f"an installed plugin offers {slug} with other values than this definition: return "
            "the slug, and what is to differ from the fixture `options`",
            pytrace=False,
        )
    if offered is None and isinstance(definition, str):
        pytest.fail(
            f"no installed plugin offers the city {slug}: install the plugin (pip install -e .), "
            "or return its CityDefinition",
            pytrace=False,
        )
    return slug, [] if offered is not None or isinstance(definition, str) else [definition]
