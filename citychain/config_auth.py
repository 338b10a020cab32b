"""``[auth]`` and ``[rates]``: who may call, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, model_validator

from citychain.config_tables import Table
from citychain.roles import Role

__all__ = ["AuthSettings", "RatesSettings"]

DEFAULT_LEEWAY_SECONDS: Final = 30.0
DEFAULT_BURST_SECONDS: Final = 10.0
DEFAULT_OPEN_CALLS: Final = 1_024


class AuthSettings(Table):
    """``[auth]``: calls need tokens, once there are keys to check them with."""

    keys: tuple[Path, ...] = ()
    """Files of the public keys that tokens are checked with: JWK Sets, or one key as PEM each. A
    file that changes is read again within ten seconds, and all are at SIGHUP."""
    audience: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The name of this server in tokens, ``aud``; needed with ``keys``. Servers that share cities
    have the same."""
    issuer: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Who must have issued a token, ``iss``; absent for whoever has one of the keys."""
    leeway_seconds: Annotated[float, Field(ge=0, le=600)] = DEFAULT_LEEWAY_SECONDS
    """How far the clock of who issues tokens may be from this one."""
    anonymous: tuple[Role, ...] = ()
    """Roles, for all cities, that callers without a token have too."""

    @model_validator(mode="after")
    def _complete(self) -> AuthSettings:
        if self.keys and self.audience is None:
            raise ValueError("has keys, and no audience that tokens must be for")
        if not self.keys and self.model_fields_set - {"leeway_seconds"}:
            raise ValueError("has no keys to check tokens with: without them anybody may call")
        return self


class RatesSettings(Table):
    """``[rates]``: how often each may call, and how many calls it may have open: the subject of a
    token, else the name in a client's certificate, else an address."""

    per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Calls a second and caller; each transaction that is sent counts as one. Absent for no
    bound."""
    burst_seconds: Annotated[float, Field(gt=0, le=3_600)] = DEFAULT_BURST_SECONDS
    """Of so many seconds the calls may come at once."""
    open_calls: Annotated[int, Field(ge=1, le=4_096)] = DEFAULT_OPEN_CALLS
    """Calls that each may have open at a time, of 4,096 that the server has for all; who watches
    holds one. More is for a proxy whose callers share its address."""
