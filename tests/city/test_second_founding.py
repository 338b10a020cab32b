"""A server that is configured otherwise than the first founds no second city in their storage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from citychain.city.directory import CityDirectory
from citychain.city.founding import not_taken
from citychain.city.unlike import TOLD_MAX, differences
from citychain.client.keys import create_key
from citychain.compute import Executor
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.keys import key_id
from citychain.errors import CityUnavailable, ConfigurationError
from citychain.genesis import Genesis, Representative
from citychain.handler import CityHandler
from citychain.ports import StorageContext
from citychain.storage.memory import MemoryBackend
from citychain.testing.clock import FakeClock
from citychain.testing.conformance._city_installed import install
from citychain.testing.shared import SharedMemory

ONE, TWO = ("11" * 2592, "22" * 2592)
IDS = [key_id(bytes.fromhex(key)).hex()[:12] for key in (ONE, TWO)]


def genesis(operator: str = ONE, **fields: Any) -> Genesis:
    own = {"committee": (Representative(public_key=operator),), **fields}
    return Genesis(
        **{
            "network": "main",
            "city": "tokyo",
            "rule": "sealed-rounds/1",
            "consensus": "solo/1",
            "operator": operator,
            **own,
        }
    )


# --- what differs


def test_another_operator_is_told_as_such_alone() -> None:
    told = differences(genesis(ONE), genesis(TWO))
    assert told == f"operator is key {IDS[0]}... here and key {IDS[1]}... there"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_hashes": 10}, "num_hashes is 10 here and 10000 there"),
        ({"rule": "random-tips/1"}, 'dag is "random-tips/1" here and "sealed-rounds/1" there'),
        ({"rule_options": {"seed": 1}}, "dag_options.seed is 1 here and absent there"),
        ({"consensus": "poh-pop/1"}, 'consensus is "poh-pop/1" here and "solo/1" there'),
        ({"hold_rounds": 9}, "hold_rounds is 9 here and 8 there"),
        (
            {"consensus_options": {"place": {"points": [1, 2]}}},
            'consensus_options.place is {"points": [1, 2]} here and absent there',
        ),
        (
            {"committee": (Representative(public_key=TWO, stake=2),)},
            f"committee.0.public_key is key {IDS[1]}... here and key {IDS[0]}... there; "
            "committee.0.stake is 2 here and 1 there",
        ),
        (
            {"committee": tuple(Representative(public_key=key) for key in (ONE, TWO))},
            "committee is a list of 2 here and a list of 1 there",
        ),
        (
            {"balances": {"coin": {"ab" * 32: 5}}},
            'balances.coin is {"' + "ab" * 19 + "... here and absent there",
        ),
    ],
)
def test_each_field_is_named_with_both_values(fields: dict[str, Any], told: str) -> None:
    assert differences(genesis(**fields), genesis()) == told


def test_of_many_fields_some_are_named_and_the_operator_first() -> None:
    keys = [f"{number:064x}" for number in range(50)]
    many = genesis(ONE, balances={"coin": dict.fromkeys(keys, 1)})
    others = genesis(TWO, balances={"coin": dict.fromkeys(keys, 2)}, hold_rounds=9)
    told = differences(many, others)
    assert told.startswith(f"operator is key {IDS[0]}")
    assert "balances.coin.000000000000... is 1 here and 2 there" in told
    assert told.endswith(f"; and {50 + 2 - TOLD_MAX} more")


def test_a_file_that_says_the_same_in_other_bytes_is_told_as_such() -> None:
    other = Genesis.from_bytes(genesis().file.replace(b"\n", b"\n\n"))
    assert other.id != genesis().id
    assert "byte for byte" in differences(genesis(), other)


async def test_the_refusal_names_the_city_the_storage_and_the_ways_out(tmp_path: Path) -> None:
    async with Executor(1) as compute:
        backend = MemoryBackend(StorageContext(tmp_path, compute, FakeClock()))

        async def opened(city: Genesis) -> None:
            opening = backend.city(city.id, city.file, city.initial_objects())
            await not_taken(opening, "shared", city, compute)

        await opened(genesis())
        with pytest.raises(ConfigurationError) as raised:
            await opened(genesis(num_hashes=10))
        # Of another network, it is another city.
        await opened(genesis(num_hashes=10, network="test"))
    assert str(raised.value) == (
        "city tokyo: storage shared has a city of this name in network main already, with another "
        "genesis: num_hashes is 10 here and 10000 there. Give all servers of the storage the same "
        "operator key and the same options of the city, and remove genesis/tokyo.json from the "
        "data directory of one that had others; or give this server another database, or another "
        "network name"
    )


# --- servers


class Servers:
    """Servers of one storage, each with a key file and options of its own."""

    def __init__(self, folder: Path, storage: dict[str, Any], *, own_data: bool) -> None:
        self._folder = folder
        self._storage = storage
        self._own_data = own_data
        self._stack = AsyncExitStack()

    async def start(self, name: str, key: str = "first", **table: Any) -> CityDirectory:
        path = self._folder / f"{key}.key"
        if not path.exists():
            create_key(path)
        settings = Settings(
            data_dir=self.data(name),
            operator_key=path,
            pacer={"min_seconds": 0.01, "max_seconds": 0.05},
            cluster={"lease_seconds": 1},
            storage={"engine": self._storage},
            cities={"tokyo": {"storage": "engine", "num_hashes": 10, **table}},
            plugins={"allow": ("city-under-test",)},
        )
        core = CoreContainer(settings=settings)
        return await self._stack.enter_async_context(open_directory(core))

    def data(self, name: str) -> Path:
        return self._folder / (name if self._own_data else "data")

    def genesis_file(self, name: str) -> Path:
        return self.data(name) / "genesis" / "tokyo.json"

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture(params=["sqlite", "shared-memory", "mongodb"])
async def servers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Servers]:
    install(monkeypatch, tmp_path / "site", [], [SharedMemory().definition])
    storage: dict[str, Any] = {"backend": request.param}
    if request.param == "mongodb":
        storage["uri"] = request.getfixturevalue("mongodb_uri")
        storage["database"] = request.getfixturevalue("mongodb_database")
    servers = Servers(tmp_path, storage, own_data=request.param == "mongodb")
    servers.alone = request.param == "sqlite"  # type: ignore[attr-defined]
    yield servers
    await servers.close()


async def first_city(servers: Servers) -> CityHandler:
    """The first server's, which lets go of what it has where another may not have it too."""
    directory = await servers.start("one")
    city = await directory.handler("tokyo")
    if servers.alone:  # type: ignore[attr-defined]
        await servers.close()
    # As a server elsewhere is without it, or one whose data directory was lost in part.
    servers.genesis_file("one").unlink()
    return city


@pytest.mark.parametrize(
    ("key", "table", "told"),
    [
        ("second", {}, "operator is key "),
        ("first", {"num_hashes": 20}, "num_hashes is 20 here and 10 there"),
        ("first", {"dag": "dependencies-only"}, 'dag is "dependencies-only/1" here'),
        ("first", {"balances": {"coin": {"ab" * 32: 7}}}, "balances.coin is "),
    ],
    ids=["operator", "num_hashes", "rule", "balances"],
)
async def test_a_server_with_another_genesis_is_refused(
    servers: Servers,
    key: str,
    table: dict[str, Any],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await first_city(servers)
    other = await servers.start("two", key, **table)
    with caplog.at_level(logging.ERROR), pytest.raises(CityUnavailable) as raised:
        await other.handler("tokyo")
    error = raised.value.__cause__
    assert isinstance(error, ConfigurationError)
    assert told in str(error)
    assert "city tokyo: storage engine has a city of this name" in str(error)
    # The log has it under the error id, without a traceback.
    [record] = [it for it in caplog.records if raised.value.error_id in it.getMessage()]
    assert told in record.getMessage()
    assert not record.exc_info
    # Nothing is kept of it: once it is configured alike, it opens.
    assert not servers.genesis_file("two").exists()


async def test_a_server_that_is_configured_alike_opens_the_city(servers: Servers) -> None:
    first = await first_city(servers)
    city = await (await servers.start("two")).handler("tokyo")
    assert city.genesis.id == first.genesis.id
    assert servers.genesis_file("two").read_bytes() == first.genesis.file


@pytest.mark.parametrize("servers", ["mongodb"], indirect=True)
async def test_of_servers_that_found_at_once_one_does(servers: Servers) -> None:
    directories = [await servers.start(f"{n}", f"{n % 2}", num_hashes=10 + n % 2) for n in range(4)]
    found = await asyncio.gather(
        *(directory.handler("tokyo") for directory in directories), return_exceptions=True
    )
    opened = [city.genesis.id for city in found if not isinstance(city, BaseException)]
    assert len(opened) == 2, found
    assert len(set(opened)) == 1
    for error in found:
        if isinstance(error, BaseException):
            assert isinstance(error, CityUnavailable)
            assert isinstance(error.__cause__, ConfigurationError)
            assert "operator is key" in str(error.__cause__)
            assert "num_hashes is 1" in str(error.__cause__)
