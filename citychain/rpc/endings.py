"""How calls ended, for what counts and traces them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

__all__ = ["ended_as"]

STATUSES: Final = {code.value[0]: code for code in grpc.StatusCode}


def ended_as(context: Any, error: BaseException | None) -> grpc.StatusCode:
    """The status that a call ended with: what its handler has set, or else what was raised means.

    Args:
        context: The call's.
        error: What its handler raised; ``None`` where it returned.
    """
    code = context.code()
    if number := code.value[0] if isinstance(code, grpc.StatusCode) else code:
        return STATUSES.get(number, grpc.StatusCode.UNKNOWN)
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, asyncio.CancelledError):
        left = context.time_remaining()
        late = left is not None and left <= 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
    # Of the library's own errors, that the connection is gone.
    gone = isinstance(error, grpc.aio.BaseError)
    return grpc.StatusCode.CANCELLED if gone else grpc.StatusCode.UNKNOWN
