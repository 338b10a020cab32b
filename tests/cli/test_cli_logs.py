"""The log of commands that run until they are stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli.conftest import COMMAND, SECONDS_MAX, environment, run_here

from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc

FAILING = """
from citychain import ConsensusDefinition, hookimpl
from citychain.consensus.solo import Solo, SoloOptions

class Failing(Solo):
    async def approve(self, round):
        password = "in a variable"
        raise OSError("mongodb://town:hunter2@db/ does not answer\\n{}\\x1b[2J")

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition(
        name="failing", factory=lambda options, city: Failing(options, city), options=SoloOptions
    )
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A directory of its own with a server's configuration and a key."""
    for command in (["init"], ["keygen", "alice.key"]):
        assert run_here(*command, cwd=tmp_path).code == 0
    return tmp_path


def test_each_line_is_an_object_that_names_the_call_and_the_city(
    start_server: Callable[..., Any], install: Callable[..., dict[str, str]], fresh: Path
) -> None:
    config = (fresh / "citychain.toml").read_text()
    config = config.replace("# drain_seconds = 10.0", "drain_seconds = 0.2")
    config = config.replace('# consensus = "solo"', 'consensus = "failing"')
    (fresh / "citychain.toml").write_text(config)
    shutil.rmtree(fresh / "data")
    env = {"CITYCHAIN_LOG_FORMAT": "json", "CITYCHAIN_LOG_LEVEL": "debug"}
    server = start_server(fresh, env={**install("failing", FAILING), **env})
    sent = server.run("submit", "--city", "hometown", "--key", "alice.key", "--data", "a")
    assert sent.code == 0, sent.err
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = services_pb2_grpc.TransactionServiceStub(channel)
        given = ("x-request-id", "mine"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
        with pytest.raises(grpc.RpcError, match="NOT_FOUND") as caught:
            stub.GetTransaction(
                services_pb2.GetTransactionRequest(city="hometown", tx_id=bytes(32)),
                metadata=given,
            )
    told = dict(caught.value.trailing_metadata())
    assert (told["x-request-id"], told["x-trace-id"]) == ("mine", TRACE)
    records, failed = [], None
    for line in server.process.stderr:
        records.append(json.loads(line))
        if failed is None and "round 1 was not approved" in line:
            failed = records[-1]
            server.process.send_signal(signal.SIGTERM)
    assert server.end().code == 0
    assert failed is not None
    for record in records:
        assert {"event", "level", "logger", "timestamp"} <= record.keys()
    [call] = [it for it in records if it.get("request_id") == "mine"]
    assert (call["trace_id"], call["city"]) == (TRACE, "hometown")
    assert call["event"].startswith("/citychain.v1.TransactionService/GetTransaction ends as NOT_F")
    assert failed["city"] == "hometown"
    assert "OSError: mongodb://town:***@db/ does not answer\n{}\x1b[2J" in failed["exception"]
    assert "hunter2" not in json.dumps(records)
    assert [it for it in records if it["event"].startswith("stopping: ")]


@pytest.fixture
def unread() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that is full."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(65_536))
    except BlockingIOError:
        os.set_blocking(write, True)
    yield read, write
    os.close(read)


def everything(read: int) -> bytes:
    """What comes out of a pipe up to its end, without what the fixture filled it with."""
    with open(read, "rb", closefd=False) as file:
        return file.read().lstrip(b"\0")


def test_a_server_serves_and_ends_while_nobody_reads_its_log(
    fresh: Path, unread: tuple[int, int]
) -> None:
    read, write = unread
    options = ("--listen", "127.0.0.1:0", "--json")
    with subprocess.Popen(
        [*COMMAND, "--debug", "serve", *options],
        cwd=fresh,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=write,
        text=True,
    ) as process:
        os.close(write)
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        asked = run_here("cities", "hometown", cwd=fresh, env={"CITYCHAIN_ADDRESS": address})
        process.send_signal(signal.SIGTERM)
        said = everything(read).decode()
        assert process.wait(SECONDS_MAX) == 0
    assert asked.code == 0, asked.err
    assert "citychain answers on" in said
    assert "stopping: " in said


MANY = """
import logging, sys
from citychain.cli import logs
logs.CLOSE_SECONDS = float(sys.argv[1])
log = logs.Log(format=logs.LogFormat.JSON)
log.show()
logging.info("%d is no number", "one")
for number in range(2_999):
    logging.info("number %d", number)
print("all are logged", flush=True)
sys.stdin.read()
log.close()
"""


@pytest.mark.parametrize("is_read", [True, False])
def test_what_finds_no_room_is_dropped_and_told_of(unread: tuple[int, int], is_read: bool) -> None:
    read, write = unread
    with subprocess.Popen(
        [sys.executable, "-c", MANY, str(SECONDS_MAX if is_read else 0.1)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=write,
        text=True,
    ) as process:
        os.close(write)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "all are logged\n"
        process.stdin.close()
        lines = everything(read).splitlines() if is_read else []
        assert process.wait(SECONDS_MAX) == 0
    if is_read:
        faulty, told, *others = (json.loads(line)["event"] for line in lines)
        assert faulty.startswith("a record of root:7 is none: TypeError(")
        dropped, _, what = told.partition(" ")
        assert what == "records were dropped: standard error was not read"
        # The thread takes the first record out when it gets to it, which makes room for one more.
        kept = 2_999 - int(dropped)
        assert len(others) == kept
        assert others[:-1] == [f"number {number}" for number in range(kept - 1)]
