"""The parts of a fragment that is being put, held to its size."""

from __future__ import annotations

from collections.abc import AsyncIterator

from citychain.errors import StorageError

__all__ = ["exactly"]


async def exactly(size: int, parts: AsyncIterator[bytes], where: str) -> AsyncIterator[bytes]:
    """The parts, read to their end.

    Args:
        where: What a message calls the store.

    Raises:
        StorageError: they have another size.
    """
    came = 0
    async for part in parts:
        came += len(part)
        if came > size:
            break
        yield part
    if came != size:
        more = " or more" if came > size else ""
        raise StorageError(f"{where}: a fragment of {size} bytes came with {came}{more}")
