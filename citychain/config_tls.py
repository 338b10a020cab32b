"""TLS: the files of those who serve and of those who ask, and who may do without."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import model_validator

from citychain.config_tables import Table
from citychain.hooks.definitions import ConfigPath

__all__ = ["ClientTlsSettings", "ServerTlsSettings", "is_loopback"]


class ServerTlsSettings(Table):
    """``[server.tls]``: with it the server speaks TLS alone. New files are used without a
    restart."""

    certificate: Path
    """PEM file of the server's certificate, then of those between it and its authority."""
    key: Path
    """PEM file of its key, ECDSA (P-256 or P-384) or RSA, not encrypted."""
    client_ca: Path | None = None
    """PEM file of authorities: only clients with a certificate of one of them are served. Absent
    for all clients."""


class ClientTlsSettings(Table):
    """``[peers.SLUG.tls]``, and ``tls`` of a remote fragment store: whom to trust there, and who
    asks."""

    ca: ConfigPath
    """PEM file of the authorities of whom one signed the server's certificate."""
    certificate: ConfigPath | None = None
    """PEM file of the certificate to show, where the server asks for one."""
    key: ConfigPath | None = None
    """PEM file of its key."""

    @model_validator(mode="after")
    def _paired(self) -> ClientTlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key, or neither")
        return self


def is_loopback(listen: str) -> bool:
    """Whether nobody but this machine can reach an address, ``host:port``."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
