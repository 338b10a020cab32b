"""How a command reaches the servers that it asks: what is common to all that do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

if TYPE_CHECKING:
    import grpc

    from citychain.client.channels import ChannelFactory
    from citychain.client.city import CityClient
    from citychain.client.tokens import Token

__all__ = ["Servers", "Spread", "asks_servers", "connect"]

T = TypeVar("T")

DEFAULT_SERVER: Final = "127.0.0.1:50051"


class Spread(StrEnum):
    """How several servers are used; the option `--policy`."""

    PICK_FIRST = "pick_first"
    ROUND_ROBIN = "round_robin"


@dataclass(frozen=True, slots=True)
class Servers:
    """Which servers to ask, and how: what the options of `asks_servers` said."""

    given: Sequence[str] | None
    policy: Spread = Spread.PICK_FIRST
    token: Token | None = field(default=None, repr=False)
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    """Without them nothing is encrypted."""

    def __str__(self) -> str:
        return " ".join(self.given or (DEFAULT_SERVER,))

    def at(self, endpoints: Sequence[str]) -> Servers:
        """Others, reached in the same way; these where there is no endpoint. Others were named by
        a server, and get no token: they could use it where it is valid."""
        return replace(self, given=endpoints, token=None) if endpoints else self

    def with_token(self, token: Token | None) -> Servers:
        """The same ones, called by somebody else."""
        return replace(self, token=token)

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
            return ChannelFactory(
                routes, self.policy.value, token=self.token, credentials=self.credentials
            )
        except ConfigurationError as error:
            fault = str(error).removeprefix("endpoints: ")
            raise ConfigurationError(f"--server: {fault}") from None


def _of_environment(context: typer.Context, token: str | None) -> str | None:
    """The callback of the option for the variable: others see what a command line has."""
    source = context.get_parameter_source("token")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("others could read it there: give --token-file")
    return token


def _servers(
    server: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            "-s",
            envvar="CITYCHAIN_ADDRESS",
            metavar="[CITY=]HOST:PORT[,...]",
            help="Where the servers are, and where those of one city are. Can be repeated.",
            show_default=DEFAULT_SERVER,
        ),
    ] = None,
    policy: Annotated[
        Spread,
        typer.Option(
            "--policy",
            envvar="CITYCHAIN_POLICY",
            help="Use one of several servers until it fails, or spread calls over all.",
        ),
    ] = Spread.PICK_FIRST,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            envvar="CITYCHAIN_TOKEN_FILE",
            help="File of the token that says who calls; or the token is in $CITYCHAIN_TOKEN.",
            dir_okay=False,
            show_envvar=True,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="CITYCHAIN_TOKEN", hidden=True, callback=_of_environment),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="CITYCHAIN_CA",
            help="Speak TLS with servers whose certificate an authority in this PEM file signed.",
            show_default=False,
        ),
    ] = None,
    client_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="CITYCHAIN_CLIENT_CERTIFICATE",
            help="PEM file of the certificate to show to servers.",
            show_default=False,
        ),
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option(
            envvar="CITYCHAIN_CLIENT_KEY", help="PEM file of its key.", show_default=False
        ),
    ] = None,
) -> Servers:
    """Its parameters are the options of each command that asks servers."""
    credentials = _credentials(ca, client_certificate, client_key)
    return Servers(server, policy, _token(token_file, token), credentials)


def _token(file: Path | None, given: str | None) -> Token | None:
    """The token to send; the file before what the environment has.

    Raises:
        ConfigurationError: it is none.
    """
    if file is None and not given:
        return None
    from citychain.client.tokens import TokenFile, checked_token

    if file is not None:
        return TokenFile(file)
    token = checked_token(given or "", "CITYCHAIN_TOKEN")
    return lambda: token


def _credentials(
    ca: Path | None, certificate: Path | None, key: Path | None
) -> grpc.ChannelCredentials | None:
    """For TLS, where it is asked for.

    Raises:
        ConfigurationError: a file cannot be used, or one is missing.
    """
    if ca is None and certificate is None and key is None:
        return None
    from citychain.client.tls import read_credentials
    from citychain.errors import ConfigurationError

    if (certificate is None) != (key is None):
        raise ConfigurationError("--client-certificate: give this and --client-key, both")
    if ca is None:
        raise ConfigurationError("--client-certificate: give --ca, too: it is shown in TLS")
    return read_credentials(ca, certificate, key)


def asks_servers(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options that say how servers are reached.

    They take the place of its keyword-only parameter ``servers``, which is what they said.
    """
    options = inspect.signature(_servers, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def asking(**given: Any) -> T:
        said = {name: given.pop(name) for name in options}
        return command(**given, servers=_servers(**said))

    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        added = options.values() if name == "servers" else (parameter,)
        parameters += (it.replace(kind=inspect.Parameter.KEYWORD_ONLY) for it in added)
    # What typer reads: the options of a command are the parameters of its function.
    vars(asking)["__signature__"] = own.replace(parameters=parameters)
    asking.__annotations__ = {}
    return asking


def connect(servers: Servers, city: str, timeout: float) -> CityClient:
    """A client of one city, to be entered."""
    from citychain.client.city import CityClient

    return CityClient(city, servers.channels(), timeout=timedelta(seconds=timeout))
