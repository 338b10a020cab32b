"""The remote store and servers that lie, hang or go; owners; proofs of chunks."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fragments.shelves import SMALL, chunk_at, noise, shelves, store
from free_ports import free_address
from storage_host import StorageHost, running_host

from citychain.client.fragments import PAGE, RemoteOptions, RemoteStore
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import (
    FragmentMissing,
    NotOwned,
    StorageError,
    StoreFull,
    StoreUnavailable,
    VerificationError,
)
from citychain.fragments.layout import Shape
from citychain.fragments.placement import Place
from citychain.fragments.sources import FOUND_MAX
from citychain.fragments.storing import store_object
from citychain.hooks.definitions import FOLDER
from citychain.ports import FragmentKey, Space, StorageContext
from citychain.rpc._generated.citychain.v1 import storage_pb2 as pb
from citychain.rpc._generated.citychain.v1 import storage_pb2_grpc
from citychain.rpc.messages.fragments import encode_fragment_key

KEY = FragmentKey(b"o" * 32, b"r" * 32, 3)
LATER = KEY._replace(index=4)
SECONDS = 60


@pytest.fixture(scope="module")
def host() -> Iterator[StorageHost]:
    with running_host() as host:
        yield host


@asynccontextmanager
async def opened(
    endpoint: str, folder: Path, owner_file: Path | None = None
) -> AsyncIterator[RemoteStore]:
    async with Executor(2) as compute:
        options = RemoteOptions(endpoint=endpoint, owner_file=owner_file)
        context = StorageContext(folder, compute, SystemClock())
        async with RemoteStore(options, context) as opened:
            yield opened


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


# --- owners


async def test_an_owners_token_is_made_once_and_is_its_users_alone(
    host: StorageHost, tmp_path: Path
) -> None:
    endpoint = host.serve(tmp_path / "kept")
    for _ in range(2):
        async with opened(endpoint, tmp_path / "data" / "mine") as mine:
            await mine.put(KEY, 3, one(b"abc"))
            assert await mine.delete(KEY)
            await mine.put(KEY, 3, one(b"abc"))
    token = tmp_path / "data" / "mine" / "owner"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert [path.name for path in token.parent.iterdir()] == ["owner"]
    async with opened(endpoint, tmp_path / "data" / "other") as other:
        assert await other.read(KEY, 0, 3) == b"abc"
        with pytest.raises(NotOwned, match=f"{endpoint}: .*only its owner may delete it"):
            await other.delete(KEY)
    async with opened(endpoint, tmp_path / "elsewhere", token) as again:
        assert await again.delete(KEY)
    assert not (tmp_path / "elsewhere").exists()


async def test_an_owners_token_has_its_name_durably(
    host: StorageHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def linked(source: Path, target: Path) -> None:
        events.append("link")
        link(source, target)

    endpoint = host.serve(tmp_path / "kept")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    async with opened(endpoint, tmp_path / "data" / "mine"):
        assert f"sync {tmp_path.name}" in events, "of data"
        assert "sync data" in events[: events.index("link")], "of mine"
        assert events[-2:] == ["link", "sync mine"]


async def test_an_owners_own_comes_before_what_others_put_there(
    host: StorageHost, tmp_path: Path
) -> None:
    endpoint = host.serve(tmp_path / "kept")
    async with opened(endpoint, tmp_path / "a") as mine, opened(endpoint, tmp_path / "b") as other:
        await other.put(KEY, 5, one(b"wrong"))
        await mine.put(KEY, 6, one(b"right!"))
        assert await mine.size(KEY) == 6
        assert await mine.read(KEY, 0, 6) == b"right!"
        assert await other.read(KEY, 0, 5) == b"wrong"


async def test_an_object_is_stored_and_read_in_spite_of_who_filled_its_keys(
    host: StorageHost, tmp_path: Path
) -> None:
    """With rubbish of another size, with rubbish of the right one, and with what is right but may
    be deleted by somebody else at any time."""
    endpoint = host.serve(tmp_path / "kept")
    content, shape, place = noise(9 * SMALL), Shape(2, 1, SMALL), [Place("it", 1.0, "it")]
    async with opened(endpoint, tmp_path / "a") as liar, opened(endpoint, tmp_path / "b") as mine:
        compute = mine._context.compute
        right = shelves(3)
        survey = await store(content, shape, right.values(), compute)
        keys = survey.manifest.fragment_keys()
        whole = {key: shelf.content[key] for key, shelf in zip(keys, right.values(), strict=True)}
        first = (b"wrong", bytes(len(whole[keys[1]])), whole[keys[2]])
        for key, put in zip(keys, first, strict=True):
            await liar.put(key, len(put), one(put))
        stored = await store_object(io.BytesIO(content), shape, {"it": mine}, place, compute)
        assert not stored.missing
        assert not stored.refusals
        for key in keys:
            assert await liar.delete(key)
            assert await mine.read(key, 0, len(whole[key])) == whole[key]


async def test_the_limit_is_what_it_may_be_for_this_owner(
    host: StorageHost, tmp_path: Path
) -> None:
    endpoint = host.serve(tmp_path / "kept", limit=10, owner_limit=6)
    async with opened(endpoint, tmp_path / "a") as mine, opened(endpoint, tmp_path / "b") as other:
        await mine.put(KEY, 5, one(bytes(5)))
        assert await mine.space() == Space(5, 6)
        assert await other.space() == Space(5, 10)
        with pytest.raises(StoreFull, match=f"{endpoint}: the owner's share is full"):
            await mine.put(LATER, 2, one(bytes(2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"short", "has 5 bytes"), (b"x" * 65, "has 65 bytes")],
)
async def test_an_owner_file_that_is_none_is_named(
    host: StorageHost, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(StoreUnavailable, match=f"owner_file: .*token.*{message}"):
        async with opened("127.0.0.1:1", tmp_path / "data", tmp_path / "token"):
            pass


def test_options_are_checked(tmp_path: Path) -> None:
    given = {"endpoint": "cellar:1", "owner_file": "token"}
    options = RemoteOptions.model_validate(given, context={FOLDER: tmp_path})
    assert options.owner_file == tmp_path / "token"
    for endpoint in ("", "cellar", "cellar:0", "a:1,b:2"):
        with pytest.raises(ValueError, match="endpoint"):
            RemoteOptions(endpoint=endpoint)


# --- proofs


async def test_chunks_are_proven_by_who_has_them(host: StorageHost, tmp_path: Path) -> None:
    stores = shelves(4)
    async with opened(host.serve(tmp_path / "kept"), tmp_path / "mine") as mine:
        compute = mine._context.compute
        manifest = (
            await store(noise(9 * SMALL), Shape(2, 2, SMALL), stores.values(), compute)
        ).manifest
        for key, shelf in zip(manifest.fragment_keys(), stores.values(), strict=True):
            content = shelf.content[key]
            await mine.put(key, len(content), one(content))
            proofs = await mine.challenge(key, [4, 0, 4])
            for proof, chunk in zip(proofs, (4, 0, 4), strict=True):
                begin, length = chunk_at(manifest, chunk)
                assert proof.chunk == content[begin : begin + length]
        with pytest.raises(StoreUnavailable, match="chunk"):
            await mine.challenge(key, [5])
        with pytest.raises(StoreUnavailable, match="chunks"):
            await mine.challenge(key, [])
        with pytest.raises(StoreUnavailable, match="at most 64"):
            await mine.challenge(key, [0] * 65)
        with pytest.raises(FragmentMissing):
            await mine.challenge(KEY, [0])
        await mine.put(KEY, 3, one(b"abc"))
        with pytest.raises(VerificationError, match="does not verify"):
            await mine.challenge(KEY, [0])


async def test_another_owners_wrong_copy_does_not_spoil_a_proof(
    host: StorageHost, tmp_path: Path
) -> None:
    endpoint = host.serve(tmp_path / "kept")
    [shelf] = shelves(1).values()
    async with opened(endpoint, tmp_path / "a") as liar, opened(endpoint, tmp_path / "b") as mine:
        compute = mine._context.compute
        survey = await store(noise(3 * SMALL), Shape(1, 0, SMALL), [shelf], compute)
        [key] = survey.manifest.fragment_keys()
        await liar.put(key, 5, one(b"wrong"))
        await mine.put(key, len(shelf.content[key]), one(shelf.content[key]))
        for asking in (liar, mine):
            [proof] = await asking.challenge(key, [2])
            assert proof.object_id == key.object_id


# --- servers that are not what they should be


class Fake(storage_pb2_grpc.StorageServiceServicer):
    """Answers whatever a test sets; its methods are grpc's."""

    space: Any = pb.GetSpaceResponse(used=0)
    answers: Any = None
    found: Any = None
    is_slow = has_ended = False

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def GetSpace(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.space

    async def answer(self, request: Any, context: Any) -> Any:
        if self.answers is None:
            self.asked.set()
            await self.go_on.wait()
        return self.answers

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for answer in await self.answer(request, context):
            yield answer

    async def StoreFragment(self, messages: Any, context: Any) -> Any:  # noqa: N802
        if self.answers is None:
            await asyncio.Event().wait()
        await context.send_initial_metadata((("citychain-judgement", "wanted"),))
        async for message in messages:
            if message.commit:
                break
        if self.is_slow:
            self.asked.set()
            await self.go_on.wait()
            self.has_ended = True
        return self.answers

    async def FindFragments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await (self.found or self.answer)(request, context)

    HasFragment = ListFragments = DeleteFragment = answer  # type: ignore[assignment]
    FetchFragment = Challenge = stream  # type: ignore[assignment]


@asynccontextmanager
async def faked(folder: Path) -> AsyncIterator[tuple[Fake, RemoteStore]]:
    fake, server = Fake(), grpc.aio.server()
    storage_pb2_grpc.add_StorageServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with opened(f"127.0.0.1:{port}", folder) as store:
            yield fake, store
    finally:
        await server.stop(None)


Call = Callable[[RemoteStore], Any]


def keys_of(*keys: FragmentKey) -> list[pb.FragmentKey]:
    return [encode_fragment_key(key) for key in keys]


@pytest.mark.parametrize(
    ("call", "answer", "message"),
    [
        (lambda it: it.read(KEY, 0, 3), [pb.FetchFragmentResponse(part=b"ab")], "2 bytes for 3"),
        (lambda it: it.read(KEY, 0, 3), [pb.FetchFragmentResponse(part=b"abcd")], "4 bytes for 3"),
        (lambda it: it.read(KEY, 0, 3), [], "0 bytes for 3"),
        (
            lambda it: it.find(KEY.object_id),
            pb.FindFragmentsResponse(keys=keys_of(LATER, KEY)),
            "not in order",
        ),
        (
            lambda it: it.keys(None, 9),
            pb.ListFragmentsResponse(keys=keys_of(KEY, KEY)),
            "not in order",
        ),
        (
            lambda it: it.keys(KEY, 9),
            pb.ListFragmentsResponse(keys=keys_of(KEY, LATER)),
            "do not go on after",
        ),
        (
            lambda it: it.keys(None, 9),
            pb.ListFragmentsResponse(keys=[pb.FragmentKey(object_id=b"x")]),
            r"keys\[0\].object_id: 1 bytes",
        ),
        (
            lambda it: it.keys(None, 9),
            pb.ListFragmentsResponse(keys=keys_of(KEY._replace(index=255))),
            "index: 255",
        ),
        (
            lambda it: it.put(KEY, 3, one(b"abc")),
            pb.StoreFragmentResponse(stored=False),
            "did not store",
        ),
    ],
)
async def test_a_server_that_answers_nonsense_cannot_be_used(
    tmp_path: Path, call: Call, answer: Any, message: str
) -> None:
    async with faked(tmp_path) as (fake, store):
        fake.answers = answer
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:[0-9]+: .*{message}"):
            await call(store)


@pytest.mark.parametrize("proofs", [[], [b"x"], [b"x", b"y"]])
async def test_proofs_that_are_none_are_refused(tmp_path: Path, proofs: list[bytes]) -> None:
    async with faked(tmp_path) as (fake, store):
        fake.answers = [pb.ChallengeResponse(proof=proof) for proof in proofs]
        with pytest.raises(VerificationError):
            await store.challenge(KEY, [0])


async def test_more_keys_than_asked_for_are_left_out(tmp_path: Path) -> None:
    async with faked(tmp_path) as (fake, store):
        fake.answers = pb.ListFragmentsResponse(keys=keys_of(KEY, LATER))
        assert await store.keys(None, 1) == [KEY]


async def test_a_server_that_finds_no_end_of_keys_is_left(tmp_path: Path) -> None:
    number = 0

    async def find(request: Any, context: Any) -> Any:
        nonlocal number
        page = []
        for number in range(number + 1, number + PAGE + 1):  # noqa: B020
            page.append(KEY._replace(root=number.to_bytes(32)))
        return pb.FindFragmentsResponse(keys=keys_of(*page))

    async with faked(tmp_path) as (fake, store), asyncio.timeout(SECONDS):
        fake.found = find
        assert len(await store.find(KEY.object_id)) == FOUND_MAX
        assert number < FOUND_MAX + PAGE


async def test_a_page_that_is_too_large_is_refused(tmp_path: Path) -> None:
    keys = [KEY._replace(root=number.to_bytes(32)) for number in range(40_000)]
    async with faked(tmp_path) as (fake, store), asyncio.timeout(SECONDS):
        fake.answers = pb.ListFragmentsResponse(keys=keys_of(*keys[:1_001]))
        with pytest.raises(StoreUnavailable, match="1001, where 1000 are a page"):
            await store.keys(None, 2_000)
        fake.answers = pb.ListFragmentsResponse(keys=keys_of(*keys))
        with pytest.raises(StoreUnavailable, match="larger than max"):
            await store.keys(None, 2_000)
        fake.answers = pb.FindFragmentsResponse(keys=keys_of(KEY._replace(object_id=b"x" * 32)))
        with pytest.raises(StoreUnavailable, match="of another object"):
            await store.find(KEY.object_id)


CALLS: list[Call] = [
    lambda it: it.read(KEY, 0, 3),
    lambda it: it.size(KEY),
    lambda it: it.find(KEY.object_id),
    lambda it: it.keys(None, 9),
    lambda it: it.delete(KEY),
    lambda it: it.put(KEY, 3, one(b"abc")),
    lambda it: it.challenge(KEY, [0]),
]


async def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with faked(tmp_path) as (_, store):
        store._seconds = 0.05
        async with asyncio.timeout(SECONDS):
            for call in CALLS:
                with pytest.raises(StoreUnavailable, match=r"in time|no word from the server"):
                    await call(store)


async def test_who_is_cancelled_while_a_server_hangs_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citychain.client.fragments.SETTLE_SECONDS", 0.05)
    async with faked(tmp_path) as (_, store), asyncio.timeout(SECONDS):
        for call in CALLS:
            task = asyncio.ensure_future(call(store))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


async def test_a_put_whose_last_step_takes_too_long_has_ended_when_it_fails(tmp_path: Path) -> None:
    """Or it would be stored after the next delete."""
    async with faked(tmp_path) as (fake, store), asyncio.timeout(SECONDS):
        store._seconds = 0.2
        fake.is_slow, fake.answers = True, pb.StoreFragmentResponse(stored=True)
        putting = asyncio.create_task(store.put(KEY, 3, one(b"abc")))
        asked = asyncio.create_task(fake.asked.wait())
        await asyncio.wait([putting, asked], return_when=asyncio.FIRST_COMPLETED)
        asyncio.get_running_loop().call_later(1, fake.go_on.set)
        with pytest.raises(StoreUnavailable, match="no word from the server"):
            await putting
        assert fake.has_ended
        asked.cancel()


async def test_who_cancels_a_delete_waits_until_it_is_done(tmp_path: Path) -> None:
    """Or it would be done after the next put."""
    async with faked(tmp_path) as (fake, store), asyncio.timeout(SECONDS):
        deleting = asyncio.create_task(store.delete(KEY))
        await fake.asked.wait()
        for _ in range(3):
            deleting.cancel()
            await asyncio.wait([deleting], timeout=0.01)
            assert not deleting.done()
        fake.answers = pb.DeleteFragmentResponse(deleted=True)
        fake.go_on.set()
        await asyncio.wait([deleting])
        assert deleting.cancelled()


async def test_what_is_no_storage_server_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is it running"):
        async with opened(free_address(), tmp_path):
            pass
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(StoreUnavailable, match="no citychain server"):
            async with opened(f"127.0.0.1:{port}", tmp_path):
                pass
    finally:
        await server.stop(None)


async def test_a_size_that_does_not_fit_the_content_stores_nothing(
    host: StorageHost, tmp_path: Path
) -> None:
    async with opened(host.serve(tmp_path / "kept"), tmp_path / "mine") as mine:
        for size in (2, 4):
            with pytest.raises(StorageError, match=f"of {size} bytes came with 3"):
                await mine.put(KEY, size, one(b"abc"))
            assert await mine.space() == Space(0, None)
