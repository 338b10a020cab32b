"""What stands before a server's services, as its settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from citychain.config_auth import AuthSettings, RatesSettings
from citychain.ports import Clock
from citychain.rates import Rates
from citychain.roles import Grants
from citychain.rpc.access import AccessInterceptor, Authorisation
from citychain.rpc.directory import CityDirectory
from citychain.rpc.open_calls import OpenCalls

__all__ = ["authorisation_of", "guard", "judge_anew"]

CALLS_MAX: Final = 4_096
"""Watchers hold one each."""


async def guard(
    auth: AuthSettings,
    rates: RatesSettings,
    directory: CityDirectory | None,
    clock: Clock,
    calls_max: int = CALLS_MAX,
) -> AccessInterceptor:
    """What looks at each call.

    Args:
        calls_max: Open at a time, of all callers.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    authorisation = await authorisation_of(auth)
    counted = _counted(rates, clock)
    open_calls = OpenCalls(rates.open_calls, calls_max)
    return AccessInterceptor(authorisation, counted, open_calls, directory)


async def judge_anew(
    auth: AuthSettings, rates: RatesSettings, clock: Clock
) -> Callable[[AccessInterceptor], None]:
    """What lets a guard judge by other settings from then on; it cannot fail. Who was counted
    begins anew.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    authorisation = await authorisation_of(auth)
    counted = _counted(rates, clock)
    return lambda judge: judge.judge_by(authorisation, counted)


def _counted(rates: RatesSettings, clock: Clock) -> Rates | None:
    if rates.per_second is None:
        return None
    return Rates(rates.per_second, timedelta(seconds=rates.burst_seconds), clock.monotonic)


async def authorisation_of(auth: AuthSettings) -> Authorisation | None:
    """Who may do what by these settings; ``None`` where anybody may do anything.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    return await asyncio.to_thread(_read, auth) if auth.keys else None


def _read(auth: AuthSettings) -> Authorisation:
    # Only a server that checks tokens loads what does it.
    from citychain.access.keys import read_public_keys
    from citychain.access.tokens import TokenChecker

    assert auth.audience is not None
    tokens = TokenChecker(
        read_public_keys(auth.keys),
        audience=auth.audience,
        issuer=auth.issuer,
        leeway=timedelta(seconds=auth.leeway_seconds),
    )
    return Authorisation(tokens, Grants.everywhere(auth.anonymous))
