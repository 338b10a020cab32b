"""`citychain top`: on a terminal, in a pipe, and over a restart of the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import termios
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli.conftest import COMMAND, SECONDS_MAX, Server, environment, run_here
from free_ports import free_port
from rich.console import Console

from citychain.city.listing import CityListing, CityState
from citychain.cli.reaching import Servers
from citychain.cli.top import observing
from citychain.cli.top.frame import frame
from citychain.cli.top.observing import BUSIEST, CitySight, Observer, Sight
from citychain.errors import ServerUnavailable
from citychain.metrics.reading import Samples, read_metrics

LOOKS = ("--every", "0.1", "--timeout", "120")
"""Quick ones, and whoever is there answers in time, however busy the machine is."""


class Served:
    """A server with metrics that can be started again where it was."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listen = f"127.0.0.1:{free_port()}"
        self.metrics = f"127.0.0.1:{free_port()}"
        self.start()

    def start(self) -> None:
        env = {"CITYCHAIN_METRICS__LISTEN": self.metrics, "CITYCHAIN_SERVER__OPEN": "eager"}
        self.server = Server(self._directory, "--listen", self._listen, env=env)


@pytest.fixture(scope="module")
def served(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("top")
    for name in ("citychain.toml", "operator.key", "alice.key"):
        shutil.copy2(town / name, directory / name)
    served = Served(directory)
    yield served
    served.server.end(signal.SIGKILL)


def test_a_frame_as_json_has_the_city_and_what_metrics_say(served: Served) -> None:
    sent = served.server.run(
        "submit", "--city", "hometown", "--key", "alice.key", "--data", "x", "--wait", "approved"
    )
    assert sent.code == 0, sent.err
    url = f"http://{served.metrics}/metrics"
    ran = served.server.run("top", *LOOKS, "--once", "--json", "--metrics", url)
    assert (ran.code, ran.err) == (0, "")
    sight = ran.record
    assert (sight["known"], sight["opened"], sight["failed"], sight["error"]) == (1, 1, 0, "")
    [city] = sight["cities"]
    assert (city["city"], city["leads"], city["pending"]) == ("hometown", True, 0)
    assert city["round"] >= 1
    assert city["transactions"] >= 1
    assert city["rounds_per_second"] is not None
    assert sight["server"]["memory_bytes"] > 1 << 20
    assert sight["server"]["calls_per_second"] > 0


def read_until(terminal: int, *texts: str) -> None:
    """Read what the terminal shows until one of these is in it."""
    seen, end = b"", time.monotonic() + SECONDS_MAX
    while not any(text.encode() in seen for text in texts):
        readable, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert readable, f"never shown: {texts}; shown: {seen!r}"
        seen += os.read(terminal, 65_536)


def test_on_a_terminal_it_goes_on_over_a_restart_and_q_ends_it(served: Served) -> None:
    terminal, its_end = pty.openpty()
    before = termios.tcgetattr(its_end)
    env = environment(TERM="xterm", LINES="20", **served.server.env)
    with subprocess.Popen(
        [*COMMAND, "top", "--every", "0.1", "--timeout", "1"],
        env=env,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
    ) as running:
        try:
            read_until(terminal, "hometown")
            served.server.end(signal.SIGKILL)
            read_until(terminal, "no server listens", "in time")
            served.start()
            read_until(terminal, "hometown")
            os.write(terminal, b"q")
            read_until(terminal, "\x1b[?1049l")  # The screen that there was before is back.
            assert running.wait(SECONDS_MAX) == 0
        finally:
            running.kill()
    assert termios.tcgetattr(its_end) == before
    os.close(its_end)
    os.close(terminal)


def test_in_a_pipe_it_writes_frames_and_ends_when_nobody_reads(served: Served) -> None:
    env = environment(**served.server.env)
    with subprocess.Popen(
        [*COMMAND, "top", *LOOKS],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        try:
            lines = [running.stdout.readline() for _ in range(6)]
            running.stdout.close()
            assert running.wait(SECONDS_MAX) == 0
            assert running.stderr.read() == ""
        finally:
            running.kill()
    assert [line.split()[0] for line in lines] == [served.server.address, "city", "hometown"] * 2
    assert "\x1b" not in "".join(lines)


def test_once_fails_where_no_server_is(tmp_path: Path) -> None:
    away = f"127.0.0.1:{free_port()}"
    ran = run_here("top", "--once", "--server", away, "--timeout", "0.3", cwd=tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert "server" in ran.message


def test_metrics_that_are_away_are_told_and_what_is_no_address_is_refused(
    served: Served, citychain: Any
) -> None:
    away = f"http://127.0.0.1:{free_port()}/metrics"
    ran = served.server.run("top", *LOOKS, "--once", "--metrics", away)
    assert ran.code == 0
    assert "hometown" in ran.out
    assert away in ran.out
    assert served.server.run("top", "--once", "--metrics", "town").code == 2
    with pytest.raises(ServerUnavailable, match="404"):
        read_metrics(f"http://{served.metrics}/elsewhere", 60)


def test_samples_are_summed_but_for_what_is_left_out() -> None:
    samples = Samples('a_total{code="OK"} 3\na_total{code="ABORTED"} 4\nb 1.5\n')
    assert samples.total("a_total") == 7
    assert samples.total("a_total", code="OK") == 4
    assert samples.total("c") is None
    assert samples.by("a_total", "code") == {"OK": 3, "ABORTED": 4}


def test_who_talks_on_and_on_is_cut_off() -> None:
    """A byte now and then is no silence."""
    ended = threading.Event()

    class Talker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(1_000):  # Less than are waited for.
                    if ended.wait(0.05):
                        break
                    self.wfile.write(b".")

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Talker) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{service.server_port}/metrics"
            with pytest.raises(ServerUnavailable, match="no whole answer within"):
                read_metrics(url, 0.3)
        finally:
            ended.set()
            service.shutdown()
            thread.join()


def test_metrics_that_no_server_tells_are_left_out() -> None:
    told = "process_open_fds NaN\nprocess_resident_memory_bytes +Inf\n"
    told += "process_start_time_seconds -1e15\ngrpc_server_started_total NaN\na_total 1\n"
    samples = Samples(told)
    assert samples.by("a_total", "city") == {}
    sight = Observer(Servers(None), 60)._server(samples)
    assert (sight.open_files, sight.memory_bytes, sight.calls_under_way) == (None, None, 0)
    console = Console(width=100)
    with console.capture() as drawn:
        console.print(frame(Sight(0, server=sight), "here", 20))
    assert "under way 0" in drawn.get()


def test_a_frame_shows_the_busiest_that_fit() -> None:
    cities = [CitySight(f"city-{n:03}", n, 0, 0, n) for n in range(100)]
    sight = Sight(0, known=500, opened=300, cities=cities)
    console = Console(width=100)
    with console.capture() as drawn:
        console.print(frame(sight, "here", 20))
    lines = drawn.get().splitlines()
    assert len(lines) <= 20
    assert "city-012" in lines[-2]
    assert "the busiest 13 of those that are open" in lines[-1]


def test_what_a_server_says_steers_no_terminal() -> None:
    name = "a\x1b]0;b\x07\x9b2J\nc[/red]"
    for sight in (
        Sight(0, error=name),
        Sight(0, opened=1, metrics_error=name, cities=[CitySight(name, 1, 0, 0, 1)]),
    ):
        console = Console(width=100)
        with console.capture() as drawn:
            console.print(frame(sight, "here", 20))
        assert drawn.get().replace("\n", "").isprintable()
        assert "a ]0;b  2J c[/red]" in drawn.get()


async def test_few_cities_are_asked_at_a_time_the_busy_ones_always_and_all_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, asked = 5 * BUSIEST, list[str]()
    busy = f"city-{opened - 1:03}"

    async def serves(channels: object, *, timeout: object) -> bool:
        return True

    async def listed(channels: object, query: str, *, timeout: object) -> AsyncIterator[Any]:
        for n in range(opened):
            parts = ("", "sqlite", "sealed-rounds", "solo", CityState.OPEN)
            yield CityListing(f"city-{n:03}", {}, (), None, *parts)

    @asynccontextmanager
    async def connected(servers: object, slug: str, timeout: float) -> AsyncIterator[Any]:
        async def info() -> Any:
            asked.append(slug)
            await asyncio.sleep(0)
            head = SimpleNamespace(round=1, certified_round=1, size=0)
            pending = 9 if slug == busy else 0
            return SimpleNamespace(listing=SimpleNamespace(slug=slug), head=head, pending=pending)

        yield SimpleNamespace(info=info)

    monkeypatch.setattr(observing, "is_serving", serves)
    monkeypatch.setattr(observing, "list_cities", listed)
    monkeypatch.setattr(observing, "connect", connected)
    observer, seen = Observer(Servers(None), 60), set[str]()
    for look in range(20):
        asked.clear()
        sight = await observer.look()
        assert len(asked) <= 2 * BUSIEST
        if busy in seen:
            assert busy in asked, look
            assert sight.cities[0].city == busy
        seen.update(asked)
    assert len(seen) == opened
