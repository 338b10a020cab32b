"""Adds to a restored city the rounds that a representative has beyond its backup.

A representative keeps each round before it votes for it, and votes for no other version of it. So
a city whose last rounds are in no backup waits for ever, unless it gets them back from there. They
come without certificates: the server asks for votes again, and gets the same ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from citychain.backup.taking import keep_round
from citychain.city.state import LedgerState
from citychain.committee import CommitteeChain
from citychain.errors import InvalidRound, VerificationError
from citychain.following.audit import Audit
from citychain.following.composing import open_replay
from citychain.following.source import StorageSource
from citychain.genesis import Genesis
from citychain.ports import CityStorage, StoredRound

if TYPE_CHECKING:
    from citychain.containers import CoreContainer

__all__ = ["add_voted", "furthest"]


async def furthest(copies: Mapping[str, CityStorage]) -> str:
    """Which representative's copy has most rounds; all others agree with it.

    Args:
        copies: By what people call them; at least one.

    Raises:
        VerificationError: one does not; nobody knows which is the city's.
    """
    lasts = {name: (await copy.head()).round for name, copy in copies.items()}
    most = max(lasts, key=lasts.__getitem__)
    for name, last in lasts.items():
        ours, theirs = [await copies[it].checkpoint_hashes([last]) for it in (most, name)]
        if ours != theirs:
            raise VerificationError(
                f"{most} and {name} have different versions of round {last}: leave out the one "
                "that is not to be trusted"
            )
    return most


async def add_voted(
    core: CoreContainer, genesis: Genesis, voted: CityStorage, target: CityStorage
) -> int:
    """Add a representative's rounds that the target lacks, each recomputed; how many.

    Args:
        core: Its compute is entered.
        voted: The representative's copy.
        target: Nobody else's to write to.

    Raises:
        InvalidRound: the first that does not hold, or of which the target has another version.
    """
    there, last = (await target.head()).round, (await voted.head()).round
    if both := min(there, last):
        ours, theirs = [await it.checkpoint_hashes([both]) for it in (target, voted)]
        if ours.get(both) != theirs.get(both):
            raise InvalidRound(
                both, "checkpoint", "the representative has another version of it than is there"
            )
    if last <= there:
        return 0
    source, state = _Voted(voted, target), LedgerState(target)
    async with open_replay(core, genesis, state, source.public_keys) as replay:
        await replay.resume(target)
        audit = Audit(
            replay=replay,
            state=state,
            chain=CommitteeChain(genesis),
            source=source,
            compute=core.compute(),
            keep=partial(keep_round, genesis, target, source),
        )
        await audit.run(last)
    return last - there


class _Voted(StorageSource):
    """A representative's copy, which has the keys of authors alone."""

    def __init__(self, storage: CityStorage, target: CityStorage) -> None:
        super().__init__(storage)
        self._target = target

    async def rounds(self, first: int) -> AsyncGenerator[tuple[StoredRound, Sequence[bytes]], None]:
        """Without certificates: a representative keeps none."""
        async with aclosing(super().rounds(first)) as rounds:
            async for stored, envelopes in rounds:
                yield replace(stored, certificate=None), envelopes

    async def public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        there = await self._target.keys(key_ids)
        return {**await super().public_keys(key_ids), **there}
