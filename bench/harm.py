"""What an ordinary client feels while others only harm.

    python bench/harm.py [--calls 2000]

A server, an attacker and a client are processes of their own. The client asks for a city, one call
after the other: milliseconds of the median and of the 99th of 100, in calm and under each attack of
`tests/hostile`. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from cli.conftest import Server, run_here
from hostile.raw import Gone, Raw, bomb, connect, message
from hostile.test_hostile_clients import GET, HEALTH, LIST, START, STREAM, SUBMIT, TOWN


def idle(address: str, held: ExitStack) -> None:
    for index in range(4_000):
        held.enter_context(connect(address, f"127.0.0.{2 + index % 8}")).sendall(START)


def unread(address: str, held: ExitStack) -> None:
    raw = held.enter_context(Raw(address, "127.0.0.2", window=0))
    for _ in range(1_000):
        raw.call(GET, TOWN)


def unclosed(address: str, held: ExitStack) -> None:
    raw = held.enter_context(Raw(address, "127.0.0.2"))
    for _ in range(1_000):
        raw.open(STREAM)


def watchers(address: str, held: ExitStack) -> None:
    raw = held.enter_context(Raw(address, "127.0.0.2"))
    for _ in range(1_000):
        raw.call(HEALTH, message(b""))


def bombs(address: str, held: ExitStack) -> None:
    packed = message(bomb(1_024), compressed=True)
    with Raw(address, "127.0.0.2") as raw:
        while True:
            raw.status(raw.call(SUBMIT, packed, [("grpc-encoding", "gzip")]))


def taken_back(address: str, held: ExitStack) -> None:
    with Raw(address, "127.0.0.2") as raw:
        while True:
            raw.http.reset_stream(raw.open(LIST), 8)
            raw.flush()


ATTACKS: dict[str, Callable[[str, ExitStack], None]] = {
    attack.__name__: attack for attack in (idle, unread, unclosed, watchers, bombs, taken_back)
}


def attack(name: str, address: str, pipe: Connection) -> None:
    with ExitStack() as held, suppress(Gone, OSError):
        pipe.send("begins")
        ATTACKS[name](address, held)
        pipe.send("holds")
        time.sleep(3_600)


def measure(address: str, calls: int) -> dict[str, float]:
    """Milliseconds of one call after the other; one that is dropped counts until answered."""
    took = []
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(GET)
        for _ in range(calls):
            began = time.perf_counter()
            while True:
                with suppress(grpc.RpcError):
                    ask(TOWN[5:], timeout=60)
                    break
            took.append((time.perf_counter() - began) * 1_000)
    took.sort()
    return {"p50": round(took[calls // 2], 2), "p99": round(took[calls * 99 // 100], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2_000)
    calls = parser.parse_args().calls
    fork = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        run_here("init", "town", "--city", "town", cwd=Path(folder))
        server = Server(Path(folder) / "town")
        measure(server.address, calls)
        print(json.dumps({"calm": measure(server.address, calls)}))
        for name in ATTACKS:
            here, there = fork.Pipe()
            attacker = fork.Process(target=attack, args=(name, server.address, there))
            attacker.start()
            here.recv()
            # Those that hold have it all by then; those that go on never say so.
            here.poll(5)
            print(json.dumps({name: measure(server.address, calls)}), flush=True)
            attacker.kill()
            attacker.join()
        server.end()


if __name__ == "__main__":
    main()
