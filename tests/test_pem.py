"""What is wrong with a file of TLS is told with its name."""

from __future__ import annotations

import base64
import logging
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from tls_files import dev_certificates

from citychain.errors import ConfigurationError
from citychain.pem import read_authorities, read_pair

P256 = bytes.fromhex("2a8648ce3d030107")
"""The curve's OID in DER: RFC 5480, section 2.1.1.1."""
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return dev_certificates(tmp_path / "tls")


def encrypt(key: Path) -> None:
    secret = load_pem_private_key(key.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(secret.private_bytes(PEM, PKCS8, password))


def another_kind(key: Path) -> None:
    secret = ed25519.Ed25519PrivateKey.generate()
    key.write_bytes(secret.private_bytes(PEM, PKCS8, serialization.NoEncryption()))


def another_curve(key: Path) -> None:
    secret = ec.generate_private_key(ec.SECP521R1())
    key.write_bytes(secret.private_bytes(PEM, PKCS8, serialization.NoEncryption()))


def unknown_curve(file: Path) -> None:
    """Let a key or certificate say that its curve is one that nobody knows."""
    [(label, body)] = re.findall(
        r"-----BEGIN (.*)-----\n([^-]*)-----END", file.read_text(), re.DOTALL
    )
    der = base64.b64decode(body)
    assert der.count(P256) == 1
    changed = base64.encodebytes(der.replace(P256, P256[:-1] + b"\x63")).decode()
    file.write_text(f"-----BEGIN {label}-----\n{changed}-----END {label}-----\n")


def folder(key: Path) -> None:
    key.unlink()
    key.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (Path.unlink, "server.key: cannot be read: No such file"),
        (folder, "server.key: is no file"),
        (lambda key: key.write_bytes(b"nothing"), "server.key: has no private key in PEM"),
        (lambda key: key.write_bytes(b"x" * (4 << 20) + b"x"), "server.key: has more than 4 MiB"),
        (encrypt, "server.key: is encrypted"),
        (another_kind, "server.key: give an ECDSA key of P-256 or P-384, or an RSA key"),
        (another_curve, "server.key: give an ECDSA key of P-256 or P-384"),
        (unknown_curve, "server.key: give an ECDSA key of P-256 or P-384"),
        (
            lambda key: unknown_curve(key.with_name("server.crt")),
            "server.key: is not the key of .*server.crt",
        ),
        (
            lambda key: key.write_bytes(key.with_name("client.key").read_bytes()),
            "server.key: is not the key of .*server.crt",
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_told(
    made: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(made / "server.key")
    with pytest.raises(ConfigurationError, match=told):
        read_pair(made / "server.crt", made / "server.key")


def test_what_is_no_certificate_is_told(made: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"server.key: has no certificate in PEM"):
        read_authorities(made / "server.key")


def test_an_authority_is_taken_as_a_system_has_some(made: Path) -> None:
    """With a serial number that RFC 5280 forbids, and names in their own scripts between."""
    file = made / "ca.crt"
    authority = load_pem_x509_certificate(file.read_bytes())
    serial = authority.serial_number.to_bytes(20)
    negative = bytes([serial[0] | 0x80]) + serial[1:]
    der = authority.public_bytes(serialization.Encoding.DER).replace(serial, negative)
    file.write_text(f"# Főtanúsítvány\n{ssl.DER_cert_to_PEM_cert(der)}", "utf-8")
    assert read_authorities(file) == file.read_bytes()


def test_a_key_that_others_can_read_is_warned_of(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read_pair(made / "server.crt", made / "server.key")
        assert caplog.messages == []
        (made / "server.key").chmod(0o640)
        pair = read_pair(made / "server.crt", made / "server.key")
    [message] = caplog.messages
    assert message.endswith(f"can read this key; run: chmod 600 {made / 'server.key'}")
    assert "PRIVATE KEY" not in repr(pair)
