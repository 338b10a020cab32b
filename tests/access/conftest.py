"""Keys that sign tokens: one of each algorithm, made once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from citychain.access.tokens import issue_token
from citychain.roles import Grants

AUDIENCE = "nara.example"


def public_pem(key: Any) -> bytes:
    """What a server has of a key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return pem


def token(key: Any, claim: Any, subject: str = "alice") -> str:
    """A good token for `AUDIENCE` with this claim."""
    grants = Grants.from_claim(claim)
    lifetime = timedelta(hours=1)
    return issue_token(key, subject=subject, audience=AUDIENCE, grants=grants, lifetime=lifetime)


@pytest.fixture(scope="session")
def keys() -> dict[str, Any]:
    """Private keys by algorithm."""
    return {
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(65_537, 2_048),
    }


@pytest.fixture(scope="session")
def public_files(keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A PEM file of each."""
    folder = tmp_path_factory.mktemp("keys")
    for name, key in keys.items():
        (folder / f"{name}.pub").write_bytes(public_pem(key))
    return sorted(folder.iterdir())
