"""``citychain representative``: how it starts, waits, says no and ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_address

CONFIG = """
operator_key = "operator.key"
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[cities.nara]
consensus = "poh-pop"
num_hashes = 10
committee = [{ key = "rep0.pub" }]
[cities.uji]
consensus = "poh-pop"
num_hashes = 10
committee = [{ key = "rep0.pub" }]
[cities.alone]
num_hashes = 10
"""
START = ("representative", "--city", "nara", "--key")


@pytest.fixture
def place(tmp_path: Path, citychain: Any) -> Path:
    """A directory with a configuration, three representatives' keys, and the operator's."""
    for name in ("operator", "rep0", "rep1"):
        made = citychain("keygen", f"{name}.key", "--public", f"{name}.pub", cwd=tmp_path)
        assert made.code == 0, made.err
    (tmp_path / "citychain.toml").write_text(CONFIG)
    return tmp_path


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """What it says, up to the line that has this text."""
    assert process.stderr is not None
    said: list[str] = []
    while not said or text not in said[-1]:
        line = process.stderr.readline()
        assert line, f"it ended without {text!r}: {''.join(said)}"
        said.append(line)
    return said


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """End it by a signal, which must be clean; returns what else it said."""
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return err


def submit(server: Any, wait: str) -> None:
    options = ("--city", "nara", "--key", "operator.key", "--data", "x", "--wait", wait)
    sent = server.run("submit", *options)
    assert sent.code == 0, sent.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_votes_until_it_is_told_to_stop(
    start_server: Callable[..., Any], place: Path, number: signal.Signals
) -> None:
    server = start_server(place)
    running = server.start(*START, "rep0.key", "--state-dir", "state")
    until(running, "it has a seat: stake 1 of 1")
    submit(server, "approved")
    end(running, number)
    again = server.start(*START, "rep0.key", "--state-dir", "state")
    submit(server, "approved")
    end(again)


def test_a_key_without_a_seat_is_told_once_and_follows_on(
    start_server: Callable[..., Any], place: Path
) -> None:
    server = start_server(place)
    running = server.start(*START, "rep1.key", "--state-dir", "state")
    until(running, "it has no seat in the committee in office")
    submit(server, "sealed")
    until(running, "our key has no seat in its committee; we follow on")
    submit(server, "sealed")
    # Elected would be by an epoch's end; the operator's recovery puts it in office just so.
    done = server.run(
        "recover", "--city", "nara", "--operator-key", "operator.key", "--seat", "rep1.pub", "--yes"
    )
    assert done.code == 0, done.err
    submit(server, "approved")
    assert "has no seat" not in end(running)


def test_a_state_directory_has_one_key_and_one_city(
    start_server: Callable[..., Any], place: Path
) -> None:
    server = start_server(place)
    running = server.start(*START, "rep0.key", "--state-dir", "state")
    until(running, "follows nara")

    second = server.run(*START, "rep0.key", "--state-dir", "state")
    assert second.code == 3
    last = second.err.splitlines()[-1]
    assert f"in use by process {running.pid}: stop it first" in last
    assert "another data directory" not in last
    end(running)

    other_key = server.run(*START, "rep1.key", "--state-dir", "state")
    assert other_key.code == 2
    assert "is the state directory of the key" in other_key.err.splitlines()[-1]

    other = ("representative", "--city", "uji", "--key", "rep0.key", "--state-dir", "state")
    other_city = server.run(*other)
    assert other_city.code == 1
    assert "the server offers uji" in other_city.err.splitlines()[-1]
    assert "followed with state is nara" in other_city.err.splitlines()[-1]

    assert server.run("cities", "uji", "--save-genesis", "uji.json").code == 0
    by_file = server.run(*other, "--genesis", "uji.json")
    assert by_file.code == 2
    assert "follows another city than the one of uji.json" in by_file.err.splitlines()[-1]

    new = server.run(*START, "rep0.key", "--state-dir", "new", "--genesis", "uji.json")
    assert new.code == 1
    assert not (place / "new").exists(), "it holds to nothing yet"


def test_it_waits_for_a_server_that_is_away(
    start: Callable[..., Any], start_server: Callable[..., Any], place: Path
) -> None:
    address = free_address()
    options = (*START, "rep0.key", "--server", address, "--state-dir")
    waiting = start(*options, "other", cwd=place)
    running = start(*options, "state", cwd=place)
    until(waiting, f"waiting for {address}: ")
    until(running, f"waiting for {address}: ")
    end(waiting)
    server = start_server(place, "--listen", address)
    until(running, "it has a seat")
    submit(server, "approved")
    server.end(signal.SIGKILL)
    server = start_server(place, "--listen", address)
    submit(server, "approved")
    end(running)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--city", "alone", "--key", "rep0.key"], 1, "takes no votes from elsewhere"),
        (["--city", "narra", "--key", "rep0.key"], 1, "did you mean nara"),
        (["--city", "nara", "--key", "nobody.key"], 2, "nobody.key: cannot be read"),
        (["--city", "nara", "--key", "rep0.pub"], 2, "rep0.pub: "),
        (
            ["--city", "nara", "--key", "rep0.key", "--genesis", "rep0.pub"],
            2,
            "rep0.pub: is no genesis file: ",
        ),
        (["--city", "nara", "--key", "rep0.key", "--server", "nowhere"], 2, "not host:port"),
    ],
)
def test_what_cannot_work_is_told_in_a_line(
    server_of_all: Any, arguments: list[str], code: int, message: str
) -> None:
    ran = server_of_all.run("representative", *arguments, "--state-dir", "never")
    assert ran.code == code
    assert message in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


@pytest.fixture
def server_of_all(start_server: Callable[..., Any], place: Path) -> Any:
    return start_server(place)
