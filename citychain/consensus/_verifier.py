"""Verifies signatures that anybody may send, one call's at a time: whoever sends many takes
one thread, and makes the others wait no longer than a bounded queue lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from citychain.consensus._recoveries import Recoveries
from citychain.crypto.signatures import KeyCache
from citychain.errors import InvalidSignature, Overloaded
from citychain.ports import CityContext, CityStorage

__all__ = ["Signed", "Verifier"]

CALLS_MAX: Final = 32
"""At work and waiting; one of 64 votes takes about 10 ms."""
RETRY_AFTER: Final = timedelta(seconds=1)
KEYS_PREPARED: Final = 512
KEYS_PUBLIC: Final = 1_024

Signed = tuple[bytes, bytes, bytes, bytes]
"""Key id, message, context, signature."""

T = TypeVar("T")


class Verifier:
    """Verifies for one city.

    Args:
        recoveries: Some public keys come with them alone.
    """

    def __init__(self, city: CityContext, recoveries: Recoveries) -> None:
        self._city = city
        self._recoveries = recoveries
        self._keys = KeyCache(KEYS_PREPARED, KEYS_PUBLIC)
        self._turn = asyncio.Lock()
        self._calls = 0

    async def in_turn(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do a call's work when those before it are done.

        Raises:
            Overloaded: too many wait already.
        """
        if self._calls >= CALLS_MAX:
            raise Overloaded(f"{CALLS_MAX} calls wait to be verified", RETRY_AFTER)
        self._calls += 1
        try:
            async with self._turn:
                task = asyncio.create_task(work())
                try:
                    return await asyncio.shield(task)
                except asyncio.CancelledError:
                    # Its thread goes on when a caller leaves: the next begins after it.
                    await asyncio.wait({task})
                    if not task.cancelled():
                        task.exception()
                    raise
        finally:
            self._calls -= 1

    async def public_keys(
        self, signed: Sequence[Signed], storage: CityStorage
    ) -> Sequence[bytes | None]:
        """For each the public key under which the signature holds; ``None`` where it does not,
        or where nobody knows the key."""
        if not signed:
            return ()
        missing = await self._city.compute(_unprepared, self._keys, {item[0] for item in signed})
        if missing:
            genesis = {member.key_id: member for member in self._city.genesis.committee}
            known = dict(await storage.keys(list(missing)))
            known |= self._recoveries.public_keys()
            for signer in missing:
                if signer in genesis:
                    self._keys.add_public_key(signer, bytes.fromhex(genesis[signer].public_key))
                elif signer in known:
                    self._keys.add_public_key(signer, known[signer])
        return await self._city.compute(_verify_all, self._keys, signed)


def _unprepared(keys: KeyCache, key_ids: set[bytes]) -> set[bytes]:
    return {one for one in key_ids if keys.get(one) is None}


def _verify_all(keys: KeyCache, signed: Sequence[Signed]) -> list[bytes | None]:
    return [_verify_one(keys, *item) for item in signed]


def _verify_one(
    keys: KeyCache, signer: bytes, message: bytes, context: bytes, signature: bytes
) -> bytes | None:
    if (key := keys.get(signer)) is None:
        return None
    try:
        key.verify(message, context, signature)
    except InvalidSignature:
        return None
    return key.public_key
