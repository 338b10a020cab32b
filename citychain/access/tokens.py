"""Bearer tokens (RFC 6750): JSON Web Tokens (RFC 7519) whose claim ``citychain`` has the roles.

::

    {"sub": "alice", "aud": "nara.example", "exp": 1780000000,
     "citychain": {"read": ["*"], "submit": ["nara"]}}
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import jwt
from jwt import PyJWK
from jwt import exceptions as faults

from citychain.access.keys import algorithm_of
from citychain.errors import NotAuthenticated
from citychain.roles import Grants

__all__ = ["CLAIM", "Identity", "TokenChecker", "issue_token"]

CLAIM: Final = "citychain"
"""Of a token: what its holder may do."""
TOKEN_CHARACTERS_MAX: Final = 8_192
NAME_CHARACTERS_MAX: Final = 256
"""Of a subject, and of an issuer."""
KNOWN_MAX: Final = 4_096
"""Tokens that need not be checked again, each until it expires."""

_FAULTS: Final[Sequence[tuple[type[faults.PyJWTError], str]]] = (
    (faults.ExpiredSignatureError, "has expired: get another"),
    (faults.ImmatureSignatureError, "is not valid yet: is a clock wrong?"),
    (faults.InvalidAudienceError, "is for another audience"),
    (faults.InvalidIssuerError, "is from another issuer"),
    (faults.MissingRequiredClaimError, "lacks one of sub, aud, exp, or the iss that is asked for"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is, and what it grants."""

    name: str
    """The subject; with an issuer where the token names one."""
    grants: Grants


class TokenChecker:
    """Tells whose a token is. Used on one event loop: a token that is new takes one check of a
    signature, a tenth of a millisecond; one that it knows takes none.

    Args:
        keys: From `citychain.access.keys.read_public_keys`.
        audience: One of those that a token must be for.
        issuer: Who must have issued it; ``None`` for whoever has a key.
        leeway: How far clocks may be apart.
    """

    def __init__(
        self, keys: Sequence[PyJWK], *, audience: str, issuer: str | None, leeway: timedelta
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway.total_seconds()
        # By hash: no secret stands in memory for longer than its call.
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()

    def known(self, token: str) -> Identity | None:
        """Whose a token is that was checked before, and has not expired since."""
        digest = sha256(token.encode()).digest()
        expires, identity = self._known.get(digest, (0.0, None))
        if identity is None or time.time() >= expires:
            self._known.pop(digest, None)
            return None
        return identity

    def check(self, token: str) -> Identity:
        """Whose a token is.

        Raises:
            NotAuthenticated: it is not valid here; says why, and nothing of the token.
        """
        claims = self._claims(token)
        subject, issuer = claims["sub"], claims.get("iss")
        if not _is_name(subject):
            raise NotAuthenticated("the token's subject is empty, too long, or not printable")
        if issuer is not None and not _is_name(issuer):
            raise NotAuthenticated("the token's issuer is empty, too long, or not printable")
        try:
            grants = Grants.from_claim(claims.get(CLAIM, {}))
        except ValueError as error:
            raise NotAuthenticated(f"the token's claim {CLAIM}: {error}") from None
        identity = Identity(subject if issuer is None else f"{subject} of {issuer}", grants)
        self._known[sha256(token.encode()).digest()] = (
            min(int(claims["exp"]), 1 << 53) + self._leeway,
            identity,
        )
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise NotAuthenticated(f"the token has more than {TOKEN_CHARACTERS_MAX} characters")
        try:
            named = jwt.get_unverified_header(token).get("kid")
        except (faults.PyJWTError, RecursionError):  # Of JSON that is nested deeply.
            raise NotAuthenticated("the token is no JSON Web Token") from None
        for key in self._keys:
            if named is not None and key.key_id not in (None, named):
                continue
            try:
                return jwt.decode(
                    token,
                    key,
                    # Of the key, never of the token: RFC 8725, section 3.1.
                    algorithms=[key.algorithm_name],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._leeway,
                    options={"require": ["sub", "aud", "exp"]},
                )
            except (faults.InvalidSignatureError, faults.InvalidAlgorithmError):
                continue
            except faults.PyJWTError as error:
                said = (text for kind, text in _FAULTS if isinstance(error, kind))
                raise NotAuthenticated(f"the token {next(said, 'is not valid')}") from None
        raise NotAuthenticated("the token is signed by no key that this server knows")


def _is_name(claim: object) -> bool:
    """Whether people can be told it, and callers counted by it."""
    return isinstance(claim, str) and 0 < len(claim) <= NAME_CHARACTERS_MAX and claim.isprintable()


def issue_token(
    key: Any,
    *,
    subject: str,
    audience: str,
    grants: Grants,
    lifetime: timedelta,
    issuer: str | None = None,
) -> str:
    """Sign a token.

    Args:
        key: From `citychain.access.keys.read_signing_key`.
        lifetime: From now.
    """
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": subject,
        "aud": audience,
        "iat": now,
        "exp": now + round(lifetime.total_seconds()),
        CLAIM: grants.claim(),
    }
    if issuer is not None:
        claims["iss"] = issuer
    return jwt.encode(claims, key, algorithm_of(key))
