"""Tokens from their making to a server that asks for them, as docs/access.md tells people."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docs.markdown import DOCS, Block, blocks
from docs.shell import command_lines


def of_page(language: str) -> list[Block]:
    return [block for block in blocks(language) if block.page == DOCS / "access.md"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, citychain: Callable[..., Any]) -> Path:
    """With what the page's first commands make, and a configuration that asks for tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    made, *_ = of_page("sh")
    asked, *_ = of_page("toml")
    given = (["init", "--city", "mycity"],)
    for arguments in (*given, *command_lines(made.text)):
        ran = citychain(*arguments, cwd=folder)
        assert ran.code == 0, ran.err
    with (folder / "citychain.toml").open("a") as file:
        file.write(asked.text)
    return folder


def issue(citychain: Callable[..., Any], folder: Path, *options: str) -> Any:
    given = ("--key", "tokens.key", "--subject", "alice", "--audience", "nara.example", *options)
    return citychain("token", "issue", *given, cwd=folder)


def test_a_token_is_made_and_a_server_asks_for_it(
    folder: Path,
    citychain: Callable[..., Any],
    start_server: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert stat.S_IMODE((folder / "tokens.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "alice.token").stat().st_mode) == 0o600
    secret = (folder / "alice.token").read_text().strip()
    elsewhere = issue(citychain, folder, "--role", "submit=edo").out.strip()
    server = start_server(folder, env={"CITYCHAIN_TOKEN": "not-for-it"})
    send = ("submit", "--city", "mycity", "--key", "alice.key", "--data", "a", "--json")

    def sent(*options: str, **variables: str) -> Any:
        return citychain(*options, cwd=folder, env={**server.env, **variables})

    refused = sent(*send)
    needs = "citychain: this needs the role submit, and the call has no token"
    assert (refused.code, refused.message) == (1, needs)
    [as_told] = command_lines(of_page("sh")[1].text)
    assert as_told[0] == "submit"
    taken = sent("--debug", *as_told)
    assert (taken.code, taken.out.split()[0]) == (0, "RECEIVED")
    # The log goes to the file descriptor.
    logged = capfd.readouterr().err
    assert "[debug    ]" in logged
    assert secret not in logged + taken.err
    assert sent(*send, CITYCHAIN_TOKEN=secret).record["state"] == "RECEIVED"
    assert sent(*send, CITYCHAIN_TOKEN_FILE="alice.token").record["state"] == "RECEIVED"
    refused = sent(*send, CITYCHAIN_TOKEN=elsewhere)
    lacks = "citychain: the token of alice does not grant the role submit for mycity"
    assert (refused.code, refused.message) == (1, lacks)
    ended = server.end()
    assert ended.code == 0
    assert secret not in ended.out + ended.err


def test_a_token_is_not_given_where_others_see_it(
    folder: Path, citychain: Callable[..., Any]
) -> None:
    for arguments, said in (
        (("cities", "--token", "abc"), "others could read it there: give --token-file"),
        (("cities", "--token-file", "nowhere"), "nowhere: cannot be read"),
        (("cities", "--token-file", "citychain.toml"), "citychain.toml: is no token"),
        (("cities", "--token-file", "tokens.pub", "-s", "a.example:1"), "is no token"),
    ):
        ran = citychain(*arguments, cwd=folder)
        assert ran.code == 2
        assert said in ran.message
    ran = citychain("cities", "-s", "a.example:1", cwd=folder, env={"CITYCHAIN_TOKEN": "abc"})
    assert (ran.code, "unencrypted" in ran.message) == (2, True)


def test_what_cannot_be_issued_is_told(folder: Path, citychain: Callable[..., Any]) -> None:
    for options, said in (
        (("--role", "write"), "--role: no role 'write'; the roles are read, submit"),
        (("--role", "read=a,,b"), "--role: 'read=a,,b' has a city without a name"),
        (("--role", "read", "--lifetime", "long"), "--lifetime: 'long' is no time"),
        (("--role", "read", "-o", "alice.key"), "alice.key: a file of this name exists"),
        (("--role", "read", "--key", "alice.key"), "alice.key: is no private key"),
    ):
        ran = issue(citychain, folder, *options)
        assert ran.code == 2, options
        assert said in ran.message
    for options, said in (
        (("--token-keys", "tokens.pub"), "--token-audience: must be given with --token-keys"),
        (("--anonymous", "fetch"), "--token-keys: without it no token is looked at"),
        (("--token-keys", "alice.key", "--token-audience", "a"), "alice.key: is no JWK Set"),
    ):
        ran = citychain("storage-server", "--dir", ".", *options, cwd=folder)
        assert ran.code == 2, options
        assert said in ran.err
    again = citychain("token", "keygen", "tokens.key", "--public", "b.pub", cwd=folder)
    assert (again.code, "tokens.key: a file of this name exists" in again.message) == (2, True)


def test_a_server_whose_keys_cannot_be_used_does_not_start(
    folder: Path, citychain: Callable[..., Any]
) -> None:
    for setting, said in (
        ('[auth]\nkeys = ["tokens.key"]\naudience = "a"', "tokens.key: is neither a public key"),
        ('[auth]\nkeys = ["tokens.pub"]', "auth: has keys, and no audience"),
        ('[auth]\nanonymous = ["read"]', "auth: has no keys to check tokens with"),
        ('[auth]\nanonymous = ["write"]', "auth.anonymous.0: must be 'read', 'submit'"),
        ("[rates]\nper_second = 0", "rates.per_second: must be more than 0"),
    ):
        (folder / "wrong.toml").write_text(setting)
        ran = citychain("serve", "-c", "wrong.toml", "--listen", "127.0.0.1:0", cwd=folder)
        assert ran.code == 2, setting
        assert said in ran.err
