"""Options that several sub-commands share, and what is common to those that ask a server."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from citychain.client.city import CityClient

__all__ = ["DEFAULT_SERVER", "DEFAULT_TIMEOUT", "City", "Config", "Server", "Timeout", "TxId",
           "connect", "parse_id"]  # fmt: skip

DEFAULT_SERVER: Final = "127.0.0.1:50051"
DEFAULT_TIMEOUT: Final = 10.0

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
Server = Annotated[
    str,
    typer.Option("--server", "-s", envvar="CITYCHAIN_ADDRESS", help="host:port of the server."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to go on without an answer.")
]
TxId = Annotated[str, typer.Argument(metavar="TX_ID", help="64 hexadecimal digits.")]


def connect(server: str, city: str, timeout: float) -> CityClient:
    """A client of one city, to be entered."""
    from citychain.client.channels import ChannelFactory
    from citychain.client.city import CityClient

    return CityClient(city, ChannelFactory([server]), timeout=timedelta(seconds=timeout))


def parse_id(text: str, name: str) -> bytes:
    """An id that was given as hexadecimal.

    Raises:
        InvalidRequest: it is none; names the argument.
    """
    from citychain.errors import InvalidRequest

    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidRequest(name, f"{text!r} is no id of 64 hexadecimal digits")
    return bytes.fromhex(text)
