"""The real clock."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SystemClock", "ahead_ms"]


class SystemClock:
    """`citychain.ports.Clock` of the machine."""

    def time_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller."""
        await asyncio.sleep(seconds)


def ahead_ms(told_ms: int, before_ms: int, after_ms: int) -> int:
    """How far another clock is ahead of this one, at least; less than 0 if it is behind.

    Args:
        told_ms: What it said, some time between the two that this one said.
    """
    if told_ms < before_ms:
        return told_ms - before_ms
    return max(told_ms - after_ms, 0)
