"""SIGHUP to ``citychain serve``: what is taken up while it runs, and what changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Server

from citychain.access.keys import new_key_pair, read_signing_key
from citychain.access.tokens import issue_token
from citychain.roles import Grants

AUTH = '[auth]\nkeys = ["tokens.pub"]\naudience = "here"\n'
TAKEN_UP = "the configuration was read again"
AS_IT_WAS = "the configuration stays as it was"


def new_token(folder: Path) -> str:
    """Put new keys in place, and have a token that the new one alone has signed."""
    private, public = new_key_pair()
    (folder / "tokens.key").write_bytes(private)
    (folder / "next.pub").write_bytes(public)
    (folder / "next.pub").replace(folder / "tokens.pub")
    return issue_token(
        read_signing_key(folder / "tokens.key"),
        subject="alice",
        audience="here",
        grants=Grants.from_claim({"read": ["*"], "submit": ["*"]}),
        lifetime=timedelta(hours=1),
    )


class Running:
    """A server that asks for tokens, and its configuration."""

    def __init__(self, folder: Path, citychain: Callable[..., Any]) -> None:
        self.folder = folder
        self.config = folder / "citychain.toml"
        for command in (["init", "--city", "hometown"], ["keygen", "alice.key"]):
            assert citychain(*command, cwd=folder).code == 0
        self.token = new_token(folder)
        self.config.write_text(self.config.read_text() + AUTH)
        self.server = Server(folder)

    def reload(self) -> str:
        """Send the signal, and return the line that says what came of it."""
        self.server.process.send_signal(signal.SIGHUP)
        assert self.server.process.stderr is not None
        for line in self.server.process.stderr:
            if TAKEN_UP in line or AS_IT_WAS in line:
                return line
        pytest.fail(f"the server ended: {self.server.process.wait()}")

    def run(self, *arguments: str, token: str | None = None) -> Any:
        (self.folder / "token").write_text(token or self.token)
        return self.server.run(*arguments, "--token-file", "token")

    def add(self, text: str) -> None:
        self.config.write_text(self.config.read_text() + text)

    def submit(self, city: str, **of: str) -> Any:
        arguments = ("submit", "--city", city, "--key", "alice.key", "--data", os.urandom(8).hex())
        return self.run(*arguments, "--wait", "approved", **of)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, citychain: Callable[..., Any]
) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("reload"), citychain)
    yield running
    if running.server.process.poll() is None:
        running.server.end(signal.SIGKILL)


def test_a_new_city_is_served_while_the_streams_of_others_go_on(running: Running) -> None:
    (running.folder / "watcher.token").write_text(running.token)
    every = ("--city", "hometown", "--all", "--from", "0", "--json")
    watcher = running.server.start("watch", *every, "--token-file", "watcher.token")
    try:
        assert running.submit("hometown").code == 0
        assert watcher.stdout.readline()
        assert running.submit("lakeside").code == 1
        running.add('[cities.lakeside]\naliases = ["the lake"]\n')
        assert "new cities: lakeside" in running.reload()
        for city in ("hometown", "lakeside", "the lake"):
            done = running.submit(city)
            assert done.code == 0, done.err
        assert watcher.stdout.readline()
        assert watcher.poll() is None
    finally:
        watcher.kill()
        watcher.communicate()
    assert "new cities: none" in running.reload()


def test_a_new_key_is_used_at_once_and_the_old_one_no_more(running: Running) -> None:
    old, running.token = running.token, new_token(running.folder)
    running.reload()
    assert running.submit("hometown").code == 0
    assert "signed by no key" in running.submit("hometown", token=old).err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[auth]", "[auth", "citychain.toml"),
        ("[pacer]", "[pacer]\nmax_seconds = 3", "pacer.max_seconds: takes a restart"),
        ("[cities.hometown]", "[cities.other]", "cities.hometown: takes a restart"),
        ("[cities.hometown]", "[cities.hometown]\nnum_hashes = 2", "cities.hometown.num_hashes:"),
        ("[auth]\nkeys", "[auth]\n#keys", "auth:"),
        ("[auth]", "[rates]\nopen_calls = 9\n[auth]", "rates.open_calls: takes a restart"),
        ('"tokens.pub"', '"nowhere.pub"', "nowhere.pub"),
        ("[auth]", '[cities.b]\nstorage = "tapes"\n[auth]', "tapes"),
        ("[auth]", '[cities.b]\naliases = ["Hometown"]\n[auth]', "cities.b: 'Hometown' is a name"),
    ],
)
def test_what_cannot_be_taken_up_changes_nothing(
    running: Running, old: str, new: str, told: str
) -> None:
    before = running.config.read_text()
    assert before.count(old) == 1
    # With a city and roles that could be: nothing of it is taken up by halves.
    others = "\n[cities.fresh]\n"
    changed = before.replace(old, new).replace('audience = "here"', 'audience = "there"')
    running.config.write_text(changed + others)
    try:
        line = running.reload()
    finally:
        running.config.write_text(before)
    assert AS_IT_WAS in line
    assert told in line
    assert running.run("cities", "--json").code == 0  # By a token for the old audience.
    assert running.submit("fresh").code == 1


def test_a_signal_that_comes_while_the_server_starts_is_heeded_once_it_answers(
    tmp_path: Path, citychain: Callable[..., Any], start: Callable[..., Any]
) -> None:
    assert citychain("init", cwd=tmp_path).code == 0
    config = tmp_path / "citychain.toml"
    text = config.read_text()
    config.unlink()
    os.mkfifo(config)
    server = start("serve", "--listen", "127.0.0.1:0", cwd=tmp_path)
    with config.open("w") as read:  # By a server that has just begun, and waits for the text.
        server.send_signal(signal.SIGHUP)
        read.write(text)
    assert any("citychain answers on" in line for line in server.stderr)
    config.write_text(text)
    assert any(TAKEN_UP in line for line in server.stderr)
