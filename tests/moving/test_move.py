"""A city moves between storages of a running server, and nobody who writes notices."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from moving.conftest import (
    AUTHORS,
    OPERATOR,
    STORAGES,
    TOKYO,
    Load,
    move,
    once_each,
    receipts_of,
    signed,
)

from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRequest, MoveFailed
from citychain.moving.home import home_file
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.testing.server import CityServerFactory


async def test_a_city_moves_under_load_and_no_call_fails(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        genesis = (await client.info()).genesis
        load = Load(server, genesis)
        async with load():
            await load.grown(300)
            before = await receipts_of(client, load.sent[:100])
            phases: list[str] = []
            result = await move(server, "new", told=lambda phase, done, of: phases.append(phase))
            print(result, "longest call", load.longest)
            assert "holding" in phases
            moved_at = (await client.info()).head.round
            await load.grown(300)
            back = await move(server, "old")
            print(back)
            await load.grown(100)
        after = await receipts_of(client, load.sent)
        await once_each(client, load.sent)
        assert moved_at > 0
        for tx_id, receipt in before.items():
            assert after[tx_id] == receipt
        assert not home_file(tmp_path / "data", "tokyo").exists(), "the configuration agrees"
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, load.sent) == after


async def test_it_lives_there_after_a_restart_whatever_the_configuration_says(
    city_server: CityServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        sent = signed((await client.info()).genesis, AUTHORS[0], 20, "before")
        await client.submit(sent)
        await move(server, "new")
        more = signed((await client.info()).genesis, AUTHORS[0], 20, "after")
        await client.submit(more)
        receipts = await receipts_of(client, sent + more)
    file = home_file(tmp_path / "data", "tokyo")
    assert json.loads(file.read_text()) == {"storage": "new"}
    caplog.clear()
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, sent + more) == receipts
    assert 'write storage = "new" under [cities.tokyo]' in caplog.text
    # Without the file the note in the old storage leads there.
    file.unlink()
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, sent + more) == receipts
    assert json.loads(file.read_text()) == {"storage": "new"}
    agreed = {"tokyo": {**TOKYO["tokyo"], "storage": "new"}}
    caplog.clear()
    async with city_server(agreed, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, sent + more) == receipts
    assert not file.exists()
    assert "write storage" not in caplog.text


async def test_a_server_without_the_new_storage_says_where_the_city_went(
    city_server: CityServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here: dict[str, Any] = {"operator": OPERATOR, "directory": tmp_path}
    async with city_server(TOKYO, storage=STORAGES, **here) as server:
        async with server.client("tokyo") as client:
            await client.submit(signed((await client.info()).genesis, AUTHORS[0], 3, "x"))
        await move(server, "new")
    home_file(tmp_path / "data", "tokyo").unlink()
    only_old = {"old": STORAGES["old"]}
    async with city_server(TOKYO, storage=only_old, server={"open": "eager"}, **here):
        pass
    assert "it moved from storage old to storage new after round" in caplog.text


async def test_only_the_operator_moves_a_city(city_server: CityServerFactory) -> None:
    async with city_server(TOKYO, storage=STORAGES, operator=OPERATOR) as server:
        with pytest.raises(InvalidRequest, match="signature"):
            await move(server, "new", operator=SigningKey(b"x" * 32))


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("old", "lives in storage old already"),
        ("nowhere", "nowhere"),
        ("memory", "keeps nothing when the server stops"),
    ],
)
async def test_what_cannot_be_a_home_is_refused(
    city_server: CityServerFactory, storage: str, message: str
) -> None:
    async with city_server(TOKYO, storage=STORAGES, operator=OPERATOR) as server:
        with pytest.raises(InvalidRequest, match=message):
            await move(server, storage)


async def test_a_storage_that_has_the_city_by_itself_is_refused(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    elsewhere = {"tokyo": {**TOKYO["tokyo"], "storage": "new"}}
    for table in (TOKYO, elsewhere):
        async with city_server(table, **here) as server, server.client("tokyo") as client:
            sent = signed((await client.info()).genesis, AUTHORS[0], 3, "x")
            await client.submit(sent)
            await receipts_of(client, sent)
    async with city_server(TOKYO, **here) as server:
        with pytest.raises(MoveFailed, match="storage new has this city already"):
            await move(server, "new")


async def test_a_storage_that_has_another_city_of_the_name_is_refused(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    other = {"tokyo": {"storage": "new", "num_hashes": 20}}
    async with city_server(other, **here) as server, server.client("tokyo") as client:
        await client.info()
    (tmp_path / "data" / "genesis" / "tokyo.json").unlink()
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        sent = signed((await client.info()).genesis, AUTHORS[0], 3, "x")
        await client.submit(sent)
        with pytest.raises(MoveFailed, match="storage new has another city tokyo of") as raised:
            await move(server, "new")
        assert "genesis/" not in str(raised.value), "the city lives: its genesis stays"
        with pytest.raises(InvalidRequest, match="nothing of this one to forget"):
            await move(server, "new", forget=True)
        await receipts_of(client, sent)


async def test_into_memory_and_back(city_server: CityServerFactory) -> None:
    async with (
        city_server(TOKYO, storage=STORAGES, operator=OPERATOR) as server,
        server.client("tokyo") as client,
    ):
        load = Load(server, (await client.info()).genesis)
        async with load():
            await load.grown(50)
            await move(server, "memory", allow_volatile=True)
            await load.grown(50)
            await move(server, "old")
            await load.grown(50)
        await receipts_of(client, load.sent)
        await once_each(client, load.sent)


async def test_what_a_city_left_is_forgotten_and_the_note_stays(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        sent = signed((await client.info()).genesis, AUTHORS[0], 20, "before")
        await client.submit(sent)
        receipts = await receipts_of(client, sent)
        with pytest.raises(InvalidRequest, match="did not move away from storage new"):
            await move(server, "new", forget=True)
        with pytest.raises(InvalidRequest, match="did not move away from storage old"):
            await move(server, "old", forget=True)
        await move(server, "new")
        await move(server, "old", forget=True)
        assert await receipts_of(client, sent) == receipts
        # Nothing is left, and whoever opens it is led away from there.
        home_file(tmp_path / "data", "tokyo").unlink()
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        assert await receipts_of(client, sent) == receipts
        await move(server, "old")
        more = signed((await client.info()).genesis, AUTHORS[1], 5, "after")
        await client.submit(more)
        assert (await receipts_of(client, sent + more)).items() >= receipts.items()
        await once_each(client, sent + more)


async def test_a_city_that_was_restarted_often_moves_there_and_back(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    """Each start takes a lease of a newer epoch, whether or not there are rounds."""
    here: dict[str, Any] = {"storage": STORAGES, "operator": OPERATOR, "directory": tmp_path}
    sent = []
    for number in range(4):
        async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
            genesis = (await client.info()).genesis
            if not number:
                sent += signed(genesis, AUTHORS[0], 2, "first")
                await client.submit(sent)
                await receipts_of(client, sent)
    async with city_server(TOKYO, **here) as server, server.client("tokyo") as client:
        for storage in ("new", "old", "new"):
            await move(server, storage)
            batch = signed(genesis, AUTHORS[1], 2, storage + str(len(sent)))
            await client.submit(batch)
            sent += batch
            await receipts_of(client, sent)
        await once_each(client, sent)


async def test_watchers_go_on_where_they_were(city_server: CityServerFactory) -> None:
    async with (
        city_server(TOKYO, storage=STORAGES, operator=OPERATOR) as server,
        server.client("tokyo") as client,
    ):
        genesis = (await client.info()).genesis
        channel = grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)])
        async with channel:
            transactions: Any = services_pb2_grpc.TransactionServiceStub(channel)
            dag: Any = services_pb2_grpc.DagServiceStub(channel)
            everything = transactions.Watch(
                services_pb2.WatchRequest(city="tokyo", everything=True, after_position=0)
            )
            rounds = dag.StreamRounds(
                services_pb2.StreamRoundsRequest(city="tokyo", from_round=1, sealed=True)
            )
            sent = []
            for storage in ("new", "old"):
                batch = signed(genesis, AUTHORS[0], 3, storage)
                sent += batch
                await client.submit(batch)
                await receipts_of(client, batch)
                await move(server, storage)
            batch = signed(genesis, AUTHORS[0], 3, "last")
            sent += batch
            await client.submit(batch)
            await receipts_of(client, batch)
            last = (await client.info()).head.round
            told: list[bytes] = []
            async with asyncio.timeout(120):
                while len(told) < len(sent):
                    told += [event.tx_id for event in (await everything.read()).events]
                numbers = [(await rounds.read()).round.round for _ in range(last)]
            assert sorted(told) == sorted(transaction.tx_id for transaction in sent)
            assert numbers == list(range(1, last + 1))
