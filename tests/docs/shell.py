"""Command lines in the documentation, as the command itself reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pages.commands import own_commands

SEPARATORS: Final = {";", "&", "&&", "|", "||", "(", ")", "do", "then", "else", "!"}
PLACEHOLDER: Final = re.compile(r"[$…]|^[A-Z][A-Z_]*$")
"""What stands for a value that only the reader knows."""

STANDS_FOR_MORE: Final = re.compile(rf"{PLACEHOLDER.pattern}|[/.]")
"""Those, and files."""


def command_lines(script: str) -> Iterator[list[str]]:
    """The words of each call of ``citychain`` in a script, without that word itself."""
    script = re.sub(r"\\\n\s*", "", script)
    script = re.sub(r"<<\W*(\w+).*?^\1$", "", script, flags=re.DOTALL | re.MULTILINE)
    # <key id>: a placeholder; not so a redirection, which is never closed.
    script = re.sub(r"<[^<>\n]*>", "X", script)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in SEPARATORS:
                yield from _called(words)
                words = []
            else:
                words.append(word)


def _called(words: list[str]) -> Iterator[list[str]]:
    words = [word for word, before in zip(words, ["", *words], strict=False)
             if not {word, before} & {">", "<", ">>", "2>"}]  # fmt: skip
    while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] == "exec"):
        del words[0]
    if words[:1] == ["citychain"]:
        yield words[1:]


def fault(words: list[str]) -> str:
    """What the command would say against a line; empty where it would run."""
    commands = own_commands()
    try:
        name, rest = _resolve(commands, words)
        if name is None:
            return ""
        return _fault_of(commands[name], rest)
    except Exception as error:
        if type(error).__name__ in USAGE:
            return str(getattr(error, "message", error))
        raise


USAGE: Final = {
    "UsageError", "NoSuchOption", "BadOptionUsage", "BadArgumentUsage", "BadParameter",
    "MissingParameter",
}  # fmt: skip
"""Errors of wrong usage, by name: which module has them depends on typer's version."""


def _resolve(commands: Mapping[str, Any], words: list[str]) -> tuple[str | None, list[str]]:
    """The command that a line calls, and its own words; no command for global options alone."""
    root = commands[""]
    _, rest, _ = root.make_parser(_context(root)).parse_args(list(words))
    if not rest:
        return None, []
    for count in (2, 1):
        name = " ".join(rest[:count])
        if len(rest) >= count and name in commands:
            if count == 1 and hasattr(commands[name], "commands"):
                raise LookupError(f"{name} {' '.join(rest[1:2])}: there is no such command")
            return name, rest[count:]
    raise LookupError(f"there is no command {rest[0]}")


def _context(command: Any) -> Any:
    return command.context_class(command, info_name="citychain")


def _fault_of(command: Any, words: list[str]) -> str:
    context = _context(command)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest:
        return f"unexpected: {' '.join(rest)}"
    for parameter in command.params:
        value = values.get(parameter.name)
        if parameter.required and not value:
            return f"{parameter.opts[0]} is missing"
        shown = [value] if isinstance(value, str) else value
        # Files need not be there, and flags are what they are.
        if isinstance(shown, list) and not any(map(STANDS_FOR_MORE.search, shown)):
            parameter.process_value(context, value)
    return ""


def unknown_words(words: list[str]) -> list[str]:
    """Of a line that is not complete, what is no command and no option."""
    commands = own_commands()
    name = " ".join(words[:2])
    if name not in commands:
        name = words[0] if words and not words[0].startswith("-") else ""
    if PLACEHOLDER.search(name):
        return []
    if name not in commands:
        return [name]
    known = {
        option
        for command in (commands[name], commands[""])
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = (word.partition("=")[0] for word in words if word.startswith("-") and word != "-")
    return [option for option in given if option not in {*known, "--help"}]
