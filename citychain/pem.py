"""Certificates and keys for TLS, read from PEM files (RFC 7468).

What a file has is checked here, so that what is wrong is told when it is read, with the file's
name, and not by each handshake that fails.
"""

from __future__ import annotations

import logging
import ssl
import stat
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from citychain.errors import ConfigurationError

__all__ = ["KeyPair", "certificate_hosts", "hosts_of", "read_authorities", "read_pair"]

logger = logging.getLogger(__name__)

FILE_BYTES_MAX: Final = 4 << 20
"""The authorities of a whole system take 0.3 MiB."""
CURVES: Final = ("secp256r1", "secp384r1")
"""Those that both sides of gRPC take."""

_Private: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Who somebody is in TLS."""

    certificates: bytes
    """PEM: its own first, then those between it and its authority."""
    key: bytes = field(repr=False)
    """PEM, not encrypted."""
    expires: datetime
    """When the first of the certificates does, UTC."""


def read_authorities(path: Path) -> bytes:
    """Certificates of authorities, PEM.

    Raises:
        ConfigurationError: the file has none, or cannot be read.
    """
    content = _read(path)
    try:
        # As lenient as gRPC is: `cryptography` warns of some that systems trust, or refuses them.
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(f"{path}: has no certificate in PEM") from None
    return content


def read_pair(certificate: Path, key: Path) -> KeyPair:
    """A certificate and its key. A key that others can read is told in the log.

    Raises:
        ConfigurationError: a file cannot be read or used, or one does not belong to the other.
    """
    certificates, secret = _read(certificate), _read(key, secret=True)
    chain = _certificates(certificate, certificates)
    if not _belongs(chain[0], _private(key, secret)):
        raise ConfigurationError(f"{key}: is not the key of {certificate}")
    return KeyPair(certificates, secret, min(it.not_valid_after_utc for it in chain))


def certificate_hosts(certificate: Path) -> list[str]:
    """The hosts that the certificate of a file is for.

    Raises:
        ConfigurationError: the file has none, or cannot be read.
    """
    return hosts_of(_certificates(certificate, _read(certificate))[0])


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The hosts that a certificate is for, by its subject alternative name (RFC 5280, section
    4.2.1.6): names, then addresses; none where it has no such extension."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _private(key: Path, secret: bytes) -> _Private:
    private = None
    try:
        private = load_pem_private_key(secret, password=None)
    except UnsupportedAlgorithm:
        pass
    except TypeError:
        raise ConfigurationError(
            f"{key}: is encrypted, and nobody is there to type its password; "
            "`openssl pkey` writes it without"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{key}: has no private key in PEM") from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in CURVES:
        return private
    if isinstance(private, rsa.RSAPrivateKey):
        return private
    raise ConfigurationError(
        f"{key}: give an ECDSA key of P-256 or P-384, or an RSA key; gRPC takes no others"
    )


def _belongs(certificate: x509.Certificate, private: _Private) -> bool:
    try:
        return certificate.public_key() == private.public_key()
    except (UnsupportedAlgorithm, ValueError):  # It is for a key of a kind that nobody knows.
        return False


def _read(path: Path, *, secret: bool = False) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{path}: is no file")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{path}: has more than {FILE_BYTES_MAX >> 20} MiB")
    if secret and mode & 0o077:
        logger.warning("%s: others than its owner can read this key; run: chmod 600 %s", path, path)
    return content


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion):
        raise ConfigurationError(f"{path}: has no certificate in PEM") from None
