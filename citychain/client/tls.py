"""TLS as a client speaks it."""

from __future__ import annotations

from pathlib import Path

import grpc

from citychain.errors import ConfigurationError
from citychain.pem import read_authorities, read_pair

__all__ = ["read_credentials"]


def read_credentials(
    ca: Path, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """What a `ChannelFactory` needs to speak TLS. Reads files: not for an event loop.

    Args:
        ca: PEM file of authorities; a server must show a certificate that one of them signed,
            for the host by which it is asked.
        certificate: PEM file of the certificate to show to servers that ask for one (mutual
            TLS), then of those between it and its authority.
        key: PEM file of its key, ECDSA (P-256 or P-384) or RSA.

    Raises:
        ConfigurationError: a file cannot be read or used, or one of the pair is missing.
    """
    authorities = read_authorities(ca)
    if certificate is None and key is None:
        return grpc.ssl_channel_credentials(authorities)
    if certificate is None or key is None:
        raise ConfigurationError("a client's certificate and its key go together: give both")
    pair = read_pair(certificate, key)
    return grpc.ssl_channel_credentials(authorities, pair.key, pair.certificates)
