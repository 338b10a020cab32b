"""Storage backends that forget old transactions, with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from biting import Mutant
from broken_storage import Suite, forgetting

from citychain.storage.memory import MemoryCity, PrunableCity

__all__ = ["MUTANTS", "Suite"]

MUTANTS: list[Mutant] = []


def caught_by(test: str, name: str) -> Callable[[type], type]:
    """Lists a class of cities as a mutant."""

    def listed(city: type[MemoryCity]) -> type[MemoryCity]:
        MUTANTS.append(Mutant(name, forgetting(city), test))
        return city

    return listed


@caught_by("test_what_has_no_place_is_not_pruned", "prunes what waits for its round")
class PrunesPending(PrunableCity):
    """Asks nobody whether a transaction has a place."""

    async def prune(self, tx_ids):
        for tx_id in tx_ids:
            if self._raw.pop(tx_id, None) is not None:
                self._pending.pop(tx_id, None)


@caught_by(
    "test_of_what_is_pruned_all_stays_that_the_ledger_says", "prunes the place with the bytes"
)
class PrunesThePlace(PrunableCity):
    """Takes the whole row."""

    async def prune(self, tx_ids):
        await super().prune(tx_ids)
        for tx_id in tx_ids:
            self._sealed.pop(tx_id, None)


@caught_by("test_of_what_is_pruned_all_stays_that_the_ledger_says", "keeps what was rejected")
class KeepsTheRejected(PrunableCity):
    """Goes by the nodes of the graph."""

    async def prune(self, tx_ids):
        linked = {node.tx_id for node in self._linked.values()}
        await super().prune([tx_id for tx_id in tx_ids if tx_id in linked])


@caught_by("test_pruning_again_changes_nothing", "raises for what was pruned before")
class PrunesOnce(PrunableCity):
    """Takes it that each is there."""

    async def prune(self, tx_ids):
        for tx_id in tx_ids:
            if tx_id in self._sealed:
                del self._raw[tx_id]


@caught_by("test_what_was_pruned_is_not_received_again", "receives what was pruned")
class ReceivesAgain(PrunableCity):
    """Knows a transaction by its bytes alone."""

    async def append(self, transactions, keys):
        await super().append(transactions, keys)
        for transaction in transactions:
            self._raw.setdefault(transaction.tx_id, transaction)


@caught_by("test_sizes_tell_what_there_is_to_forget", "tells sizes of what it would not prune")
class SizesOfPending(PrunableCity):
    async def sizes(self, tx_ids):
        return {i: len(self._raw[i].envelope) for i in tx_ids if i in self._raw}


@caught_by("test_sizes_tell_what_there_is_to_forget", "tells sizes of what is gone")
class SizesOfTheGone(PrunableCity):
    async def prune(self, tx_ids):
        there = await super().sizes(tx_ids)
        await super().prune(tx_ids)
        self._told = getattr(self, "_told", {}) | there

    async def sizes(self, tx_ids):
        told = getattr(self, "_told", {})
        return await super().sizes(tx_ids) | {i: told[i] for i in tx_ids if i in told}


@caught_by("test_pruning_that_is_cut_short_goes_on_where_it_was", "leaves half an envelope")
class LeavesHalf(PrunableCity):
    """In two steps, of which one alone is not what either was."""

    async def prune(self, tx_ids):
        there = [tx_id for tx_id in tx_ids if tx_id in self._sealed and tx_id in self._raw]
        for tx_id in there:
            self._raw[tx_id] = replace(self._raw[tx_id], envelope=b"")
            await asyncio.sleep(0)
        await super().prune(tx_ids)


@caught_by("test_writes_go_on_while_old_ones_are_pruned", "writes back what it read before")
class WritesBack(PrunableCity):
    """Reads all, takes what is to go out of it, waits, and writes all."""

    async def prune(self, tx_ids):
        gone = {tx_id for tx_id in tx_ids if tx_id in self._sealed}
        raw = {tx_id: it for tx_id, it in self._raw.items() if tx_id not in gone}
        for _ in range(5):
            await asyncio.sleep(0)
        self._raw = raw


@caught_by("test_writes_go_on_while_old_ones_are_pruned", "gives back without an end")
class GivesBackForEver(PrunableCity):
    async def reclaim(self):
        return True


@caught_by("test_pruning_again_changes_nothing", "offers a part of it")
class OffersAPart(MemoryCity):
    """Nobody would ever prune it."""

    async def prune(self, tx_ids):
        for tx_id in tx_ids:
            self._raw.pop(tx_id, None)
