"""The store among the files of an IPFS node passes the suite on a real one, where there is one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from kubo_process import PROGRAM, KuboProcess

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import FragmentMissing, StoreUnavailable
from citychain.fragments._ipfs_options import IpfsOptions
from citychain.fragments.builtin import citychain_fragment_stores
from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.ports import FragmentKey, FragmentStore, Space, StorageContext
from citychain.testing.clock import FakeClock
from citychain.testing.conformance import FragmentStoreSuite

pytest.importorskip("httpx", reason="httpx is not installed: pip install 'citychain[ipfs]'")
if PROGRAM is None:
    pytest.skip("there is no ipfs, kubo's program, on the PATH", allow_module_level=True)

KEY = FragmentKey(bytes.fromhex("ab" * 32), bytes.fromhex("0c" * 32), 10)
NAME = f"{'ab' * 32}-{'0c' * 32}-0a"
MIB = 1 << 20

[IPFS] = [it for it in citychain_fragment_stores() if it.name == "ipfs"]


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboProcess]:
    node = KuboProcess(tmp_path_factory.mktemp("kubo"))
    try:
        yield node
    finally:
        node.stop()


def settle(endpoint: str) -> None:
    """Wait until the node is done with what a process sent that was killed."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        request = Request(f"{endpoint}/api/v0/diag/cmds", method="POST")
        with urlopen(request, timeout=120) as answer:
            commands = [it["Command"] for it in json.load(answer) if it["Active"]]
        if commands.count("diag/cmds") == len(commands):
            return
    raise AssertionError(f"the node is not done: {commands}")


@asynccontextmanager
async def settled(options: IpfsOptions, context: StorageContext) -> AsyncIterator[FragmentStore]:
    await asyncio.to_thread(settle, options.endpoint)
    async with IPFS.factory(options, context) as store:
        yield store


class TestIpfsStore(FragmentStoreSuite):
    big_mib = 24
    kills = 1
    examples = 5

    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        return FragmentStoreDefinition("ipfs", settled, IpfsOptions, api_version=IPFS.api_version)

    @pytest.fixture
    def options(self, request: pytest.FixtureRequest, store_directory: Path) -> Mapping[str, Any]:
        # The suite's other process goes to the node of the first.
        said = store_directory.with_name("endpoint")
        if not said.exists():
            kubo: KuboProcess = request.getfixturevalue("kubo")
            said.write_text(kubo.endpoint)
        path = f"/suite-{sha256(bytes(store_directory)).hexdigest()[:20]}"
        return {"endpoint": said.read_text(), "path": path}

    @pytest.fixture
    def limited_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**options, "limit_mib": 1}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"/test-{sha256(bytes(tmp_path)).hexdigest()[:20]}"


@asynccontextmanager
async def opened(endpoint: str, **options: Any) -> AsyncIterator[FragmentStore]:
    clock = options.pop("clock", SystemClock())
    async with Executor(1) as compute:
        context = StorageContext(Path("/nowhere"), compute, clock)
        async with IPFS.factory(IpfsOptions(endpoint=endpoint, **options), context) as store:
            yield store


async def in_parts(content: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


# --- the node


async def test_a_fragment_is_a_file_by_its_key_and_no_pin_is_left(
    kubo: KuboProcess, path: str
) -> None:
    content, pins = bytes(range(251)) * 20_000, kubo.pins()
    async with opened(kubo.endpoint, path=path) as store:
        await store.put(KEY, len(content), in_parts(content))
        assert await store.read(KEY, 0, len(content)) == content
    assert kubo.call("files/stat", f"{path}/aba/{NAME}")[0]["Size"] == len(content)
    assert kubo.pins() == pins


async def test_the_node_keeps_what_has_a_name_and_frees_what_was_deleted(
    kubo: KuboProcess, path: str
) -> None:
    async with opened(kubo.endpoint, path=path) as store:
        other = KEY._replace(index=11)
        await store.put(KEY, 3 * MIB, in_parts(b"1" * 3 * MIB))
        await store.put(other, 3 * MIB, in_parts(b"2" * 3 * MIB))
        cid = kubo.call("files/stat", f"{path}/aba/{NAME}")[0]["Hash"]
        kubo.call("repo/gc")
        assert await store.read(KEY, 2 * MIB, 2) == b"11"
        assert await store.delete(KEY)
        # It names blocks by their hashes: what stands before those in an id differs.
        assert cid[8:] in str(kubo.call("repo/gc"))
        assert await store.read(other, 2 * MIB, 2) == b"22"


async def test_what_was_put_survives_a_kill_of_the_node(tmp_path: Path, path: str) -> None:
    node = KuboProcess(tmp_path)
    try:
        async with opened(node.endpoint, path=path) as store:
            for index in range(5):
                await store.put(KEY._replace(index=index), MIB, in_parts(bytes([index]) * MIB))
            node.stop()
            with pytest.raises(StoreUnavailable, match="see that the node is running"):
                await store.size(KEY)
        node.start()
        async with opened(node.endpoint, path=path) as store:
            assert [it.index for it in await store.keys(None, 10)] == list(range(5))
            for index in range(5):
                read = await store.read(KEY._replace(index=index), 0, MIB)
                assert read == bytes([index]) * MIB
    finally:
        node.stop()


async def test_a_token_lets_in(tmp_path: Path) -> None:
    node = KuboProcess(tmp_path, token="let-me-in")
    try:
        async with opened(node.endpoint, token="let-me-in") as store:
            await store.put(KEY, 3, in_parts(b"abc"))
        for token in (None, "hidden"):
            with pytest.raises(StoreUnavailable, match="status 403; see that") as told:
                async with opened(node.endpoint, token=token):
                    pass
            assert "hidden" not in str(told.value)
    finally:
        node.stop()


async def test_of_two_puts_the_first_stays(kubo: KuboProcess, path: str) -> None:
    began, go_on, pins = asyncio.Event(), asyncio.Event(), kubo.pins()

    async def held() -> AsyncIterator[bytes]:
        yield b"second"
        began.set()
        await go_on.wait()

    async with opened(kubo.endpoint, path=path, limit_mib=1) as store:
        second = asyncio.create_task(store.put(KEY, 6, held()))
        await began.wait()
        await store.put(KEY, 5, in_parts(b"first"))
        go_on.set()
        await second
        assert await store.read(KEY, 0, 5) == b"first"
        assert await store.space() == Space(5, MIB)
    assert kubo.pins() == pins


async def test_fragments_deleted_twice_at_once_count_once(kubo: KuboProcess, path: str) -> None:
    async with opened(kubo.endpoint, path=path, limit_mib=1) as store:
        for _ in range(5):
            await store.put(KEY, 3, in_parts(b"abc"))
            deleted = await asyncio.gather(*(store.delete(KEY) for _ in range(4)))
            assert sorted(deleted) == [False, False, False, True]
            assert await store.space() == Space(0, MIB)


async def test_pins_of_who_was_killed_are_taken_back_a_day_later(
    kubo: KuboProcess, path: str
) -> None:
    cid = kubo.call("files/stat", "/")[0]["Hash"]
    name = f"citychain-new:{path}:1000"
    day = 24 * 60 * 60 * 1_000
    kubo.call("pin/add", cid, name=name)
    async with opened(kubo.endpoint, path=path, clock=FakeClock(1_000 + day)):
        assert cid in kubo.pins()
    async with opened(kubo.endpoint, path=f"{path}-other", clock=FakeClock(2_000 + day)):
        assert cid in kubo.pins()
    async with opened(kubo.endpoint, path=path, clock=FakeClock(2_000 + day)):
        assert cid not in kubo.pins()


async def test_a_folder_that_goes_is_unavailable_not_empty(kubo: KuboProcess, path: str) -> None:
    async with opened(kubo.endpoint, path=path) as store:
        kubo.call("files/rm", path, recursive="true")
        for call in (
            *(store.size(KEY), store.read(KEY, 0, 1), store.delete(KEY), store.space()),
            *(store.find(KEY.object_id), store.keys(None, 1)),
        ):
            with pytest.raises(StoreUnavailable, match="the folder is gone"):
                await call


async def test_a_fragment_whose_blocks_are_gone_is_missing(kubo: KuboProcess, path: str) -> None:
    async with opened(kubo.endpoint, path=path) as store:
        await store.put(KEY, 3 * MIB, in_parts(b"7" * 3 * MIB))
        cid = kubo.call("files/stat", f"{path}/aba/{NAME}")[0]["Hash"]
        for reference in kubo.call("refs", cid):
            kubo.call("block/rm", reference["Ref"])
        with pytest.raises(FragmentMissing):
            await store.read(KEY, 0, MIB)
