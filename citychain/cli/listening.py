"""Options of the commands that listen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from citychain.config_tls import ServerTlsSettings

__all__ = ["Certificate", "Key", "Plaintext", "ReadyFile", "server_tls"]

Certificate = Annotated[
    Path | None,
    typer.Option(help="Speak TLS: PEM file of the certificate to show.", dir_okay=False),
]
Key = Annotated[
    Path | None, typer.Option(help="PEM file of the certificate's key.", dir_okay=False)
]
Plaintext = Annotated[
    bool,
    typer.Option(
        "--plaintext",
        help="Listen without TLS where other machines reach it: only in a network that you trust.",
    ),
]
ReadyFile = Annotated[
    Path | None,
    typer.Option(help="A file to write the address to once it answers.", dir_okay=False),
]


def server_tls(
    certificate: Path | None, key: Path | None, client_ca: Path | None = None
) -> ServerTlsSettings | None:
    """TLS as the options say it; ``None`` where they say nothing.

    Raises:
        ConfigurationError: an option needs another one.
    """
    from citychain.config_tls import ServerTlsSettings
    from citychain.errors import ConfigurationError

    if certificate is not None and key is not None:
        return ServerTlsSettings(certificate=certificate, key=key, client_ca=client_ca)
    if (certificate, key, client_ca) != (None, None, None):
        raise ConfigurationError("--certificate: give this and --key, both")
    return None
