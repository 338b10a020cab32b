"""The command as a whole: help, errors, sub-commands of plugins."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citychain.cli.exits import Exit

HELLO = """
from citychain import CommandDefinition, hookimpl

def hello(name: str = "city") -> None:
    "Say hello."
    print(f"hello, {name}")

@hookimpl
def citychain_commands():
    yield CommandDefinition(name="hello", app=hello)
"""
GROUP = """
import typer
from citychain import CommandDefinition, hookimpl

app = typer.Typer(help="Two commands.")

@app.command()
def one():
    print("one")

@app.command()
def two():
    raise typer.Exit(5)

@hookimpl
def citychain_commands():
    yield CommandDefinition(name="group", app=app)
"""
COMMANDS = (
    "audit",
    "batch",
    "bench",
    "cities",
    "dag",
    "demo",
    "doctor",
    "election",
    "fragments",
    "get",
    "hold",
    "holding-rules",
    "holdings",
    "init",
    "keep",
    "keygen",
    "plugins",
    "rebalance",
    "receipt",
    "representative",
    "restore",
    "save",
    "scrub",
    "serve",
    "store",
    "submit",
    "top",
    "verify",
    "watch",
)


def test_help_names_every_command(process: Any, tmp_path: Path) -> None:
    ran = process("--help", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    for command in COMMANDS:
        assert f" {command} " in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(
    citychain: Any, tmp_path: Path, command: str
) -> None:
    ran = citychain(command, "--help", cwd=tmp_path)
    assert ran.code == 0
    assert f"citychain {command}" in ran.out.split("Examples:")[1]


@pytest.mark.parametrize(
    "command",
    ["batch", "hold", "holding-rules", "holdings", "keep", "prune", "rebalance", "rebuild",
     "restore", "reward-distribute", "save", "scrub", "storage-server", "store"],
)  # fmt: skip
def test_what_keeps_a_city_answers_in_json_and_tells_its_exit_codes(
    citychain: Any, tmp_path: Path, command: str
) -> None:
    told = citychain(command, "--help", cwd=tmp_path).out
    assert "--json" in told.split("Examples:")[1]
    assert "Exit codes: " in told


def test_the_documentation_names_every_command_and_exit_code() -> None:
    rows = (Path(__file__).parents[2] / "docs" / "cli.md").read_text().splitlines()
    firsts = {row.split("|")[1].strip() for row in rows if row.startswith("|")}
    assert {f"`{command}`" for command in COMMANDS} <= firsts
    assert {str(code.value) for code in Exit} <= firsts


def test_no_command_shows_help(citychain: Any, tmp_path: Path) -> None:
    ran = citychain(cwd=tmp_path)
    assert ran.code == 2
    assert "Usage:" in ran.out


def test_wrong_usage_is_one_line(citychain: Any, tmp_path: Path) -> None:
    for arguments, message in [
        (["nonsense"], "No such command 'nonsense'"),
        (["batch"], "Missing argument"),
        (["batch", "5", "--colour", "red"], "No such option"),
        (["batch", "many"], "'pending'"),
    ]:
        ran = citychain(*arguments, cwd=tmp_path)
        assert ran.code == 2
        assert ran.out == ""
        assert message in ran.message


def test_debug_shows_where_an_error_comes_from(process: Any, tmp_path: Path) -> None:
    arguments = ("keygen", "nothing.key", "--show")
    assert process(*arguments, cwd=tmp_path).message.startswith("citychain: ")
    assert "Traceback" in process("--debug", *arguments, cwd=tmp_path).err


def test_the_help_imports_little(tmp_path: Path) -> None:
    """It must be there at once: what takes long to import waits for the command that needs it."""
    code = """
import sys
from citychain.cli.app import run
assert run(["--help"]) == 0
heavy = {"grpc", "google.protobuf", "apsw", "dependency_injector", "citychain.containers"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_plugins_command_is_a_sub_command(
    process: Any, install: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    env = install("hello_plugin", HELLO)
    assert " hello " in process("--help", cwd=tmp_path, env=env).out
    assert process("hello", "--name", "Kyoto", cwd=tmp_path, env=env).out == "hello, Kyoto\n"


def test_a_plugins_group_of_commands_is_a_sub_command(
    process: Any, install: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    env = install("group_plugin", GROUP)
    assert process("group", "one", cwd=tmp_path, env=env).out == "one\n"
    assert process("group", "two", cwd=tmp_path, env=env).code == 5


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('broken')",
        HELLO.replace("yield", "raise RuntimeError('broken'); yield"),
        HELLO.replace("app=hello", "app=42"),
        HELLO.replace('name="hello"', 'name="batch"'),
    ],
    ids=["import", "hook", "not a command", "name of a built-in command"],
)
def test_a_broken_plugin_breaks_nothing(
    process: Any, install: Callable[..., dict[str, str]], tmp_path: Path, source: str
) -> None:
    env = install("broken_plugin", source)
    shown = process("--help", cwd=tmp_path, env=env)
    assert shown.code == 0
    assert shown.err == ""
    assert process("batch", "0", "--current", "1", cwd=tmp_path, env=env).out == "1.5\n"


def test_a_disabled_plugin_offers_no_command(
    process: Any, install: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    env = install("hello_plugin", HELLO)
    (tmp_path / "citychain.toml").write_text('[plugins]\ndisabled = ["hello_plugin"]\n')
    assert "No such command" in process("hello", cwd=tmp_path, env=env).message


def test_words_of_others_do_not_steer_the_terminal(citychain: Any, tmp_path: Path) -> None:
    config = tmp_path / "town.toml"
    config.write_text('"\\u001b[2J\\u009bgone" = 1\n')
    ran = citychain("serve", "--config", config, cwd=tmp_path)
    assert ran.code == Exit.UNUSABLE
    assert "gone" in ran.err
    assert not {"\x1b", "\x9b"} & set(ran.err)
