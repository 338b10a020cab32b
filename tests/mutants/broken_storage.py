"""Storage backends with one mistake each, such as authors make."""

from __future__ import annotations

from biting import Mutant

from citychain.hooks.definitions import StorageDefinition
from citychain.storage.memory import MemoryBackend, MemoryCity
from citychain.testing.conformance import StorageSuite

__all__ = ["MUTANTS", "Suite"]


class Suite(StorageSuite):
    """The suite, smaller."""

    big_batch = 2_000
    examples = 10


def forgetting(city: type[MemoryCity]) -> StorageDefinition:
    """A backend that keeps nothing, with cities of this class."""

    class Backend(MemoryBackend):
        async def city(self, genesis, genesis_file, initial):
            if genesis not in self._cities:
                self._cities[genesis] = city(self._clock, genesis_file, initial)
            return self._cities[genesis]

    return StorageDefinition("broken", lambda options, context: Backend(context), durable=False)


class ForgetsTheLast(MemoryCity):
    """Writes a batch in pairs, and not the one that is left."""

    async def append(self, transactions, keys):
        await super().append(transactions[: len(transactions) // 2 * 2], keys)


class RaisesForMissing(MemoryCity):
    """Looks ids up as if all existed."""

    async def raw(self, tx_ids):
        return {tx_id: self._raw[tx_id] for tx_id in tx_ids}


class ReplacesOnRepeat(MemoryCity):
    """An upsert where the first envelope must stay."""

    async def append(self, transactions, keys):
        await super().append(transactions, keys)
        self._raw.update({t.tx_id: t for t in transactions})


MUTANTS = [
    Mutant(
        "forgets the last of a batch",
        forgetting(ForgetsTheLast),
        caught_by="test_appended_transactions_and_keys_are_read_back",
    ),
    Mutant(
        "raises for missing ids",
        forgetting(RaisesForMissing),
        caught_by="test_what_does_not_exist_is_absent",
    ),
    Mutant(
        "replaces a stored envelope on repeat",
        forgetting(ReplacesOnRepeat),
        caught_by="test_appending_again_changes_nothing",
    ),
]
