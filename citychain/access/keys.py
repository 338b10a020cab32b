"""Keys that sign tokens, and the public ones that they are checked with.

A file of public keys is a JWK Set (RFC 7517), or one key as PEM (``-----BEGIN PUBLIC KEY-----``).
Each is for the one algorithm of its type: Ed25519 for EdDSA (RFC 8037), P-256 for ES256, RSA of at
least 2,048 bits for RS256 (RFC 7518). There are no others, and none that is shared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from citychain.errors import ConfigurationError

__all__ = ["algorithm_of", "new_key_pair", "read_public_keys", "read_signing_key"]

FILE_BYTES_MAX: Final = 1 << 20
KEYS_MAX: Final = 16
"""In all files: a token that names none is tried with each."""
RSA_BITS_MIN: Final = 2_048


def algorithm_of(key: object) -> str | None:
    """The algorithm that a key, public or not, is for; ``None`` if it is for none of ours."""
    match key:
        case ed25519.Ed25519PublicKey() | ed25519.Ed25519PrivateKey():
            return "EdDSA"
        case ec.EllipticCurvePublicKey() | ec.EllipticCurvePrivateKey():
            return "ES256" if isinstance(key.curve, ec.SECP256R1) else None
        case rsa.RSAPublicKey() | rsa.RSAPrivateKey():
            return "RS256" if key.key_size >= RSA_BITS_MIN else None
    return None


def new_key_pair() -> tuple[bytes, bytes]:
    """A new Ed25519 key as PEM, private (PKCS #8) and public."""
    key = ed25519.Ed25519PrivateKey.generate()
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return (
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain),
        key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def read_public_keys(files: Sequence[Path]) -> list[PyJWK]:
    """All public keys of these files.

    Raises:
        ConfigurationError: a file cannot be read, or has a key that is not to be used; names it.
    """
    keys = [key for file in files for key in _read(file)]
    if len(keys) > KEYS_MAX:
        raise ConfigurationError(f"token keys: {len(keys)} keys; at most {KEYS_MAX} are allowed")
    return keys


def read_signing_key(file: Path) -> Any:
    """The private key of a PEM file that has no password.

    Raises:
        ConfigurationError: it cannot be read, is none, or is for none of the algorithms.
    """
    try:
        key = serialization.load_pem_private_key(_content(file), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"{file}: is no private key as PEM without a password; citychain token keygen makes one"
        ) from None
    if algorithm_of(key) is None:
        raise ConfigurationError(f"{file}: {_WANTED}")
    return key


_WANTED: Final = f"a key is Ed25519, P-256, or RSA of at least {RSA_BITS_MIN} bits"


def _read(file: Path) -> list[PyJWK]:
    content = _content(file)
    if content.lstrip().startswith(b"{"):
        return _key_set(file, content)
    if content.count(b"-----BEGIN ") > 1:  # All but the first would be passed over.
        raise ConfigurationError(f"token keys: {file}: has several keys: give each its own file")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"token keys: {file}: is neither a public key as PEM nor a JWK Set"
        ) from None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise ConfigurationError(f"token keys: {file}: {_WANTED}")
    implementation: Any = get_default_algorithms()[algorithm]
    return [PyJWK(implementation.to_jwk(key, as_dict=True), algorithm)]


def _key_set(file: Path, content: bytes) -> list[PyJWK]:
    try:
        listed = json.loads(content)["keys"]
        if not isinstance(listed, list) or not listed:
            raise ValueError
    except (ValueError, KeyError, RecursionError):
        raise ConfigurationError(
            f'token keys: {file}: is no JWK Set: it has no list "keys"'
        ) from None
    members = (_member(f"token keys: {file}: keys[{at}]", jwk) for at, jwk in enumerate(listed))
    keys = [key for key in members if key is not None]
    if not keys:
        raise ConfigurationError(f"token keys: {file}: has no key that signs")
    return keys


def _member(where: str, jwk: Any) -> PyJWK | None:
    """``None`` for a key that is there to encrypt to: identity providers list those as well."""
    if not isinstance(jwk, dict):
        raise ConfigurationError(f"{where}: is no key")
    if "d" in jwk or "k" in jwk:
        raise ConfigurationError(f"{where}: is a secret key; a server needs the public one alone")
    if jwk.get("use", "sig") != "sig":
        return None
    try:
        key = PyJWK(jwk)
    except (PyJWTError, ValueError, KeyError):  # What they say would repeat the key.
        raise ConfigurationError(f"{where}: cannot be used: {_WANTED}") from None
    if algorithm_of(key.key) != key.algorithm_name:
        raise ConfigurationError(
            f"{where}: is for {key.algorithm_name}; EdDSA, ES256 and RS256 are used, and {_WANTED}"
        )
    return key


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{file}: has more than {FILE_BYTES_MAX} bytes")
    return content
