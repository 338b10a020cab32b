"""Runs the command: in a process of its own, as its users do, or within this one, which is fast."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from citychain.cli.app import run

COMMAND = (sys.executable, "-m", "citychain")
SECONDS_MAX = 300


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self) -> dict[str, Any]:
        """Its only JSON line."""
        [record] = self.records
        return record

    @property
    def message(self) -> str:
        """The one line that explains its failure."""
        [line] = self.err.splitlines()
        assert "Traceback" not in line
        return line


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything that sets citychain up, nor any plugin."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CITYCHAIN_")}
    own = {"CITYCHAIN_PLUGINS__ALLOW": "[]", "TERM": "dumb", "COLUMNS": "120"}
    return {**kept, **own, **variables}


def run_process(
    *arguments: str | Path, cwd: Path, input: str | None = None, env: dict[str, str] | None = None
) -> Ran:
    """Run the command to its end in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        input=input,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def start_process(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_here(
    *arguments: str | Path, cwd: Path, input: str = "", env: dict[str, str] | None = None
) -> Ran:
    """Run the command to its end in this process."""
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(chdir(cwd))
        stack.enter_context(patch.dict(os.environ, environment(**(env or {})), clear=True))
        stack.enter_context(patch("sys.stdin", io.TextIOWrapper(io.BytesIO(input.encode()))))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        code = run([str(argument) for argument in arguments])
    return Ran(int(code), out.getvalue(), err.getvalue())


class Server:
    """A ``citychain serve`` in a directory."""

    def __init__(self, directory: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        ready = directory / "address"
        ready.unlink(missing_ok=True)
        address = ("--listen", "127.0.0.1:0", "--ready-file", "address")
        self.process = start_process("serve", *address, *options, cwd=directory, env=env)
        end = time.monotonic() + SECONDS_MAX
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                pytest.fail(f"the server did not start: {self.process.communicate()}")
            time.sleep(0.02)
        self.address = ready.read_text().strip()

    @property
    def env(self) -> dict[str, str]:
        """With it a command asks this server."""
        return {"CITYCHAIN_ADDRESS": self.address}

    def run(self, *arguments: str | Path, input: str = "") -> Ran:
        """Run a command that asks this server, in this process."""
        return run_here(*arguments, cwd=self.directory, input=input, env=self.env)

    def run_process(self, *arguments: str | Path, input: str | None = None) -> Ran:
        """Run a command that asks this server, in a process of its own."""
        return run_process(*arguments, cwd=self.directory, input=input, env=self.env)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command that asks this server."""
        return start_process(*arguments, cwd=self.directory, env=self.env)

    def end(self, number: signal.Signals = signal.SIGTERM) -> Ran:
        """Send a signal, wait, and return how it ended."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        return Ran(self.process.returncode, out, err)


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Let the processes of these tests be interrupted.

    Started in a shell's background, all of this ignores SIGINT, and so would they. A handler of
    ours is not inherited: they begin with the default.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def process() -> Callable[..., Ran]:
    """Runs the command to its end in a process of its own."""
    return run_process


@pytest.fixture(scope="session")
def citychain() -> Callable[..., Ran]:
    """Runs the command to its end in this process."""
    return run_here


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command in processes, which are killed in the end if they still run."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, **where: Any) -> subprocess.Popen[str]:
        processes.append(start_process(*arguments, **where))
        return processes[-1]

    yield start
    for each in processes:
        if each.poll() is None:
            each.kill()
            each.communicate()


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts servers, which are killed in the end if they still run."""
    servers: list[Server] = []

    def start(directory: Path, *options: str, env: dict[str, str] | None = None) -> Server:
        servers.append(Server(directory, *options, env=env))
        return servers[-1]

    yield start
    for each in servers:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Installs a plugin for processes: returns the environment that has it, and those before."""
    installed = []

    def install(name: str, source: str) -> dict[str, str]:
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[citychain]\n{name} = {name}\n")
        installed.append(name)
        path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
        allow = json.dumps(installed)
        return {"PYTHONPATH": os.pathsep.join(path), "CITYCHAIN_PLUGINS__ALLOW": allow}

    return install


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory made by ``init``, with a key of a resident who owns 1,000 coins."""
    directory = tmp_path_factory.mktemp("town")
    assert run_here("keygen", "alice.key", cwd=directory).code == 0
    made = run_here("init", "--balance", "coin=alice.key:1000", cwd=directory)
    assert made.code == 0, made.err
    return directory


@pytest.fixture(scope="session")
def server(town: Path) -> Iterator[Server]:
    """A server that all tests of this worker share."""
    running = Server(town)
    yield running
    ended = running.end()
    assert ended.code == 0, ended.err
