"""Answers go to standard output, for people or as JSON; all else goes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Json",
    "answers",
    "counted",
    "moment_in_words",
    "print_json",
    "printable",
    "say",
    "tell_transaction",
]

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, one object a line.")]

_CONTROLS: Final = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""DEL and C1, which steer terminals, and which JSON (RFC 8259) lets stand as they are."""


def print_json(record: Mapping[str, Any]) -> None:
    """Print one object on one line; bytes as hexadecimal."""
    text = json.dumps(record, ensure_ascii=False, default=_plain)
    print(text.translate(_CONTROLS), flush=True)


def tell_transaction(record: Mapping[str, Any], *, json: bool) -> None:
    """Print what became of a transaction: ``state``, and what else there is."""
    if json:
        print_json(record)
        return
    parts = [f"{record['state']:<8}"]
    if "file" in record:
        parts.append(f"{record['file']}:{record['line']}")
    elif "line" in record:
        parts.append(f"line {record['line']}")
    if "tx_id" in record:
        parts.append(record["tx_id"].hex())
    if record.get("round"):
        parts.append(f"round {record['round']}, {record['seq']}")
    if record.get("duplicate"):
        parts.append("duplicate")
    if "acknowledgement" in record:
        parts.append(f"acknowledgement {record['acknowledgement']}")
    if "code" in record:
        parts.append(record["code"])
    if "detail" in record:
        parts.append(f"{record['field']}: {record['detail']}".removeprefix(": "))
    print("  ".join(parts), flush=True)


def counted(number: int, noun: str) -> str:
    """A number of something, as people say it: ``1 object``, ``1,204 objects``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment_in_words(time_ms: int) -> str:
    """A time since 1970, in UTC to the second; one that no calendar has in milliseconds."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # Others may say anything.
        return f"{time_ms} ms"


def printable(text: str) -> str:
    """On one line, without what would steer a terminal: for words that are others'."""
    return "".join(it if it.isprintable() else " " for it in text)


def say(message: str) -> None:
    """Tell people something that is no part of the answer, which others may have worded."""
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr, flush=True)


def answers() -> Console:
    """Where tables and trees for people are drawn."""
    from rich.console import Console

    # What reads a pipe wants whole lines: ids are long.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
