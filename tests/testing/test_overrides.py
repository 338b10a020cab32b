"""What a test replaces, at every level; what it misspells; and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from citychain.city.overrides import read_overrides
from citychain.client.keys import load_key
from citychain.containers import CityContainer, CoreContainer
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable, ConfigurationError
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Received
from citychain.ports import DagHandler, StorageContext
from citychain.receipt import Receipt
from citychain.storage.memory import MemoryBackend
from citychain.testing import FakeClock, Recording
from citychain.testing.server import CityServerFactory, TransactionFactory
from citychain.types import State

pytest_plugins = ["pytester"]

KEY = SigningKey(b"K" * 32)
VOTERS = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]


async def approved(server: Any, name: str = "tokyo", **fields: Any) -> Receipt:
    """The receipt of one transaction of a city."""
    sign = TransactionFactory()
    async with server.client(name) as city:
        [sent] = await sign(city, **fields)
        await city.submit([sent])
        await city.wait([sent.tx_id])
        return (await city.receipts([sent.tx_id]))[sent.tx_id]


# --- what is replaced


@pytest.mark.parametrize("part", ["storage", "dag", "consensus", "backend", "handler", "clock"])
async def test_a_function_is_given_the_real_part(city_server: CityServerFactory, part: str) -> None:
    recording = Recording()
    async with city_server(overrides={"tokyo": {part: recording}}) as server:
        await approved(server)
    used = {
        "storage": {"append", "commit", "certify"},
        "dag": {"decide"},
        "consensus": {"judge", "seal", "approve"},
        "backend": {"city"},
        "handler": {"submit", "watch_transactions", "receipts", "drain", "ended"},
        "clock": {"time_ms", "monotonic"},
    }[part]
    assert used <= set(recording.calls.names)


async def test_an_object_stands_in_the_place_of_a_backend_that_is_not_even_opened(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    mine = MemoryBackend(StorageContext(tmp_path, None, FakeClock()))  # type: ignore[arg-type]
    cities = {"tokyo": {"storage": "sqlite"}}
    place = tmp_path / "server"
    async with city_server(cities, {"tokyo": {"backend": mine}}, directory=place) as server:
        await approved(server)
    [city] = mine._cities.values()
    assert (await city.head()).certified_round >= 1
    assert not (place / "data" / "sqlite").exists()


async def test_a_storage_of_the_tests_own_needs_no_backend(
    city_server: CityServerFactory,
) -> None:
    from citychain.storage.memory import MemoryCity

    mine = MemoryCity(FakeClock(), b"", ())
    async with city_server(overrides={"tokyo": {"storage": mine}}) as server:
        await approved(server)
    assert (await mine.head()).certified_round >= 1


class Mock:
    """As much of a handler as a test needs."""

    async def submit(self, envelopes: Sequence[bytes]) -> Sequence[Received]:
        return [Received(bytes(32), State.APPROVED, False) for _ in envelopes]


def mocked() -> AsyncMock:
    mock = AsyncMock(spec=CityHandler)
    mock.submit.return_value = [Received(bytes(32), State.APPROVED, False)]
    return mock


@pytest.mark.parametrize(
    "handler",
    [
        Mock(),
        mocked(),
        MagicMock(submit=AsyncMock(side_effect=Mock().submit)),
        lambda real: Mock(),
        Recording(Mock()),
        {"handler": Mock()},
        {"handler": Recording(Mock()), "storage": Recording()},
    ],
    ids=["object", "AsyncMock", "MagicMock", "function", "recording", "named", "beside others"],
)
async def test_a_whole_handler_is_replaced(city_server: CityServerFactory, handler: Any) -> None:
    async with (
        city_server(overrides={"tokyo": handler}) as server,
        server.client("tokyo") as city,
    ):
        assert await city.submit([b"anything"]) == [Received(bytes(32), State.APPROVED, False)]


@pytest.mark.parametrize("mock", [AsyncMock, MagicMock])
async def test_a_mock_given_as_a_part_stands_in_its_place(
    city_server: CityServerFactory, mock: type[AsyncMock]
) -> None:
    parts = {"dag": mock(spec=DagHandler), "storage": mock(), "handler": mock()}
    parts["handler"].submit = AsyncMock(side_effect=Mock().submit)
    replaced = read_overrides({"tokyo": parts})["tokyo"]
    for name, part in parts.items():
        assert not replaced.wants(name)
        assert replaced(name) is part
    assert replaced("clock", 7) == 7
    async with (
        city_server(overrides={"tokyo": parts}) as server,
        server.client("tokyo") as city,
    ):
        assert await city.submit([b"anything"]) == [Received(bytes(32), State.APPROVED, False)]


async def test_a_class_is_given_the_real_part_though_it_has_its_methods(
    city_server: CityServerFactory,
) -> None:
    class Front:
        def __init__(self, real: DagHandler) -> None:
            self.real = real
            made.append(self)

        async def decide(self, *arguments: Any, **options: Any) -> Any:
            return await self.real.decide(*arguments, **options)

    made: list[Front] = []
    async with city_server(overrides={"tokyo": {"dag": Front}}) as server:
        await approved(server)
    assert len(made) == 1


async def test_a_whole_handler_needs_nothing_of_the_real_one(
    city_server: CityServerFactory,
) -> None:
    broken = {"tokyo": {"storage": "no-such-backend"}}
    async with (
        city_server(broken, {"tokyo": Mock()}) as server,
        server.client("tokyo") as city,
    ):
        assert await city.submit([b"anything"])


async def test_one_citys_clock_is_not_the_others(city_server: CityServerFactory) -> None:
    then = FakeClock(1_000_000_000_000)
    async with city_server(["tokyo", "osaka"], {"tokyo": {"clock": then}}) as server:
        times = []
        for name in ("tokyo", "osaka"):
            await approved(server, name)
            async with server.client(name) as city:
                times += [stored.time_ms for stored in await city.rounds()]
    assert times[0] == then.time_ms()
    assert times[1] > then.time_ms() + 1_000


async def test_the_operators_key_is_given(city_server: CityServerFactory) -> None:
    async with city_server(["tokyo"], operator=KEY) as server, server.client("tokyo") as city:
        genesis = Genesis.from_bytes((await city.info()).genesis_file)
        assert genesis.operator == KEY.public_key.hex()
        [sent] = await TransactionFactory()(city)
        [received] = await city.submit([sent], acknowledge=True)
        assert isinstance(received, Received)
        assert received.promise is not None


async def test_one_citys_operator_is_not_the_others(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    place = tmp_path / "server"
    cities = ["tokyo", "osaka"]
    async with city_server(cities, {"tokyo": {"operator": KEY}}, directory=place) as server:
        operators = {}
        for name in cities:
            await approved(server, name)
            async with server.client(name) as city:
                operators[name] = Genesis.from_bytes((await city.info()).genesis_file).operator
    own = load_key(place / "operator.key").public_key.hex()
    assert operators == {"tokyo": KEY.public_key.hex(), "osaka": own}


async def test_representatives_inside_the_server_are_given_with_their_seats(
    city_server: CityServerFactory,
) -> None:
    voters = {"representatives": VOTERS, "settings": {"consensus": "poh-pop", "num_hashes": 10}}
    async with city_server(overrides={"tokyo": voters}) as server:
        receipt = await approved(server)
        assert {vote.key_id for vote in receipt.certificate.votes} <= {
            key_id(key.public_key) for key in VOTERS
        }
        assert len(receipt.certificate.votes) >= 2
        async with server.client("tokyo") as city:
            assert [member.stake for member in (await city.committee()).members] == [1, 1, 1]


async def test_a_citys_settings_are_laid_over_its_table(city_server: CityServerFactory) -> None:
    table = {"num_hashes": 7, "hold_rounds": 3}
    override = {"settings": {"num_hashes": 9}}
    async with (
        city_server({"tokyo": table}, {"tokyo": override}) as server,
        server.client("tokyo") as city,
    ):
        genesis = Genesis.from_bytes((await city.info()).genesis_file)
        assert (genesis.num_hashes, genesis.hold_rounds) == (9, 3)


async def test_two_cities_have_what_is_theirs_though_one_recording_stands_before_both(
    city_server: CityServerFactory,
) -> None:
    recording = Recording()
    overrides = {name: {"storage": recording} for name in ("tokyo", "osaka")}
    async with city_server(overrides=overrides) as server:
        first, second = await approved(server, "tokyo"), await approved(server, "osaka")
        await approved(server, "tokyo")
        assert first.certificate != second.certificate
        for name, rounds in (("tokyo", 2), ("osaka", 1)):
            async with server.client(name) as city:
                assert (await city.info()).head.round == rounds
    assert recording.calls["commit"] == 3


# --- what is misspelt


@pytest.mark.parametrize(
    ("arguments", "known", "near"),
    [
        ({"cities": ["lviv"], "overrides": {"lviiv": {}}}, "the cities are lviv", "lviv?"),
        ({"overrides": {"Tokyo": {}}}, "an override names its city by slug", ""),
        (
            {"overrides": {"tokyo": {"consensu": 1}}},
            "the parts are storage, dag, consensus, backend, handler, clock, operator, "
            "representatives, settings",
            "consensus?",
        ),
        ({"clok": None}, "the settings are cities, overrides, clock, operator", "clock?"),
        ({"pacr": {}}, "plugins, pacer, limits", "pacer?"),
        ({"pacer": {"max_txs": 1}}, "pacer.max_txs: unknown key", "max_tx?"),
        ({"pacer": {"zzz": 1}}, "there are min_seconds, max_seconds, max_tx", ""),
        ({"cities": {"tokyo": {"dga": "x"}}}, "cities.tokyo.dga: unknown key", "dag?"),
        ({"overrides": {"tokyo": {"settings": {"dga": ""}}}}, "cities.tokyo.dga", "dag?"),
    ],
)
async def test_an_unknown_name_is_refused_before_anything_starts(
    city_server: CityServerFactory, arguments: Mapping[str, Any], known: str, near: str
) -> None:
    with pytest.raises(ConfigurationError) as told:
        city_server(**arguments)
    assert known in str(told.value)
    assert near in str(told.value)


@pytest.mark.parametrize(("slug", "near"), [("kyotoo", "kyoto"), ("kanazaw", "kanazawa")])
async def test_an_override_of_a_misspelt_city_makes_no_new_one(
    city_server: CityServerFactory, tmp_path: Path, slug: str, near: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{slug!r}; did you mean {near}[?] .*cities="):
        async with city_server(overrides={slug: {"dag": Recording()}}, directory=tmp_path):
            pass
    assert not (tmp_path / "data").exists()
    async with city_server([slug], {slug: {"dag": Recording()}}) as server:
        await approved(server, slug)


@pytest.mark.parametrize(
    ("name", "instead"), [("Tokyo", "tokyo"), ("New York", "new-york"), ("東京", "tokyo")]
)
async def test_a_table_of_no_slug_is_refused_and_an_alias_is_not(
    city_server: CityServerFactory, name: str, instead: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"the table of {name!r} .*: write {instead!r}"):
        city_server({name: {"num_hashes": 10}})
    async with city_server({name: {}, "tokyo": {}}):
        pass


async def makes(real: Any) -> Any:
    return real


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda real: None, "override of dag: the function returned nothing"),
        (makes, "override of dag: the function returned an awaitable, which nobody awaits"),
        (AsyncMock(spec=makes), "override of dag: the function returned an awaitable"),
    ],
    ids=["nothing", "async", "AsyncMock"],
)
async def test_a_function_that_returns_no_part_is_told(
    city_server: CityServerFactory, caplog: pytest.LogCaptureFixture, function: Any, told: str
) -> None:
    from datetime import timedelta

    async with (
        city_server(overrides={"tokyo": {"dag": function}}) as server,
        server.client("tokyo", timeout=timedelta(seconds=5)) as city,
    ):
        with pytest.raises(CityUnavailable):
            await city.info()
    assert told in caplog.text


# --- what stays

RESTORED = """
import asyncio, gc, json, pathlib, sys, threading

import pytest
from citychain.containers import CityContainer, CoreContainer
from citychain.testing import FailingStorage, FakeClock, Recording

pytestmark = pytest.mark.asyncio


def overridden():
    return [
        f"{kind.__name__}.{name}"
        for kind in (CoreContainer, CityContainer)
        for name, provider in kind.providers.items()
        if provider.overridden
    ]


@pytest.mark.parametrize("time", range(2))
async def test_replaces(city_server, signed_transactions, tmp_path_factory, time):
    key = signed_transactions.key(9)
    parts = {"storage": Recording(), "dag": Recording(), "consensus": Recording()}
    override = {**parts, "operator": key, "clock": Recording(), "handler": Recording()}
    async with (
        city_server(overrides={"tokyo": override}, operator=key, clock=FakeClock()) as server,
        server.client("tokyo") as city,
    ):
        [sent] = await signed_transactions(city)
        await city.submit([sent])
        await city.wait([sent.tx_id])
    assert parts["storage"].calls["append"] == 1
    assert overridden() == []


@pytest.mark.parametrize("time", range(2))
async def test_after_it_all_is_real_again(city_server, signed_transactions, tmp_path_factory, time):
    base = tmp_path_factory.getbasetemp()
    [own] = [it for it in base.glob("city-server*") if not it.is_symlink()]  # Of this test alone.
    async with city_server(["tokyo"]) as server, server.client("tokyo") as city:
        [sent] = await signed_transactions(city)
        await city.submit([sent])
        await city.wait([sent.tx_id])
        [stored] = await city.rounds()
        assert stored.time_ms != FakeClock().time_ms()
        genesis = json.loads((await city.info()).genesis_file)
        assert genesis["operator"] != signed_transactions.key(9).public_key.hex()
    assert overridden() == []
    assert [t.name for t in threading.enumerate() if t.name.startswith("citychain")] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
"""


@pytest.mark.parametrize("distribution", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_nothing_of_a_test_stays(pytester: pytest.Pytester, distribution: tuple[str, ...]) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(RESTORED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *distribution)
    result.assert_outcomes(passed=4)


def test_no_container_is_overridden_as_a_class() -> None:
    for container in (CoreContainer, CityContainer):
        assert not [name for name, it in container.providers.items() if it.overridden]
