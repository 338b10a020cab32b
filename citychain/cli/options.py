"""Options that several sub-commands share; those that say how servers are reached are in
`citychain.cli.reaching`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from citychain.genesis import Genesis

__all__ = [
    "DEFAULT_TIMEOUT",
    "City",
    "Config",
    "FromBackup",
    "FromStorage",
    "GenesisFile",
    "Timeout",
    "TxId",
    "finite",
    "parse_id",
    "read_genesis",
]

DEFAULT_TIMEOUT: Final = 10.0


def finite(value: float | None) -> float | None:
    """The callback of an option that is a number: ``nan`` is within any bounds, and is none."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number")
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file.",
        show_default="$CITYCHAIN_CONFIG, or citychain.toml if it is there",
    ),
]
City = Annotated[
    str, typer.Option("--city", help="Any name of the city, or its genesis id.", show_default=False)
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.1, callback=finite, help="Seconds to go on without an answer."),
]
GenesisFile = Annotated[
    Path | None,
    typer.Option(
        "--genesis",
        help="The city's genesis file. Without it the source is asked for it, and believed.",
        dir_okay=False,
    ),
]
FromStorage = Annotated[
    bool,
    typer.Option(
        "--storage", help="Read the city's storage, which no server may have open, instead."
    ),
]
FromBackup = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="Read a backup of the city instead.",
        file_okay=False,
        exists=True,
        show_default=False,
    ),
]
TxId = Annotated[str, typer.Argument(metavar="TX_ID", help="64 hexadecimal digits.")]


def read_genesis(path: Path) -> Genesis:
    """The genesis file that was given.

    Raises:
        ConfigurationError: it is none; names the file.
    """
    from citychain.genesis import Genesis

    return Genesis.read(path)


def parse_id(text: str, name: str) -> bytes:
    """An id that was given as hexadecimal.

    Raises:
        InvalidRequest: it is none; names the argument.
    """
    from citychain.errors import InvalidRequest

    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidRequest(name, f"{text!r} is no id of 64 hexadecimal digits")
    return bytes.fromhex(text)
