"""Which tokens are taken, which are not, and which keys a server reads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from access.conftest import AUDIENCE, public_pem, token
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from citychain.access import tokens
from citychain.access.keys import read_public_keys
from citychain.access.tokens import TokenChecker
from citychain.errors import ConfigurationError, NotAuthenticated
from citychain.roles import Role

CLAIM = {"read": ["*"], "submit": ["nara", "kaga"]}


def checker(files: list[Path], issuer: str | None = None, leeway: float = 30) -> TokenChecker:
    keys = read_public_keys(files)
    return TokenChecker(keys, audience=AUDIENCE, issuer=issuer, leeway=timedelta(seconds=leeway))


def key_set(folder: Path, *members: Any) -> Path:
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": members}))
    return file


def jwk(key: Any, algorithm: str, **more: str) -> dict[str, Any]:
    implementation: Any = get_default_algorithms()[algorithm]
    return {**implementation.to_jwk(key.public_key(), as_dict=True), **more}


def claims(**changed: Any) -> dict[str, Any]:
    good = {"sub": "alice", "aud": AUDIENCE, "exp": int(time.time()) + 60, "citychain": CLAIM}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
@pytest.mark.parametrize("form", ["pem", "jwks"])
def test_a_token_of_a_known_key_is_taken(
    algorithm: str, form: str, keys: dict[str, Any], public_files: list[Path], tmp_path: Path
) -> None:
    files = public_files
    if form == "jwks":
        files = [key_set(tmp_path, *(jwk(key, name) for name, key in keys.items()))]
    check = checker(files)
    text = token(keys[algorithm], CLAIM)
    assert check.known(text) is None
    identity = check.check(text)
    assert identity.name == "alice"
    assert identity.grants.of(Role.SUBMIT) == {"nara", "kaga"}
    assert identity.grants.of(Role.READ) == {"*"}
    assert identity.grants.of(Role.ADMIN) == frozenset()
    assert check.known(text) == identity


def unsigned(text: str) -> str:
    """The same token with the algorithm none."""
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    return f"{header}.{text.split('.')[1]}."


def by_shared_secret(text: str, secret: bytes) -> str:
    """The same, with the public key used as if it were a secret."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    signed = f"{header}.{text.split('.')[1]}"
    tag = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(tag).decode().rstrip('=')}"


NOW = time.time()
"""When these tests were read; they run within a day."""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "lacks one of"),
        ({"exp": "soon"}, "is not valid"),
        ({"nbf": NOW + 2 * 86_400}, "is not valid yet"),
        ({"aud": "osaka.example"}, "is for another audience"),
        ({"aud": None}, "lacks one of"),
        ({"iss": "elsewhere"}, "is from another issuer"),
        ({"iss": None}, "lacks one of"),
        ({"sub": None}, "lacks one of"),
        ({"sub": ""}, "subject is empty"),
        ({"sub": "a\nb"}, "not printable"),
        ({"sub": 5}, "is not valid"),
        ({"exp": float("inf")}, "is not valid"),
        ({"citychain": ["read"]}, "is no table of roles"),
        ({"citychain": {"read": "*"}}, "read: is no list of cities"),
        ({"citychain": {"submit": ["a"] * 1_001}}, "at most 1000"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_token_that_does_not_say_what_it_must_is_refused_by_name(
    changed: dict[str, Any], said: str, keys: dict[str, Any], public_files: list[Path]
) -> None:
    text = jwt.encode(claims(**{"iss": "here", **changed}), keys["EdDSA"], "EdDSA")
    with pytest.raises(NotAuthenticated, match=said) as refused:
        checker(public_files, issuer="here").check(text)
    assert text not in str(refused.value)


@pytest.mark.parametrize("issuer", [5, {"a": 1}, "here\nthere", "x" * 1_000])
def test_an_issuer_that_is_no_name_is_refused_where_any_will_do(
    issuer: Any, keys: dict[str, Any], public_files: list[Path]
) -> None:
    # The library that makes tokens refuses some of these itself.
    text = jwt.api_jws.encode(
        json.dumps(claims(iss=issuer)).encode(), keys["EdDSA"], "EdDSA", {"typ": "JWT"}
    )
    with pytest.raises(NotAuthenticated, match="issuer is empty, too long, or not printable"):
        checker(public_files).check(text)


def test_a_token_that_no_known_key_signed_is_refused(
    keys: dict[str, Any], public_files: list[Path]
) -> None:
    check = checker(public_files)
    good = token(keys["EdDSA"], CLAIM)
    stranger = ed25519.Ed25519PrivateKey.generate()
    other_curve = ec.generate_private_key(ec.SECP384R1())
    forged = [
        token(stranger, CLAIM),
        jwt.encode(claims(), other_curve, "ES384"),
        jwt.encode(claims(), keys["RS256"], "PS256"),
        unsigned(good),
        *(by_shared_secret(good, public_pem(key)) for key in keys.values()),
        f"{good.rpartition('.')[0]}.{token(keys['EdDSA'], CLAIM, 'bob').rpartition('.')[2]}",
        good.replace(".", "", 1),
        "",
        "x" * 9_000,
        base64.urlsafe_b64encode(b"[" * 6_000).decode() + ".e30.AAAA",
    ]
    for text in forged:
        with pytest.raises(NotAuthenticated) as refused:
            check.check(text)
        assert not text or text not in str(refused.value)
    assert check.check(good).name == "alice"


def test_clocks_may_be_apart_by_the_leeway(
    keys: dict[str, Any], public_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = jwt.encode(claims(exp=int(time.time()) - 100), keys["EdDSA"], "EdDSA")
    check = checker(public_files, leeway=600)
    assert check.check(late).name == "alice"
    assert check.known(late) is not None
    monkeypatch.setattr(tokens.time, "time", lambda: NOW + 2 * 86_400)
    assert check.known(late) is None
    with pytest.raises(NotAuthenticated, match="has expired"):
        checker(public_files, leeway=1).check(late)


def test_a_tokens_key_id_chooses_among_keys_that_have_one(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    members = [jwk(keys["EdDSA"], "EdDSA", kid="1"), jwk(other, "EdDSA", kid="2")]
    check = checker([key_set(tmp_path, *members)])
    right = jwt.encode(claims(), other, "EdDSA", headers={"kid": "2"})
    assert check.check(right).name == "alice"
    wrong = jwt.encode(claims(), other, "EdDSA", headers={"kid": "1"})
    with pytest.raises(NotAuthenticated, match="no key that this server knows"):
        check.check(wrong)


def test_a_key_to_encrypt_to_is_passed_over(keys: dict[str, Any], tmp_path: Path) -> None:
    encrypts = [jwk(keys["RS256"], "RS256", use="enc", alg=name) for name in ("RSA-OAEP", "RS256")]
    check = checker([key_set(tmp_path, *encrypts, jwk(keys["EdDSA"], "EdDSA", use="sig"))])
    assert check.check(token(keys["EdDSA"], CLAIM)).name == "alice"
    with pytest.raises(NotAuthenticated, match="no key that this server knows"):
        check.check(token(keys["RS256"], CLAIM))
    with pytest.raises(ConfigurationError, match="has no key that signs"):
        read_public_keys([key_set(tmp_path, *encrypts)])


def test_what_a_server_must_not_take_for_a_key_is_refused_with_its_place(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    ed: Any = get_default_algorithms()["EdDSA"]
    private = ed.to_jwk(keys["EdDSA"], as_dict=True)
    small = rsa.generate_private_key(65_537, 1_024)
    files = {
        "keys": key_set(tmp_path, jwk(keys["EdDSA"], "EdDSA"), private).read_bytes(),
        "shared": key_set(tmp_path, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}).read_bytes(),
        "secret": key_set(tmp_path, {"kty": "oct"}).read_bytes(),
        "alg": key_set(tmp_path, jwk(keys["RS256"], "RS256", alg="RS512")).read_bytes(),
        "small": public_pem(small),
        "curve": public_pem(ec.generate_private_key(ec.SECP384R1())),
        "several": public_pem(keys["EdDSA"]) + public_pem(keys["ES256"]),
        "empty": b"",
        "no set": b'{"keys": []}',
        "many": key_set(tmp_path, *[jwk(keys["ES256"], "ES256")] * 17).read_bytes(),
    }
    said = {
        "keys": r"keys\[1\]: is a secret key",
        "shared": r"keys\[0\]: is a secret key",
        "secret": r"keys\[0\]: cannot be used",
        "alg": r"keys\[0\]: is for RS512",
        "small": "RSA of at least 2048 bits",
        "curve": "P-256",
        "several": "has several keys: give each its own file",
        "empty": "is neither a public key",
        "no set": "is no JWK Set",
        "many": "17 keys; at most 16",
    }
    for name, content in files.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=said[name]) as refused:
            read_public_keys([file])
        assert private["d"] not in str(refused.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_public_keys([tmp_path / "nowhere"])
