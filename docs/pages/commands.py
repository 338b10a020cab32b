"""The commands of ``docs/cli.md``: usage and options, from the command itself."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final

import typer

from citychain.cli.app import app
from pages.source import first_sentence
from pages.tables import cell, code, table

__all__ = ["OF_ALL", "every_command", "own_commands", "section"]

OF_ALL: Final = {"--help", "--install-completion", "--show-completion"}
"""Options that typer gives to every command, or to the first."""


@cache
def own_commands() -> dict[str, Any]:
    """Citychain's own commands by their words, the one without words first; none of plugins."""
    root: Any = typer.main.get_command(app)
    return {"": root, **dict(_below(root, ""))}


def _below(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{prefix}{name}", command
            if hasattr(command, "commands"):
                yield from _below(command, f"{prefix}{name} ")


def every_command() -> str:
    """A section for each command."""
    return "\n\n".join(section(words, command) for words, command in own_commands().items())


def section(words: str, command: Any) -> str:
    called = f"citychain {words}".strip()
    usage = [called]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = _metavar(parameter)
            usage.append(name if parameter.required else f"[{name}]")
            rows.append([code(name), _default(parameter), _help(parameter)])
        elif not (OF_ALL.intersection(parameter.opts) or parameter.hidden):
            rows.append([_option(parameter), _default(parameter), _help(parameter)])
            if parameter.required:
                usage.append(f"{parameter.opts[0]} {_metavar(parameter)}")
    if hasattr(command, "commands"):
        usage.append("COMMAND")
    text = f"### `{called}`\n\n{cell(first_sentence(command.help or ''))}"
    text += f"\n\n    {' '.join(usage)}\n"
    return text + (f"\n{table(('', 'default', ''), rows)}" if rows else "")


def _option(parameter: Any) -> str:
    names = ", ".join(code(name) for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {code(_metavar(parameter))}"


def _metavar(parameter: Any) -> str:
    """What stands for the value, in words that do not depend on typer's version."""
    if parameter.metavar:
        return str(parameter.metavar)
    if isinstance(parameter.default, Enum):
        return "|".join(str(member.value) for member in type(parameter.default))
    return str(parameter.name).upper()


def _default(parameter: Any) -> str:
    told = parameter.show_default
    if isinstance(told, str):
        return cell(told)
    value = parameter.default
    if isinstance(value, Enum):
        value = value.value
    if parameter.required:
        return "must be given"
    if value is None or value is False or callable(value) or told is False:
        return ""
    return code(value.as_posix() if isinstance(value, Path) else str(value))


def _help(parameter: Any) -> str:
    text = cell(parameter.help or "")
    if not text:
        raise LookupError(f"{parameter.opts[0]}: it has no help")
    return f"{text} Or {code(f'${parameter.envvar}')}." if parameter.envvar else text
