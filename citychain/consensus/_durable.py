"""A key signs one checkpoint of a round: the one that storage has, before and after a restart."""

from __future__ import annotations

from citychain.errors import ConsensusError
from citychain.ports import CityContext

__all__ = ["durable_hash"]


async def durable_hash(city: CityContext, round: int) -> bytes:
    """Hash of the round's checkpoint in storage.

    Raises:
        ConsensusError: storage has no such round.
    """
    assert city.storage is not None, "a city that is only followed approves nothing"
    hashes = await city.storage.checkpoint_hashes([round])
    if round not in hashes:
        raise ConsensusError(f"round {round} is not durable: it is signed once it is")
    return hashes[round]
