"""Those who are elsewhere are asked at once: each may take its time, and there may be many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeAlias

from citychain.cli.checkup.results import Result

__all__ = ["Look", "all_at_once"]

AT_ONCE: Final = 32

Look: TypeAlias = Callable[[], Coroutine[Any, Any, Sequence[Result]]]
"""At one of them."""


def all_at_once(looks: Sequence[Look]) -> Iterator[Result]:
    """What they find, in their order. Raises what one of them did, after what was found before."""
    for found in asyncio.run(_gathered(looks)):
        if isinstance(found, BaseException):
            raise found
        yield from found


async def _gathered(looks: Sequence[Look]) -> list[Sequence[Result] | BaseException]:
    bound = asyncio.Semaphore(AT_ONCE)

    async def bounded(look: Look) -> Sequence[Result]:
        async with bound:
            return await look()

    return await asyncio.gather(*map(bounded, looks), return_exceptions=True)
