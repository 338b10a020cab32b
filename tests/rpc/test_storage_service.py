"""`StorageService` as anybody may call it: what is refused, and what then is left."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from citychain.errors import ConfigurationError
from citychain.fragments.directory import DirectoryStore
from citychain.keeping.serving import open_storage_server
from citychain.rpc._generated.citychain.v1 import storage_pb2 as pb
from citychain.rpc._generated.citychain.v1 import storage_pb2_grpc
from citychain.rpc.services import storage
from citychain.rpc.storage_server import StorageServer, StorageServerOptions

OWNER = b"a token of alice's"
KEY = pb.FragmentKey(object_id=b"o" * 32, root=b"r" * 32, index=254)
LIMIT = 4 << 20
MIB = 1 << 20

Step = pb.StoreFragmentRequest
Code = grpc.StatusCode


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[StorageServer]:
    (tmp_path / "kept").mkdir()
    options = StorageServerOptions("127.0.0.1:0")
    async with open_storage_server(
        tmp_path / "kept", options, limit=LIMIT, owner_limit=3 * MIB
    ) as server:
        yield server


@pytest.fixture
async def channel(server: StorageServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return storage_pb2_grpc.StorageServiceStub(channel)


def start(size: int, owner: bytes = OWNER, key: pb.FragmentKey = KEY) -> pb.StoreFragmentRequest:
    return Step(start=Step.Start(key=key, size=size, owner=owner))


async def stored(stub: Any, *steps: pb.StoreFragmentRequest) -> bool:
    async def given() -> AsyncIterator[pb.StoreFragmentRequest]:
        for step in steps:
            yield step

    return (await stub.StoreFragment(given())).stored


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def fetched(stub: Any, **fields: Any) -> list[bytes]:
    return [it.part async for it in stub.FetchFragment(pb.FetchFragmentRequest(key=KEY, **fields))]


def left(folder: Path) -> list[Path]:
    """Files besides the lock."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


async def test_a_fragment_is_stored_told_and_deleted(stub: Any) -> None:
    assert await stored(stub, start(6), Step(part=b"abc"), Step(part=b"def"), Step(commit=True))
    assert await fetched(stub, offset=1, length=4) == [b"bcde"]
    assert await fetched(stub, offset=6, length=0) == [b""]
    found = await stub.HasFragment(pb.HasFragmentRequest(key=KEY))
    assert (found.found, found.size) == (True, 6)
    listed = await stub.ListFragments(pb.ListFragmentsRequest())
    assert list(listed.keys) == [KEY]
    assert not (await stub.ListFragments(pb.ListFragmentsRequest(after=KEY))).keys
    of_object = pb.FindFragmentsRequest(object_id=KEY.object_id)
    assert list((await stub.FindFragments(of_object)).keys) == [KEY]
    of_object.after.CopyFrom(KEY)
    assert not (await stub.FindFragments(of_object)).keys
    assert (await stub.GetSpace(pb.GetSpaceRequest())).used == 6
    code, detail = await refused(
        stub.DeleteFragment(pb.DeleteFragmentRequest(key=KEY, owner=b"a token of bob's"))
    )
    assert code == Code.PERMISSION_DENIED
    assert "only its owner may delete it" in detail
    mine = pb.DeleteFragmentRequest(key=KEY, owner=OWNER)
    assert (await stub.DeleteFragment(mine)).deleted
    assert not (await stub.DeleteFragment(mine)).deleted
    assert not (await stub.HasFragment(pb.HasFragmentRequest(key=KEY))).found


async def test_a_large_read_comes_in_small_messages(stub: Any) -> None:
    content = bytes(range(256)) * 4096
    assert await stored(
        stub, start(2 * MIB), Step(part=content), Step(part=content), Step(commit=True)
    )
    parts = await fetched(stub, offset=0, length=2 * MIB)
    assert b"".join(parts) == content * 2
    assert max(map(len, parts)) == storage.FETCH_BYTES


async def test_who_reads_slowly_fills_no_memory(
    server: StorageServer, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read from the disk than fits on the way, which is short here."""
    read, reads = DirectoryStore.read, 0

    async def counted(*args: Any) -> bytes:
        nonlocal reads
        reads += 1
        return await read(*args)

    monkeypatch.setattr(DirectoryStore, "read", counted)
    parts = [Step(part=bytes(MIB))] * 3
    assert await stored(stub, start(3 * MIB), *parts, Step(commit=True))
    short = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.address, options=short) as channel:
        slow: Any = storage_pb2_grpc.StorageServiceStub(channel)
        call = slow.FetchFragment(pb.FetchFragmentRequest(key=KEY, offset=0, length=3 * MIB))
        while not reads:
            await asyncio.sleep(0.01)
        for _ in range(50):
            await stub.HasFragment(pb.HasFragmentRequest(key=KEY))
        assert reads < 12
        received = 0
        async for message in call:
            received += len(message.part)
        assert (received, reads) == (3 * MIB, 12)


@pytest.mark.parametrize(
    ("steps", "code", "detail"),
    [
        ([], Code.INVALID_ARGUMENT, "ended before its start"),
        ([Step(part=b"abc")], Code.INVALID_ARGUMENT, "must be start here"),
        ([Step(commit=True)], Code.INVALID_ARGUMENT, "must be start here"),
        ([start(3), start(3)], Code.INVALID_ARGUMENT, "must be part or commit here"),
        ([start(3), Step()], Code.INVALID_ARGUMENT, "must be part or commit here"),
        ([start(3), Step(part=b"abc"), Step(commit=False)], Code.INVALID_ARGUMENT, "must be part"),
        ([start(3), Step(part=b"abcd")], Code.INVALID_ARGUMENT, "goes beyond the fragment's 3"),
        ([start(3), Step(part=b"")], Code.INVALID_ARGUMENT, "part: must not be empty"),
        ([start(3), Step(part=b"ab"), Step(commit=True)], Code.INVALID_ARGUMENT, "1 bytes too"),
        ([start(3 * MIB), Step(part=bytes(MIB + 1))], Code.INVALID_ARGUMENT, "more than 1048576"),
        ([start(3 * MIB), Step(part=bytes(2 * MIB))], Code.RESOURCE_EXHAUSTED, "larger than max"),
        ([start(1 << 54)], Code.INVALID_ARGUMENT, "start.size"),
        ([start(LIMIT + 1)], Code.RESOURCE_EXHAUSTED, "the storage server is full"),
        ([start(3 * MIB + 1)], Code.RESOURCE_EXHAUSTED, "the owner's share is full"),
        ([start(3, owner=bytes(15))], Code.INVALID_ARGUMENT, "owner's token has 16 to 64"),
        ([start(3, owner=bytes(65))], Code.INVALID_ARGUMENT, "owner's token has 16 to 64"),
        ([start(3, key=pb.FragmentKey())], Code.INVALID_ARGUMENT, "start.key.object_id"),
    ],
)
async def test_what_is_no_fragment_is_refused_and_leaves_nothing(
    stub: Any,
    tmp_path: Path,
    steps: list[pb.StoreFragmentRequest],
    code: grpc.StatusCode,
    detail: str,
) -> None:
    told = await refused(stored(stub, *steps))
    assert told[0] == code
    assert detail in told[1]
    assert str(tmp_path) not in told[1]
    if detail == "larger than max":  # That is gRPC's own word, and the service hears of it later.
        async with asyncio.timeout(120):
            while left(tmp_path / "kept") or (await stub.GetSpace(pb.GetSpaceRequest())).used:
                await asyncio.sleep(0.01)
    assert left(tmp_path / "kept") == []
    assert (await stub.GetSpace(pb.GetSpaceRequest())).used == 0


async def test_a_stream_that_ends_without_commit_stores_nothing(stub: Any, tmp_path: Path) -> None:
    """Also where all bytes came: who sends them may break off at the last one."""
    for steps in ([start(3)], [start(3), Step(part=b"ab")], [start(3), Step(part=b"abc")]):
        assert not await stored(stub, *steps)
        assert left(tmp_path / "kept") == []
        assert (await stub.GetSpace(pb.GetSpaceRequest())).used == 0


async def test_before_a_fragment_is_sent_its_fate_is_told(stub: Any) -> None:
    call = stub.StoreFragment()
    await call.write(start(3))
    assert dict([*await call.initial_metadata()])["citychain-judgement"] == "wanted"
    await call.write(Step(part=b"abc"))
    await call.write(Step(commit=True))
    assert (await call).stored

    again = stub.StoreFragment()
    await again.write(start(3))
    assert dict([*await again.initial_metadata()])["citychain-judgement"] == "present"
    assert (await again).stored

    too_large = stub.StoreFragment()
    await too_large.write(start(LIMIT, key=pb.FragmentKey(object_id=b"x" * 32, root=b"r" * 32)))
    assert "citychain-judgement" not in dict([*await too_large.initial_metadata()])
    assert (await refused(too_large))[0] == Code.RESOURCE_EXHAUSTED


async def test_who_goes_away_leaves_nothing(stub: Any, tmp_path: Path) -> None:
    call = stub.StoreFragment()
    await call.write(start(3 * MIB))
    await call.initial_metadata()
    await call.write(Step(part=bytes(MIB)))
    async with asyncio.timeout(120):
        while len(left(tmp_path / "kept")) != 1:  # What was sent may not have come yet.
            await asyncio.sleep(0.01)
    assert (await stub.GetSpace(pb.GetSpaceRequest())).used == 3 * MIB, "its room is held"
    call.cancel()
    async with asyncio.timeout(120):
        while left(tmp_path / "kept") or (await stub.GetSpace(pb.GetSpaceRequest())).used:
            await asyncio.sleep(0.01)


async def test_who_says_nothing_holds_no_room(
    stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "IDLE_SECONDS", 0.05)
    call = stub.StoreFragment()
    await call.write(start(3))
    code, detail = await refused(call)
    assert code == Code.INVALID_ARGUMENT
    assert "nothing came" in detail
    assert left(tmp_path / "kept") == []


READS_NOTHING = """
import sys, grpc
from citychain.rpc._generated.citychain.v1 import storage_pb2 as pb, storage_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = storage_pb2_grpc.StorageServiceStub(channel)
    key = pb.FragmentKey(object_id=b"o" * 32, root=b"r" * 32, index=254)
    while True:
        answers = stub.FetchFragment(pb.FetchFragmentRequest(key=key, length=int(sys.argv[2])))
        try:
            next(answers)
            break
        except grpc.RpcError:  # It came too late even for the first part.
            pass
    print("begun", flush=True)
    sys.stdin.read()
"""
LARGE = 32 * MIB
"""More than waits between a server and a client."""


async def test_an_answer_that_nobody_reads_ends(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    usual = StorageServerOptions("127.0.0.1:0")
    async with (
        open_storage_server(tmp_path / "kept", usual, limit=None, owner_limit=None) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        parts = (Step(part=bytes(MIB)) for _ in range(LARGE // MIB))
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        assert await stored(stub, start(LARGE), *parts, Step(commit=True))
    short = replace(
        usual,
        max_concurrent_calls=1,
        connection_max=timedelta(milliseconds=100),
        call_max=timedelta(seconds=5),
    )
    async with open_storage_server(
        tmp_path / "kept", short, limit=None, owner_limit=None
    ) as server:
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", READS_NOTHING, server.address, str(LARGE)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        try:
            assert await reader.stdout.readline() == b"begun\n"
            # It has the only place there is, and lives on.
            async with asyncio.timeout(600), grpc.aio.insecure_channel(server.address) as channel:
                stub, found = storage_pb2_grpc.StorageServiceStub(channel), False
                while not found:
                    with suppress(grpc.aio.AioRpcError):
                        found = (await stub.HasFragment(pb.HasFragmentRequest(key=KEY))).found
                    await asyncio.sleep(0.05)
            assert reader.returncode is None
        finally:
            reader.kill()
            await reader.wait()


async def test_space_waits_for_what_is_at_its_last_step(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from citychain.fragments._folder import Writing

    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    finish = Writing.finish

    def slow(self: Writing) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)
        finish(self)

    monkeypatch.setattr(Writing, "finish", slow)
    putting = asyncio.create_task(stored(stub, start(3), Step(part=b"abc"), Step(commit=True)))
    await begun.wait()
    asking = asyncio.create_task(_space(stub))
    assert not (await stub.HasFragment(pb.HasFragmentRequest(key=KEY))).found
    assert not asking.done()
    go_on.set()
    assert (await asking).used == 3
    assert await putting


async def _space(stub: Any) -> pb.GetSpaceResponse:
    return await stub.GetSpace(pb.GetSpaceRequest())


@pytest.mark.parametrize(
    ("ask", "detail"),
    [
        (lambda stub: fetched(stub, offset=0, length=1 << 54), "beyond"),
        (lambda stub: fetched(stub, offset=0, length=1, owner_id=b"x"), "owner_id"),
        (lambda stub: stub.HasFragment(pb.HasFragmentRequest()), "key.object_id"),
        (
            lambda stub: stub.HasFragment(
                pb.HasFragmentRequest(key=pb.FragmentKey(object_id=b"o" * 32, root=b"r" * 31))
            ),
            "key.root",
        ),
        (
            lambda stub: stub.HasFragment(
                pb.HasFragmentRequest(
                    key=pb.FragmentKey(object_id=b"o" * 32, root=b"r" * 32, index=255)
                )
            ),
            "key.index",
        ),
        (lambda stub: stub.HasFragment(pb.HasFragmentRequest(key=KEY, owner_id=b"x")), "owner_id"),
        (lambda stub: stub.FindFragments(pb.FindFragmentsRequest()), "object_id"),
        (lambda stub: stub.ListFragments(pb.ListFragmentsRequest(page_size=1_001)), "page_size"),
        (
            lambda stub: stub.ListFragments(pb.ListFragmentsRequest(after=pb.FragmentKey())),
            "after.object_id",
        ),
        (lambda stub: stub.DeleteFragment(pb.DeleteFragmentRequest(key=KEY)), "owner"),
        (lambda stub: stub.GetSpace(pb.GetSpaceRequest(owner_id=b"x")), "owner_id"),
    ],
)
async def test_malformed_requests_name_the_field(
    stub: Any, ask: Callable[[Any], Any], detail: str
) -> None:
    code, told = await refused(ask(stub))
    assert code == Code.INVALID_ARGUMENT
    assert detail in told


async def test_what_is_not_there_is_not_found(stub: Any) -> None:
    code, detail = await refused(fetched(stub, offset=0, length=1))
    assert code == Code.NOT_FOUND
    assert "there is no fragment 254 of 6f6f" in detail


async def test_its_health_is_told(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", "citychain.v1.StorageService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1", "127.0.0.1.example:1"]
)
def test_beyond_the_loopback_is_refused_unless_it_is_said(listen: str) -> None:
    with pytest.raises(ConfigurationError, match="say --plaintext as well"):
        StorageServerOptions(listen).check(encrypted=False)
    StorageServerOptions(listen, plaintext=True).check(encrypted=False)
    StorageServerOptions(listen).check(encrypted=True)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:50061", "[::1]:1", "localhost:1"])
def test_the_loopback_needs_no_saying(listen: str) -> None:
    StorageServerOptions(listen).check(encrypted=False)


@pytest.mark.parametrize("listen", ["", "1", "127.0.0.1", "127.0.0.1:", ":1", "a:65536", "::1:5"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigurationError, match="is not host:port"):
        StorageServerOptions(listen).check(encrypted=True)
