"""Where a city's rounds come from: a server, or its storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from citychain import notes, record
from citychain._native.transactions import decode_batch
from citychain.city.answers import Archived
from citychain.client.city import CityClient
from citychain.errors import NotSupported, VerificationError
from citychain.ports import CityStorage, StoredRound
from citychain.types import Handover

__all__ = ["RoundSource", "ServerSource", "StorageSource"]

ROUNDS_PAGE: Final = 16


class RoundSource(Protocol):
    """Gives what a city published. Nothing that it says is believed."""

    async def last_round(self) -> tuple[int, int]:
        """The latest sealed round and the latest certified one."""

    def rounds(self, first: int) -> AsyncGenerator[tuple[StoredRound, Sequence[bytes]], None]:
        """Sealed rounds from ``first`` on, in order, each with the transactions that it
        seals and those that it newly holds; a storage ends where it ends, a server goes on."""

    async def public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Public keys by key id; each hashes to its id."""

    async def recoveries(self) -> list[tuple[int, Handover]]:
        """The operator's recoveries of a lost committee, by their first rounds, in order."""


class StorageSource:
    """A city's own storage.

    Args:
        archived: Gives sealed transactions that were pruned.
    """

    def __init__(self, storage: CityStorage, archived: Archived | None = None) -> None:
        self._storage = storage
        self._archived = archived

    async def last_round(self) -> tuple[int, int]:
        """See `RoundSource.last_round`."""
        head = await self._storage.head()
        return head.round, head.certified_round

    async def rounds(self, first: int) -> AsyncGenerator[tuple[StoredRound, Sequence[bytes]], None]:
        """See `RoundSource.rounds`."""
        while page := await self._storage.rounds(first, ROUNDS_PAGE):
            for stored in page:
                yield stored, await self._envelopes(stored)
            first = page[-1].round + 1

    async def _envelopes(self, stored: StoredRound) -> list[bytes]:
        try:
            decided = record.decode(stored.record)
        except VerificationError:
            return []  # Whoever checks the round finds the same, and says it.
        tx_ids = [*decided.tx_ids, *decided.held]
        raw = await self._storage.raw(tx_ids)
        if self._archived is not None:
            missing = [tx_id for tx_id in tx_ids if tx_id not in raw]
            raw = {**raw, **(await self._archived(missing) if missing else {})}
        return [raw[tx_id].envelope for tx_id in tx_ids if tx_id in raw]

    async def public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `RoundSource.public_keys`."""
        return await self._storage.keys(key_ids)

    async def recoveries(self) -> list[tuple[int, Handover]]:
        """See `RoundSource.recoveries`."""
        recoveries = []
        for name, note in (await self._storage.notes(notes.RECOVERY)).items():
            kept = notes.decode_recovery(note)
            recoveries.append(
                (notes.round_of(name), Handover(kept.public_keys, recovery=kept.envelope))
            )
        return recoveries


class ServerSource:
    """A server, by a client that is entered."""

    def __init__(self, client: CityClient) -> None:
        self._client = client

    async def last_round(self) -> tuple[int, int]:
        """See `RoundSource.last_round`."""
        head = (await self._client.info()).head
        return head.round, head.certified_round

    async def rounds(self, first: int) -> AsyncGenerator[tuple[StoredRound, Sequence[bytes]], None]:
        """See `RoundSource.rounds`."""
        async with aclosing(self._client.follow_transactions(first)) as rounds:
            async for stored, envelopes, _ in rounds:
                yield stored, envelopes

    async def public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `RoundSource.public_keys`."""
        return await self._client.public_keys(key_ids)

    async def recoveries(self) -> list[tuple[int, Handover]]:
        """See `RoundSource.recoveries`."""
        try:
            handovers = await self._client.handovers()
        except NotSupported:
            return []  # A city without votes has no committee to lose.
        return [
            (recovery.from_round, handover)
            for handover in handovers
            if handover.recovery
            for recovery in (decode_batch([handover.recovery])[0].recovery,)
            if recovery is not None
        ]
