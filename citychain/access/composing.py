"""What stands before a server's services, as its settings say."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from citychain.config_auth import AuthSettings, RatesSettings
from citychain.ports import Clock
from citychain.rates import Rates
from citychain.roles import Grants
from citychain.rpc.access import AccessInterceptor, Authorisation
from citychain.rpc.directory import CityDirectory
from citychain.rpc.open_calls import OpenCalls

__all__ = ["guard"]


async def guard(
    auth: AuthSettings, rates: RatesSettings, directory: CityDirectory | None, clock: Clock
) -> AccessInterceptor:
    """What looks at each call.

    Raises:
        ConfigurationError: a key cannot be used.
    """
    counted: Rates | None = None
    if rates.per_second is not None:
        burst = timedelta(seconds=rates.burst_seconds)
        counted = Rates(rates.per_second, burst, clock.monotonic)
    authorisation = await asyncio.to_thread(_authorisation, auth) if auth.keys else None
    open_calls = OpenCalls(rates.open_calls)
    return AccessInterceptor(authorisation, counted, open_calls, directory)


def _authorisation(auth: AuthSettings) -> Authorisation:
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
