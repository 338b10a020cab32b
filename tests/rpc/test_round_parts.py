"""What followers of a city are sent of its rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from citychain import record
from citychain.errors import Pruned, StorageError
from citychain.ports import StoredRound
from citychain.rpc.services.round_parts import TRANSACTIONS_STEP, RoundParts
from citychain.types import PohEntry, RawTransaction

COUNT = TRANSACTIONS_STEP + 10
IDS = [number.to_bytes(32, "big") for number in range(COUNT)]
ENVELOPES = [bytes([number % 251]) * 9_000 for number in range(COUNT)]


class Storage:
    """Has the transactions, and counts how many were read."""

    def __init__(self) -> None:
        self.read = 0
        self.failing = False
        self.gone: bytes | None = None
        self.archive: bytes | None = None
        """What the archive has of any transaction."""

    async def raw(self, tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        self.read += len(tx_ids)
        await asyncio.sleep(0)
        if self.failing:
            raise StorageError("no disk")
        return {
            tx_id: RawTransaction(tx_id, bytes(32), ENVELOPES[int.from_bytes(tx_id, "big")])
            for tx_id in tx_ids
            if tx_id != self.gone
        }


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def city(storage: Storage) -> Any:
    async def archived(tx_ids: Sequence[bytes]) -> Mapping[bytes, RawTransaction]:
        if storage.archive is None:
            raise Pruned(1, "there is no archive")
        return {tx_id: RawTransaction(tx_id, bytes(32), storage.archive) for tx_id in tx_ids}

    return SimpleNamespace(
        storage=storage, genesis=SimpleNamespace(id=bytes(32)), archived=archived
    )


def stored(number: int) -> StoredRound:
    body = record.body_bytes(
        genesis=bytes(32),
        round=number,
        time_ms=0,
        epoch=1,
        tx_ids=IDS[:-1],
        verdicts=[None] * (COUNT - 1),
        held=IDS[-1:],
        held_places=[0],
        writes=[],
    )
    entry = PohEntry(bytes(32), 1, bytes(32), bytes(32))
    return StoredRound(number, 0, 0, COUNT - 1, record.with_poh(body, entry), b"", b"", b"")


async def sent(parts: RoundParts, city: Any, number: int = 1) -> list[bytes]:
    return [
        envelope async for part in parts.of(city, stored(number)) for envelope in part.transactions
    ]


async def test_all_who_follow_get_everything_and_it_is_read_once(
    storage: Storage, city: Any
) -> None:
    parts = RoundParts()
    for told in await asyncio.gather(*(sent(parts, city) for _ in range(3))):
        assert told == ENVELOPES
    assert await sent(parts, city) == ENVELOPES
    assert storage.read == COUNT


async def test_what_is_kept_is_bounded(storage: Storage, city: Any) -> None:
    size = sum(map(len, ENVELOPES))
    parts = RoundParts(bytes_max=2 * size)
    for number in (1, 2, 3):
        await sent(parts, city, number)
    assert storage.read == 3 * COUNT
    await sent(parts, city, 3)
    assert storage.read == 3 * COUNT
    assert await sent(parts, city, 1) == ENVELOPES
    assert storage.read == 4 * COUNT


async def test_a_failure_is_not_kept(storage: Storage, city: Any) -> None:
    parts = RoundParts()
    storage.failing = True
    with pytest.raises(StorageError):
        await sent(parts, city)
    storage.failing = False
    storage.gone = IDS[-1]
    with pytest.raises(Pruned, match="round 1 were pruned: there is no archive"):
        await sent(parts, city)
    storage.gone = None
    assert await sent(parts, city) == ENVELOPES


async def test_what_was_pruned_comes_from_the_archive(storage: Storage, city: Any) -> None:
    storage.gone, storage.archive = IDS[5], b"archived"
    assert await sent(RoundParts(), city) == [*ENVELOPES[:5], b"archived", *ENVELOPES[6:]]


async def test_one_who_leaves_takes_nothing_from_the_others(storage: Storage, city: Any) -> None:
    parts = RoundParts()
    leaving = asyncio.create_task(sent(parts, city))
    staying = asyncio.create_task(sent(parts, city))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == ENVELOPES
    assert storage.read == COUNT
