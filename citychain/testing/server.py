"""A real server inside a test."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.config import Settings
from citychain.containers import Overrides, open_server
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError
from citychain.ports import Clock

__all__ = ["CityClientFactory", "CityServer", "CityServerFactory", "TransactionFactory"]

SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
OPERATOR_KEY: Final = "operator.key"
FAST_PACER: Final = {"min_seconds": 0.01, "max_seconds": 0.05}
"""Tests do not wait for rounds."""


@dataclass(frozen=True, slots=True)
class CityServer:
    """A running server."""

    address: str
    """Host and port."""

    def client(self, city: str) -> CityClient:
        """A client of one of its cities; enter it to use it."""
        return CityClient(city, ChannelFactory([self.address]))


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
        directory: Path | None = None,
        **settings: Any,
    ) -> AbstractAsyncContextManager[CityServer]:
        """Start a server; leaving stops it.

        Args:
            cities: Those that the configuration defines, or changes, beside those that
                installed plugins offer: names, or tables as in ``[cities.NAME]``. Where
                nothing else is said they are kept in memory. Those of ``overrides`` are added.
            overrides: By city a whole handler, or replacements of its parts, by name
                (``storage``, ``dag``, ``consensus``): an object, or a function that is
                given the real part and returns what stands in for it.
            clock: Instead of the real one.
            directory: With the data of an earlier server, to go on with it.
            settings: Other tables of citychain.toml: ``pacer={"max_tx": 10}``.

        Raises:
            ConfigurationError: a setting is wrong, or an override names no part.
        """
        if directory is None:
            directory = self._directory / str(next(self._numbers))
        if not (directory / OPERATOR_KEY).exists():
            directory.mkdir(parents=True, exist_ok=True)
            create_key(directory / OPERATOR_KEY)
        tables = dict(cities) if isinstance(cities, Mapping) else {name: {} for name in cities}
        # A name in another script is an alias: a plugin says whose.
        tables = {name: table for name, table in tables.items() if SLUG.fullmatch(name)}
        for name in overrides or {}:
            if cities and name not in tables:
                raise ConfigurationError(
                    f"override of {name}: this server's cities are {', '.join(tables) or 'none'}; "
                    "an override names its city by slug"
                )
            tables.setdefault(name, {})
        return _serve(
            directory,
            {
                "pacer": FAST_PACER,
                "cities": {name: {"storage": "memory", **table} for name, table in tables.items()},
                **settings,
            },
            overrides,
            clock,
        )


@asynccontextmanager
async def _serve(
    directory: Path, settings: Mapping[str, Any], overrides: Overrides | None, clock: Clock | None
) -> AsyncIterator[CityServer]:
    full = Settings(
        **{
            "data_dir": directory / "data",
            "operator_key": directory / OPERATOR_KEY,
            "server": {"listen": "127.0.0.1:0", "drain_seconds": 1},
            **settings,
        }
    )
    async with open_server(full, overrides, clock) as running:
        yield CityServer(running.address)


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
