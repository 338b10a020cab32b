"""Options that several sub-commands share, and what is common to those that ask a server."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from citychain.client.channels import ChannelFactory
    from citychain.client.city import CityClient
    from citychain.genesis import Genesis

__all__ = ["DEFAULT_POLICY", "DEFAULT_SERVER", "DEFAULT_TIMEOUT", "City", "Config",
           "FromStorage", "GenesisFile", "Policy",
           "Server", "Servers", "Spread", "Timeout", "TxId", "connect", "finite",
           "parse_id", "read_genesis"]  # fmt: skip

DEFAULT_SERVER: Final = "127.0.0.1:50051"
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
Server = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        "-s",
        envvar="CITYCHAIN_ADDRESS",
        metavar="[CITY=]HOST:PORT[,...]",
        help="Where the servers are, and where those of one city are. Can be repeated.",
        show_default=DEFAULT_SERVER,
    ),
]


class Spread(StrEnum):
    """How several servers are used; `Policy` is the option."""

    PICK_FIRST = "pick_first"
    ROUND_ROBIN = "round_robin"


DEFAULT_POLICY: Final = Spread.PICK_FIRST

Policy = Annotated[
    Spread,
    typer.Option(
        "--policy",
        envvar="CITYCHAIN_POLICY",
        help="Use one of several servers until it fails, or spread calls over all.",
    ),
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
TxId = Annotated[str, typer.Argument(metavar="TX_ID", help="64 hexadecimal digits.")]


@dataclass(frozen=True, slots=True)
class Servers:
    """Which servers to ask: what `Server` and `Policy` said."""

    given: Sequence[str] | None
    policy: Spread

    def __str__(self) -> str:
        return " ".join(self.given or (DEFAULT_SERVER,))

    def channels(self) -> ChannelFactory:
        """Channels to them.

        Raises:
            ConfigurationError: what was given is no list of servers.
        """
        from citychain.client.channels import EVERY_CITY, ChannelFactory
        from citychain.errors import ConfigurationError

        routes: dict[str, list[str]] = {}
        for text in self.given or (DEFAULT_SERVER,):
            city, _, endpoints = text.rpartition("=")
            routes.setdefault(city or EVERY_CITY, []).extend(endpoints.split(","))
        try:
            return ChannelFactory(routes, self.policy.value)
        except ConfigurationError as error:
            fault = str(error).removeprefix("endpoints: ")
            raise ConfigurationError(f"--server: {fault}") from None


def connect(servers: Servers, city: str, timeout: float) -> CityClient:
    """A client of one city, to be entered."""
    from citychain.client.city import CityClient

    return CityClient(city, servers.channels(), timeout=timedelta(seconds=timeout))


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
