"""Who may not call, or not now, is told so before any request is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from access.test_access_calls import guarded
from hostile.raw import Raw, message

from citychain.config_auth import RatesSettings
from citychain.keeping.serving import open_storage_server
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc.storage_server import StorageServerOptions

LIST = "/citychain.v1.CityService/ListCities"
SUBMIT = "/citychain.v1.TransactionService/SubmitBatch"
SPACE = "/citychain.v1.StorageService/GetSpace"
OK, EXHAUSTED, UNAUTHENTICATED = 0, 8, 16


def begun(raw: Raw, method: str) -> tuple[int, str]:
    """How a call ends of which nothing is sent but its headers."""
    return raw.status(raw.open(method))


def called(raw: Raw, method: str) -> int:
    return raw.status(raw.call(method, message(b"")))[0]


async def test_who_lacks_a_token_sends_no_request(public_files: list[Path]) -> None:
    async with guarded(public_files) as server:
        with await asyncio.to_thread(Raw, server.address) as raw:
            code, _ = await asyncio.to_thread(begun, raw, LIST)
    assert code == UNAUTHENTICATED


async def test_who_calls_too_often_sends_no_request() -> None:
    async with guarded([], RatesSettings(per_second=0.1, burst_seconds=10)) as server:
        with await asyncio.to_thread(Raw, server.address) as raw:
            assert await asyncio.to_thread(called, raw, LIST) == OK
            code, words = await asyncio.to_thread(begun, raw, LIST)
    assert (code, words) == (EXHAUSTED, "127.0.0.1 calls too often: wait")


async def test_who_begins_many_calls_at_a_time_sends_no_more_than_one_after_the_other() -> None:
    batch = pb.SubmitBatchRequest(city="kanazawa", transactions=[b"x"] * 1_000)

    def codes(address: str) -> list[int]:
        with Raw(address) as raw:
            streams = [raw.open(SUBMIT) for _ in range(5)]
            raw.status(raw.call(LIST, message(b"")))  # Once it is answered, they are let in.
            for stream in streams:
                raw.send(stream, message(batch.SerializeToString()))
            return [raw.status(stream)[0] for stream in streams]

    async with guarded([], RatesSettings(per_second=1, burst_seconds=10)) as server:
        ended = await asyncio.to_thread(codes, server.address)
    assert sorted(code == EXHAUSTED for code in ended) == [False, *[True] * 4]


async def test_a_storage_server_bounds_how_often_and_how_many(tmp_path: Path) -> None:
    async def ends(rates: RatesSettings, *steps: Any) -> list[int]:
        listen = StorageServerOptions("127.0.0.1:0")
        async with open_storage_server(
            tmp_path, listen, limit=None, owner_limit=None, rates=rates
        ) as server:
            with await asyncio.to_thread(Raw, server.address) as raw:
                return [await asyncio.to_thread(step, raw) for step in steps]

    def space(raw: Raw) -> int:
        return called(raw, SPACE)

    def left_open(raw: Raw) -> int:
        return raw.open(SPACE)

    often = RatesSettings(per_second=0.001, burst_seconds=1)
    assert await ends(often, space, space) == [OK, EXHAUSTED]
    many = RatesSettings(open_calls=2)
    assert (await ends(many, space, left_open, left_open, space))[-1] == EXHAUSTED
