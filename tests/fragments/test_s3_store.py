"""The store in a bucket passes the suite on a real server; what it leaves there; servers that
refuse, and buckets that go."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from free_ports import free_address
from pydantic import ValidationError

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import FragmentMissing, StorageError, StoreFull, StoreUnavailable
from citychain.fragments._s3_options import S3Options
from citychain.fragments.builtin import citychain_fragment_stores
from citychain.hooks.definitions import FOLDER, FragmentStoreDefinition
from citychain.ports import FragmentKey, FragmentStore, Space, StorageContext
from citychain.testing.conformance import FragmentStoreSuite

pytest.importorskip("obstore", reason="obstore is not installed: pip install 'citychain[s3]'")
pytest.importorskip("moto", reason="moto, which stands in for S3, is not installed")

from moto_process import MotoProcess

KEY = FragmentKey(bytes.fromhex("ab" * 32), bytes.fromhex("0c" * 32), 10)
NAME = f"{'ab' * 32}/{'0c' * 32}-0a"
MIB = 1 << 20
SIGNED = {"access_key_id": "somebody", "secret_access_key": "known to the store alone"}

[S3] = [it for it in citychain_fragment_stores() if it.name == "s3"]


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoProcess]:
    server = MotoProcess()
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def settled(options: S3Options, context: StorageContext) -> AsyncIterator[FragmentStore]:
    """The store, once all is done that a process sent which was killed."""
    await asyncio.to_thread(urlopen, f"{options.endpoint}/settle", timeout=120)
    async with S3.factory(options, context) as store:
        yield store


class TestS3Store(FragmentStoreSuite):
    big_mib = 24
    kills = 1
    examples = 5

    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        return FragmentStoreDefinition("s3", settled, S3Options, api_version=S3.api_version)

    @pytest.fixture
    def options(self, request: pytest.FixtureRequest, store_directory: Path) -> Mapping[str, Any]:
        # The suite's other process goes to the server of the first.
        said = store_directory.with_name("endpoint")
        bucket = f"suite-{sha256(bytes(store_directory)).hexdigest()[:20]}"
        if not said.exists():
            moto: MotoProcess = request.getfixturevalue("moto")
            moto.make_bucket(bucket)
            said.write_text(moto.endpoint)
        return {"bucket": bucket, "endpoint": said.read_text(), **SIGNED}

    @pytest.fixture
    def limited_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**options, "limit_mib": 6}


@pytest.fixture
def bucket(moto: MotoProcess, tmp_path: Path) -> str:
    name = f"test-{sha256(bytes(tmp_path)).hexdigest()[:20]}"
    moto.make_bucket(name)
    return name


@asynccontextmanager
async def opened(endpoint: str, bucket: str, **options: Any) -> AsyncIterator[FragmentStore]:
    async with Executor(1) as compute:
        context = StorageContext(Path("/nowhere"), compute, SystemClock())
        settings = S3Options(bucket=bucket, endpoint=endpoint, **(SIGNED | options))
        async with S3.factory(settings, context) as store:
            yield store


async def in_parts(content: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


# --- the bucket


@pytest.mark.parametrize("size", [3, 11 * MIB])
async def test_a_fragment_has_a_name_by_its_key(moto: MotoProcess, bucket: str, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    async with opened(moto.endpoint, bucket) as store:
        await store.put(KEY, size, in_parts(content[:size]))
        assert await store.size(KEY) == size
        assert await store.read(KEY, 0, size) == content[:size]
    listed = moto.ask("GET", f"{bucket}?list-type=2")
    assert f"<Key>fragments/{NAME}</Key>" in listed
    assert listed.count("<Key>") == 1
    assert moto.unjoined(bucket) == 0


async def test_stores_of_one_bucket_are_apart_by_their_prefixes(
    moto: MotoProcess, bucket: str
) -> None:
    async with (
        opened(moto.endpoint, bucket, prefix="city/a") as one,
        opened(moto.endpoint, bucket, prefix="city/ab") as other,
    ):
        await one.put(KEY, 3, in_parts(b"one"))
        assert list(await other.keys(None, 5)) == []
        assert await other.size(KEY) is None
        await other.put(KEY, 5, in_parts(b"other"))
        assert [await one.read(KEY, 0, 3), await other.read(KEY, 0, 5)] == [b"one", b"other"]
        assert await one.space() == Space(3, None)


async def test_names_of_others_are_left_alone(moto: MotoProcess, bucket: str) -> None:
    others = ("fragments/readme", f"fragments/{NAME}0", f"fragments/x/{NAME}", f"old/{NAME}")
    for name in (*others, f"fragments/{NAME.upper()}"):
        moto.ask("PUT", f"{bucket}/{name}", b"others")
    async with opened(moto.endpoint, bucket, limit_mib=1) as store:
        assert await store.space() == Space(0, MIB)
        await store.put(KEY, 3, in_parts(b"abc"))
        assert list(await store.keys(None, 1)) == [KEY]
        assert list(await store.find(KEY.object_id)) == [KEY]


async def test_more_than_one_page_of_names(moto: MotoProcess, bucket: str) -> None:
    keys = [FragmentKey(sha256(b"%d" % n).digest(), bytes(32), n % 3) for n in range(120)]
    for key in keys:
        name = f"{key.object_id.hex()}/{key.root.hex()}-{key.index:02x}"
        moto.ask("PUT", f"{bucket}/fragments/{name}", b"ab")
    keys.sort()
    async with opened(moto.endpoint, bucket) as store:
        assert list(await store.keys(None, 500)) == keys
        assert list(await store.keys(keys[10], 100)) == keys[11:111]
        assert await store.space() == Space(240, None)


# --- large fragments


async def test_a_large_fragment_that_breaks_off_leaves_no_pieces(
    moto: MotoProcess, bucket: str
) -> None:
    class Broken(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        async for part in in_parts(bytes(12 * MIB)):
            yield part
        raise Broken

    async with opened(moto.endpoint, bucket, limit_mib=20) as store:
        with pytest.raises(Broken):
            await store.put(KEY, 12 * MIB, broken())
        for said in (11 * MIB, 13 * MIB):
            with pytest.raises(StorageError, match="came with"):
                await store.put(KEY, said, in_parts(bytes(12 * MIB)))
        putting = asyncio.create_task(store.put(KEY, 18 * MIB, in_parts(bytes(18 * MIB))))
        while not moto.unjoined(bucket):
            await asyncio.sleep(0.01)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await store.size(KEY) is None
        assert moto.unjoined(bucket) == 0
        assert await store.space() == Space(0, 20 * MIB)


@pytest.mark.parametrize("size", [3, 6 * MIB])
async def test_of_two_puts_the_first_stays(moto: MotoProcess, bucket: str, size: int) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        async for part in in_parts(b"2" * size):
            yield part
        began.set()
        await go_on.wait()

    async with opened(moto.endpoint, bucket, limit_mib=20) as store:
        second = asyncio.create_task(store.put(KEY, size, held()))
        await began.wait()
        await store.put(KEY, size, in_parts(b"1" * size))
        go_on.set()
        await second
        assert await store.read(KEY, 0, 1) == b"1"
        assert await store.space() == Space(size, 20 * MIB)
    assert moto.unjoined(bucket) == 0


async def test_fragments_deleted_twice_at_once_count_once(moto: MotoProcess, bucket: str) -> None:
    async with opened(moto.endpoint, bucket, limit_mib=1) as store:
        await store.put(KEY, 3, in_parts(b"abc"))
        assert sorted(await asyncio.gather(*(store.delete(KEY) for _ in range(4)))) == [
            *(False, False, False),
            True,
        ]
        assert await store.space() == Space(0, MIB)


# --- away is not empty


async def test_a_bucket_that_is_not_there_is_unavailable(moto: MotoProcess) -> None:
    with pytest.raises(StoreUnavailable, match=r"bucket nobodys at http.*: NoSuchBucket: "):
        async with opened(moto.endpoint, "nobodys"):
            pass


async def test_a_bucket_that_goes_is_unavailable_not_empty(moto: MotoProcess, bucket: str) -> None:
    async with opened(moto.endpoint, bucket) as store:
        moto.ask("DELETE", bucket)
        calls = [
            *(store.size(KEY), store.read(KEY, 0, 1), store.delete(KEY), store.space()),
            *(store.find(KEY.object_id), store.keys(None, 1)),
            *(store.put(KEY, 3, in_parts(b"abc")), store.put(KEY, 6 * MIB, big())),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
                await call


def big() -> AsyncIterator[bytes]:
    return in_parts(bytes(6 * MIB))


async def test_a_server_that_is_away_is_unavailable() -> None:
    away = f"http://{free_address()}"
    with pytest.raises(StoreUnavailable, match=f"bucket any at {away}: HTTP error: .*; see that"):
        async with opened(away, "any", timeout_seconds=1):
            pass


# --- servers that refuse, and other oddities


class Refusal(ThreadingHTTPServer):
    """Lists nothing and has nothing; answers puts as it is told."""

    daemon_threads = True
    status = 200
    answer = b""
    listing = b""
    seen: Mapping[str, str]


class _Refusing(BaseHTTPRequestHandler):
    server: Refusal

    def answered(self, status: int, answer: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.server.seen = dict(self.headers)
        empty = b"<ListBucketResult>%s</ListBucketResult>" % self.server.listing
        self.answered(200, empty)

    def do_HEAD(self) -> None:
        self.answered(404, b"")

    def do_PUT(self) -> None:
        self.answered(self.server.status, self.server.answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing(status: int = 200, code: str = "") -> Iterator[tuple[Refusal, str]]:
    with Refusal(("127.0.0.1", 0), _Refusing) as server:
        server.status = status
        server.answer = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (403, "QuotaExceeded", StoreFull),
        (400, "XMinioAdminBucketQuotaExceeded", StoreFull),
        (507, "XMinioStorageFull", StoreFull),
        (403, "AccessDenied", StoreUnavailable),
        (403, "SignatureDoesNotMatch", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
    ],
)
async def test_what_a_server_refuses_is_told(
    status: int, code: str, raised: type[StorageError]
) -> None:
    with refusing(status, code) as (_, endpoint):
        async with opened(endpoint, "bucket") as store:
            with pytest.raises(raised, match=f"bucket at {endpoint}: {code}: as told; ") as told:
                await store.put(KEY, 3, in_parts(b"abc"))
    assert SIGNED["secret_access_key"] not in str(told.value)


async def test_names_that_are_not_listed_in_order_are_refused() -> None:
    entry = "<Contents><Key>fragments/%s</Key><Size>3</Size><LastModified>2026-01-01T00:00:00Z"
    entry += "</LastModified></Contents>"
    with refusing() as (server, endpoint):
        async with opened(endpoint, "bucket") as store:
            server.listing = "".join(entry % name for name in (NAME, "a")).encode()
            with pytest.raises(StoreUnavailable, match="use a general purpose bucket"):
                await store.keys(None, 5)


async def test_a_key_of_its_own_is_not_mixed_with_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, f"http://{free_address()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    with refusing() as (server, endpoint):
        async with opened(endpoint, "bucket", region="eu-north-1") as store:
            await store.keys(None, 1)
    seen = {name.lower(): value for name, value in server.seen.items()}
    assert "Credential=somebody/" in seen["authorization"]
    assert "/eu-north-1/s3/" in seen["authorization"]
    assert "x-amz-security-token" not in seen


async def test_an_empty_fragment_is_one_that_ends_too_soon(moto: MotoProcess, bucket: str) -> None:
    async with opened(moto.endpoint, bucket) as store:
        moto.ask("PUT", f"{bucket}/fragments/{NAME}", b"")
        assert await store.size(KEY) == 0
        with pytest.raises(FragmentMissing, match="ends at byte 0"):
            await store.read(KEY, 0, 1)


# --- options


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "citychain.fragments.s3", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    context = StorageContext(Path("/nowhere"), Executor(1), SystemClock())
    with pytest.raises(StoreUnavailable, match=r"pip install 'citychain\[s3\]'"):
        S3.factory(S3Options(bucket="abc"), context)


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    given = {"bucket": "abc", "access_key_id": "me", "secret_access_key_file": "secret"}
    options = S3Options.model_validate(given, context={FOLDER: tmp_path})
    assert options.access_key() == ("me", "hidden")
    assert S3Options(bucket="abc").access_key() is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"access_key_id": "me"}, "give both access_key_id and secret_access_key_file"),
        ({"secret_access_key": "hidden"}, "give both access_key_id and"),
        ({**SIGNED, "secret_access_key_file": "x"}, "has both secret_access_key and"),
        (
            {"access_key_id": "me", "secret_access_key_file": "/nowhere/secret"},
            "secret_access_key_file /nowhere/secret cannot be read",
        ),
        ({"certificates": "/nowhere/ca"}, "certificates /nowhere/ca cannot be read"),
        ({"endpoint": "s3.example.org"}, "endpoint"),
        ({"endpoint": "https://me:hidden@example.org"}, "endpoint"),
        ({"prefix": "/a"}, "prefix"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"bucket": "a/b"}, "bucket"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refused:
        S3Options.model_validate({"bucket": "abc", **wrong})
    assert "hidden" not in str(refused.value)
