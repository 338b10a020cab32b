"""A real server inside a test."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from citychain.city.engines import StorageEngines
from citychain.city.overrides import CITY_PARTS, Overrides, check_names
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.config import Settings
from citychain.containers import (
    CoreContainer,
    RunningServer,
    open_server,
)
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, InvalidRound
from citychain.explain import Source, explain
from citychain.following.composing import open_representative
from citychain.following.representative import Representative
from citychain.genesis import Genesis
from citychain.nearest import unknown
from citychain.ports import Clock

__all__ = [
    "CityClientFactory",
    "CityServer",
    "CityServerFactory",
    "Plan",
    "TransactionFactory",
    "make_plan",
]

SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
OPERATOR_KEY: Final = "operator.key"
FAST_PACER: Final = {"min_seconds": 0.01, "max_seconds": 0.05}
"""Tests do not wait for rounds."""
SERVER: Final = {"listen": "127.0.0.1:0", "drain_seconds": 1}
CITY_TABLE: Final = "settings"
"""Among a city's overrides: its table, as in ``[cities.NAME]``."""
ARGUMENTS: Final = ("cities", "overrides", "clock", "operator", "directory")
"""Of `CityServerFactory`, besides the names of settings."""


@dataclass(frozen=True, slots=True)
class CityServer:
    """A running server."""

    address: str
    """Host and port."""
    _settings: Settings
    _directory: Path

    def client(self, city: str, *, timeout: timedelta = timedelta(seconds=120)) -> CityClient:
        """A client of one of its cities; enter it to use it.

        Args:
            timeout: How long a call is repeated while the server refuses it for the moment. With
                one second such a refusal is raised at once: servers ask for longer waits.
        """
        return CityClient(city, ChannelFactory([self.address]), timeout=timeout)

    @asynccontextmanager
    async def representative(
        self,
        city: str,
        key: SigningKey,
        *,
        objected: Callable[[InvalidRound], None] | None = None,
    ) -> AsyncIterator[Representative]:
        """An honest representative elsewhere, at work until this is left.

        It follows the city through the server, computes each round anew with parts of its own,
        and votes, or objects. A key goes on where it was.

        Args:
            key: It votes once this has a seat in the committee.
            objected: Told of the round that it refuses, once.
        """
        core = CoreContainer(settings=self._settings)
        async with core.compute(), self.client(city) as client:
            genesis = Genesis.from_bytes((await client.info()).genesis_file)
            who = f"{genesis.city}-{key_id(key.public_key).hex()}"
            async with open_representative(
                core,
                genesis=genesis,
                key=key,
                client=client,
                directory=self._directory / "representatives" / who,
                objected=objected,
            ) as representative:
                work = asyncio.create_task(representative.run())
                try:
                    yield representative
                finally:
                    work.cancel()
                    await asyncio.wait({work})  # Unlike awaiting it, tells who was cancelled.
                    if not work.cancelled():
                        work.result()


class CityServerFactory:
    """What the fixture `city_server` gives.

    Args:
        directory: For the data of the servers that it starts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    def __call__(
        self,
        cities: Iterable[str] | Mapping[str, Mapping[str, Any]] = (),
        overrides: Overrides | None = None,
        *,
        clock: Clock | None = None,
        operator: SigningKey | None = None,
        directory: Path | None = None,
        **settings: Any,
    ) -> AbstractAsyncContextManager[CityServer]:
        """Start a server; leaving stops it.

        Args:
            cities: Those that the configuration defines, or changes, beside those that
                installed plugins offer: names, or tables as in ``[cities.NAME]``. Where
                nothing else is said they are kept in memory. Where none are given, those of
                ``overrides`` are added: each that a plugin offers, or a new one whose slug is
                not so near to an offered one that it may be misspelt.
            overrides: By city a whole handler, or a table of what is replaced:

                - ``storage``, ``dag``, ``consensus``, ``backend`` (the storage backend),
                  ``handler``, ``clock``, ``operator`` (its `SigningKey`) and
                  ``representatives`` (keys that vote inside the server; the first committee
                  too, if the city's table names none): an object, or a function that is
                  given the real one and returns what stands in for it. An object must be
                  ready for use: nobody enters it.
                - ``settings``: what is laid over the city's table.
            clock: Of the whole server, instead of the real one.
            operator: Key of the whole server, instead of a new one.
            directory: With the data of an earlier server, to go on with it; stays after the
                test.
            settings: Other tables of citychain.toml: ``pacer={"max_tx": 10}``.

        Raises:
            ConfigurationError: a setting is wrong, or a name is unknown.
        """
        if directory is None:
            directory = self._directory / str(next(self._numbers))
        plan = make_plan(
            directory,
            cities,
            overrides or {},
            storage="memory",
            clock=clock,
            operator=operator,
            settings=settings,
        )
        return _serve(plan)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server of a test is to be."""

    directory: Path
    settings: Settings
    overrides: Overrides
    clock: Clock | None
    operator: SigningKey | None
    unnamed: Collection[str]
    """Cities that only the overrides name."""

    @asynccontextmanager
    async def open(
        self,
        overrides: Overrides | None = None,
        plugins: Sequence[object] = (),
        engines: Callable[..., StorageEngines] | None = None,
    ) -> AsyncIterator[RunningServer]:
        """Run such a server.

        Args:
            overrides: Instead of the plan's.
            plugins: As `open_server` takes them, and ``engines``.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "city_server runs on asyncio alone; with anyio, let the fixture anyio_backend "
                'return "asyncio"'
            ) from None
        parts = self.overrides if overrides is None else overrides
        async with open_server(
            self.settings, parts, self.clock, self.operator, self.unnamed, plugins, engines
        ) as running:
            yield running

    def server(self, address: str) -> CityServer:
        """What a test sees of one."""
        return CityServer(address, self.settings, self.directory)


def make_plan(
    directory: Path,
    cities: Iterable[str] | Mapping[str, Mapping[str, Any]],
    overrides: Overrides,
    *,
    storage: str,
    clock: Clock | None,
    operator: SigningKey | None,
    settings: Mapping[str, Any],
) -> Plan:
    """A plan of what `CityServerFactory` is given.

    Args:
        storage: Of cities whose tables say nothing else.

    Raises:
        ConfigurationError: a setting is wrong, or a name is unknown.
    """
    if operator is None and not (directory / OPERATOR_KEY).exists():
        directory.mkdir(parents=True, exist_ok=True)
        create_key(directory / OPERATOR_KEY)
    given = _tables(cities)
    tables, parts = _laid_over(given, overrides)
    server = settings.get("server", {})
    values = {
        "data_dir": directory / "data",
        "operator_key": directory / OPERATOR_KEY,
        "pacer": FAST_PACER,
        "cities": {name: {"storage": storage, **table} for name, table in tables.items()},
        **settings,
        "server": {**SERVER, **server} if isinstance(server, Mapping) else server,
    }
    # Where cities are given, no other may be overridden.
    unnamed = () if given else tuple(parts)
    return Plan(directory, _settings(values), parts, clock, operator, unnamed)


def _tables(
    cities: Iterable[str] | Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    tables = dict(cities) if isinstance(cities, Mapping) else {name: {} for name in cities}
    for name, table in tables.items():
        if table and not SLUG.fullmatch(name):
            slug = name.lower().replace(" ", "-")
            raise ConfigurationError(
                f"cities: the table of {name!r} is for no city, since a table names its city by "
                f"slug: write {slug if SLUG.fullmatch(slug) else 'tokyo'!r} or the like"
            )
    # A name in another script is an alias: a plugin says whose.
    return {name: table for name, table in tables.items() if SLUG.fullmatch(name)}


def _laid_over(
    tables: Mapping[str, Mapping[str, Any]], overrides: Overrides
) -> tuple[dict[str, Mapping[str, Any]], Overrides]:
    """The cities' tables with those of the overrides over them, and the other overrides.

    Raises:
        ConfigurationError: naming the override that is for no city, or no part.
    """
    laid, parts = dict(tables), dict(overrides)
    for slug, override in overrides.items():
        if not SLUG.fullmatch(slug):
            raise ConfigurationError(
                f"override of {slug!r}: an override names its city by slug, such as tokyo"
            )
        if tables and slug not in tables:
            raise ConfigurationError(f"override: {unknown('city', slug, tables, 'cities')}")
        table: Mapping[str, Any] = {}
        if isinstance(override, Mapping):
            check_names(slug, override, (*CITY_PARTS, CITY_TABLE))
            table = override.get(CITY_TABLE, {})
            parts[slug] = {name: item for name, item in override.items() if name != CITY_TABLE}
        laid[slug] = {**tables.get(slug, {}), **table}
    return laid, parts


def _settings(values: Mapping[str, Any]) -> Settings:
    """Like `load_settings`, of nothing but these values."""
    for name in values:
        if name not in Settings.model_fields:
            known = (*ARGUMENTS, *Settings.model_fields)
            raise ConfigurationError(
                f"city_server: {unknown('setting', name, dict.fromkeys(known))}"
            )
    try:
        return Settings(**values)
    except ValidationError as error:
        source = Source(values, lambda key: "")
        raise ConfigurationError(explain(error, Settings, (source,))) from None


@asynccontextmanager
async def _serve(plan: Plan) -> AsyncIterator[CityServer]:
    async with plan.open() as running:
        yield plan.server(running.address)


class CityClientFactory:
    """What the fixture `city_client` gives."""

    def __init__(self, server: CityServerFactory) -> None:
        self._server = server

    @asynccontextmanager
    async def __call__(self, city: str = "tokyo", **options: Any) -> AsyncIterator[CityClient]:
        """Start a server and connect to a city of it.

        A name that no installed plugin has is a new city with default parts: where the
        plugin is what is tested, look at ``(await city.info()).rule`` once.

        Args:
            options: As for `CityServerFactory`.
        """
        options.setdefault("cities", [city])
        async with self._server(**options) as server, server.client(city) as client:
            yield client


class TransactionFactory:
    """What the fixture `signed_transactions` gives."""

    def key(self, number: int = 0) -> SigningKey:
        """Test key of this number, the same in every run. Never use it outside tests."""
        return SigningKey(number.to_bytes(32, "big"))

    async def __call__(
        self, city: CityClient, count: int = 1, *, key: int = 0, **fields: Any
    ) -> list[SignedTransaction]:
        """Transactions signed for a city, each with another content.

        Args:
            key: Number of the key that signs.
            fields: As for `citychain.client.sign_transaction`.
        """
        genesis = (await city.info()).genesis
        return [
            sign_transaction(
                self.key(key),
                genesis=genesis,
                with_public_key=True,
                **({"data": f"test {number}".encode()} | fields),
            )
            for number in range(count)
        ]
