"""``citychain serve``: how it starts and how it ends."""

import json
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NEVER = """
import asyncio
from citychain import ConsensusDefinition, hookimpl
from citychain.consensus.solo import Solo, SoloOptions

class Never(Solo):
    async def approve(self, round):
        await asyncio.Event().wait()

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition(
        name="never", factory=lambda options, city: Never(options, city), options=SoloOptions
    )
"""


@pytest.fixture
def fresh(citychain: Any, tmp_path: Path) -> Path:
    """A directory of its own with a server's configuration and a key."""
    for command in (["init"], ["keygen", "alice.key"]):
        assert citychain(*command, cwd=tmp_path).code == 0
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(
    start_server: Callable[..., Any], fresh: Path, number: signal.Signals
) -> None:
    server = start_server(fresh, "--json")
    assert server.run("cities").code == 0
    ended = server.end(number)
    assert ended.code == 0
    assert json.loads(ended.out) == {"address": server.address}
    assert server.address in ended.err
    assert "Traceback" not in ended.err


def test_what_was_accepted_is_finished_before_the_end(
    start_server: Callable[..., Any], fresh: Path
) -> None:
    """A slow pacer leaves rounds open; draining closes them at once."""
    with (fresh / "citychain.toml").open("a") as file:
        file.write("[cities.hometown.pacer]\nmin_seconds = 3600\nmax_seconds = 3600\n")
    server = start_server(fresh)
    options = ("--city", "hometown", "--key", "alice.key", "--json")
    first = server.run("submit", *options, "--data", "a")
    second = server.run("submit", *options, "--data", "b")
    assert (first.code, second.code) == (0, 0)
    assert server.end().code == 0
    again = start_server(fresh)
    for submitted in (first, second):
        shown = again.run("get", "--city", "hometown", submitted.record["tx_id"], "--json")
        assert shown.record["state"] == "APPROVED"
    assert again.end().code == 0


def test_what_was_acknowledged_survives_a_kill(
    start_server: Callable[..., Any], fresh: Path
) -> None:
    server = start_server(fresh)
    options = ("--city", "hometown", "--key", "alice.key", "--json")
    ids = [server.run("submit", *options, "--data", "a").record["tx_id"] for _ in range(2)]
    assert server.end(signal.SIGKILL).code == -signal.SIGKILL
    again = start_server(fresh)
    assert again.run("watch", "--city", "hometown", *ids).code == 0


@pytest.fixture
def never_approving(
    start_server: Callable[..., Any], install: Callable[..., dict[str, str]], fresh: Path
) -> Callable[[float], Any]:
    """Starts a server that has something to wait for when it is told to stop."""

    def start(drain_seconds: float) -> Any:
        config = (fresh / "citychain.toml").read_text()
        config = config.replace("# drain_seconds = 10.0", f"drain_seconds = {drain_seconds}")
        config = config.replace('# consensus = "solo"', 'consensus = "never"')
        (fresh / "citychain.toml").write_text(config)
        shutil.rmtree(fresh / "data")
        server = start_server(fresh, env=install("never", NEVER))
        sent = server.run("submit", "--city", "hometown", "--key", "alice.key", "--data", "a")
        assert sent.code == 0, sent.err
        return server

    return start


def test_it_waits_no_longer_than_the_drain_time(never_approving: Callable[[float], Any]) -> None:
    assert never_approving(0.2).end().code == 0


def test_a_second_signal_ends_it_at_once(never_approving: Callable[[float], Any]) -> None:
    server = never_approving(3_600.0)
    server.process.send_signal(signal.SIGTERM)
    while "stopping" not in server.process.stderr.readline():
        pass
    assert server.end(signal.SIGINT).code == 130


def test_a_taken_port_is_told_in_a_line(process: Any, fresh: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = process("serve", "--listen", address, cwd=fresh)
    assert ran.code == 2
    assert address in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "nowhere"], "host:port"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_wrong_settings_are_told_in_a_line(
    citychain: Any, fresh: Path, arguments: list[str], message: str
) -> None:
    ran = citychain("serve", *arguments, cwd=fresh)
    assert ran.code == 2
    assert message in ran.message


def test_without_a_key_it_says_what_to_do(citychain: Any, tmp_path: Path) -> None:
    ran = citychain("serve", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert ran.code == 2
    assert "operator.key" in ran.err.splitlines()[-1]


def test_two_servers_cannot_have_one_directory(
    citychain: Any, start_server: Callable[..., Any], fresh: Path
) -> None:
    server = start_server(fresh)
    assert server.run("cities", "hometown").code == 0
    other = start_server(fresh, "--listen", "127.0.0.1:0")
    ran = other.run("cities", "hometown", "--timeout", "1")
    assert ran.code == 3
    assert server.run("cities", "hometown").code == 0
