"""``citychain storage-server`` as a process: what it keeps, whatever ends it or who stores."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import COMMAND, SECONDS_MAX, environment

from citychain.access.keys import new_key_pair

CONTENT = random.Random(11).randbytes(400_001)
FOUR = ("attic", "barn", "cellar", "shed")

PUTTING = """
import asyncio, sys
from pathlib import Path
from citychain.client.fragments import RemoteOptions, RemoteStore
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.ports import FragmentKey, StorageContext

KEY = FragmentKey(b"o" * 32, b"r" * 32, 0)

async def parts():
    for number in range(8):
        yield bytes([number]) * (1 << 20)
        if number == 4:
            print("halfway", flush=True)
            if sys.argv[2] == "wait":
                await asyncio.Event().wait()
            sys.stdin.readline()

async def main():
    async with Executor(1) as compute:
        context = StorageContext(Path("mine"), compute, SystemClock())
        async with RemoteStore(RemoteOptions(endpoint=sys.argv[1]), context) as store:
            try:
                await store.put(KEY, 8 << 20, parts())
            except Exception as error:
                print(type(error).__name__, flush=True)
            else:
                print("stored", flush=True)

asyncio.run(main())
"""
"""Puts one fragment, and halts in the middle: for good, or until a line comes."""


class StorageServer:
    """A ``citychain storage-server`` over a folder."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        ready = directory.with_name(f"{directory.name}.address")
        ready.unlink(missing_ok=True)

        given = ("--dir", str(directory), "--listen", "127.0.0.1:0", "--ready-file", str(ready))
        self.process = subprocess.Popen(
            [*COMMAND, "storage-server", *given, *options],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + SECONDS_MAX
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(f"the server did not start: {self.process.communicate()}")
            time.sleep(0.02)
        self.address = ready.read_text().strip()

    @property
    def files(self) -> list[Path]:
        """Besides the lock."""
        found = self.directory.rglob("*")
        return [path for path in found if path.is_file() and path.name != "lock"]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        return self.process.returncode, out, err


@pytest.fixture
def serve() -> Iterator[Callable[..., StorageServer]]:
    """Starts servers, which are killed in the end if they still run."""
    servers: list[StorageServer] = []

    def start(directory: Path, *options: str, **arguments: Any) -> StorageServer:
        servers.append(StorageServer(directory, *options, **arguments))
        return servers[-1]

    yield start
    for each in servers:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts processes that put, and are halfway."""
    processes: list[subprocess.Popen[str]] = []

    def start(address: str, how: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", PUTTING, address, how],
            cwd=tmp_path,
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for each in processes:
        each.kill()
        each.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_halfway(process: subprocess.Popen[str], server: StorageServer) -> bool:
    """Once the server has begun to write, too: what was sent may be on its way."""
    end = time.monotonic() + SECONDS_MAX
    if said(process) != "halfway":
        return False
    while not server.files:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    print(file=process.stdin, flush=True)


def configure(folder: Path, **addresses: str) -> None:
    text = "[fragments]\nchunk_kib = 16\n"
    for name, address in addresses.items():
        text += f'[fragments.stores.{name}]\nkind = "remote"\nendpoint = "{address}"\n'
    (folder / "citychain.toml").write_text(text)


def test_a_file_goes_to_servers_and_comes_from_any_two_of_four(
    citychain: Any, serve: Callable[..., StorageServer], tmp_path: Path
) -> None:
    servers = {name: serve(tmp_path / name, "--json") for name in FOUR}
    configure(tmp_path, **{name: server.address for name, server in servers.items()})
    (tmp_path / "file").write_bytes(CONTENT)
    stored = citychain("store", "file", "--json", cwd=tmp_path)
    assert (stored.code, stored.err) == (0, "")
    assert {it["store"] for it in stored.record["fragments"]} == set(FOUR)
    assert all(len(server.files) == 1 for server in servers.values())
    again = citychain("store", "file", "--json", cwd=tmp_path)
    assert {it["state"] for it in again.record["fragments"]} == {"present"}
    checked = citychain("scrub", "--json", cwd=tmp_path)
    assert checked.code == 0, checked.out
    for name in ("attic", "shed"):
        code, out, err = servers[name].end()
        assert code == 0, err
        assert json.loads(out) == {"address": servers[name].address}
        assert "Traceback" not in err
    restored = citychain("restore", stored.record["object"], "-o", "back", cwd=tmp_path)
    assert restored.code == 0, restored.err
    assert "store attic does not answer: " in restored.err
    assert "is it running?" in restored.err
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_a_full_server_is_told_and_leaves_nothing(
    citychain: Any, serve: Callable[..., StorageServer], tmp_path: Path
) -> None:
    """By its limit, before anything is sent; by its disk, in the middle."""
    limited = serve(tmp_path / "limited", "--limit-mib", "1", "--owner-limit-mib", "1")
    small = serve(tmp_path / "small")
    resource.prlimit(small.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    (tmp_path / "file").write_bytes(bytes(6 << 20))
    roomy = serve(tmp_path / "roomy")
    configure(tmp_path, limited=limited.address, small=small.address, roomy=roomy.address)
    stored = citychain("store", "file", "--json", cwd=tmp_path)
    assert stored.code == 0, stored.err
    assert {it["store"] for it in stored.record["fragments"]} == {"roomy"}
    told = {it["store"]: it["detail"] for it in stored.record["refusals"]}
    assert "the storage server is full" in told["limited"]
    assert "the disk of the storage server is full" in told["small"]
    assert (limited.files, small.files) == ([], [])


def test_a_killed_server_has_nothing_half_written(
    serve: Callable[..., StorageServer], put: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve(tmp_path / "kept")
    putting = put(server.address, "go on")
    assert is_halfway(putting, server)
    assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
    [left] = server.files
    assert left.parent.name == "new"
    go_on(putting)
    assert said(putting) == "StoreUnavailable"
    again = serve(tmp_path / "kept")
    assert again.files == []
    assert again.end()[0] == 0


def test_a_killed_client_leaves_nothing(
    serve: Callable[..., StorageServer], put: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve(tmp_path / "kept")
    putting = put(server.address, "wait")
    assert is_halfway(putting, server)
    assert len(server.files) == 1
    putting.kill()
    end = time.monotonic() + SECONDS_MAX
    while server.files:
        assert time.monotonic() < end, "what a client that is gone has sent stays"
        time.sleep(0.02)
    assert server.end()[0] == 0


def test_calls_under_way_may_finish_when_it_is_told_to_stop(
    serve: Callable[..., StorageServer], put: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve(tmp_path / "kept")
    putting = put(server.address, "go on")
    assert is_halfway(putting, server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stderr is not None
    while "stopping" not in server.process.stderr.readline():
        pass
    go_on(putting)
    assert said(putting) == "stored"
    server.process.communicate(timeout=SECONDS_MAX)
    assert server.process.returncode == 0
    [kept] = server.files
    assert kept.parent.name != "new"


def test_a_second_signal_ends_it_at_once(
    serve: Callable[..., StorageServer], put: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve(tmp_path / "kept")
    assert is_halfway(put(server.address, "wait"), server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stderr is not None
    while "stopping" not in server.process.stderr.readline():
        pass
    assert server.end(signal.SIGINT)[0] == 130


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--dir", "nowhere"], 2, "nowhere is no folder: mount its disk"),
        (["--dir", ".", "--listen", "nowhere"], 2, "host:port"),
        (["--dir", ".", "--listen", "0.0.0.0:0"], 2, "say --plaintext as well"),
        (["--dir", ".", "--limit-mib", "0"], 2, "--limit-mib"),
        (
            ["--dir", ".", "--ready-file", "no/x"],
            2,
            "--ready-file: no/x: cannot be written: No such",
        ),
        ([], 2, "--dir"),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    citychain: Any, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    ran = citychain("storage-server", *options, cwd=tmp_path)
    assert ran.code == code
    assert message in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


def test_a_folder_or_a_port_that_is_taken_is_told_in_a_line(
    process: Any, serve: Callable[..., StorageServer], tmp_path: Path
) -> None:
    server = serve(tmp_path / "kept")
    other = process("storage-server", "--dir", "kept", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert other.code == 3
    assert "kept is in use by process" in other.err.splitlines()[-1]
    (tmp_path / "other").mkdir()
    taken = process("storage-server", "--dir", "other", "--listen", server.address, cwd=tmp_path)
    assert taken.code == 2
    assert f"cannot listen on {server.address}" in taken.err.splitlines()[-1]


def test_keys_are_read_again_when_it_is_told_and_broken_ones_change_nothing(
    serve: Callable[..., StorageServer], tmp_path: Path
) -> None:
    _, public = new_key_pair()
    file = tmp_path / "tokens.pub"
    file.write_bytes(public)
    server = serve(tmp_path / "kept", "--token-keys", str(file), "--token-audience", "here")
    assert server.process.stderr is not None
    for content, told in (
        (b"half of a key", "the configuration stays as it was: token keys: "),
        (public, "the keys of tokens were read again"),
    ):
        file.write_bytes(content)
        server.process.send_signal(signal.SIGHUP)
        while told not in (line := server.process.stderr.readline()):
            assert line, "the server ended"
    assert server.end()[0] == 0
