"""Receives for a city that is not open here: what is stored waits for whoever seals its rounds.

By the same intake as a server's, as one of several that share the storage: the same checks, and the
same answer for what is there already. What all servers received may be as many as the city's
`LimitsSettings` say for one; there is no quota of an author, since whoever can write the storage
needs no protection from himself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Self

from citychain._native.transactions import Limits, Transaction
from citychain.city.intake import Intake
from citychain.city.pool import PendingPool, PoolLimits
from citychain.city.standing import Standing
from citychain.city.watchers import Watchers
from citychain.config import LimitsSettings
from citychain.crypto.signatures import KeyCache
from citychain.errors import Overloaded
from citychain.genesis import Genesis
from citychain.handler import Received, Refusal
from citychain.ports import CityStorage, Clock, Compute

__all__ = ["Deposit", "check_limits"]

LOOK_SECONDS: Final = 0.5
"""Between two looks whether there is room."""
SIZES_PAGE: Final = 200
"""Transactions that are read at a time to see how large they are."""


def check_limits(limits: LimitsSettings) -> Limits:
    """What a city's settings say of one transaction."""
    return Limits(body_bytes_max=limits.body_bytes)


class Deposit:
    """Stores transactions of one city; enter it before use.

    Args:
        storage: In which the city lives.
        shared: Servers may use it meanwhile.
        keys: Has the authors' keys, or the storage does.
        refuses: As of `Intake`.
        patience: For how long to wait for room while nobody seals, where it is ``shared``.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        storage: CityStorage,
        shared: bool,
        limits: LimitsSettings,
        keys: KeyCache,
        compute: Compute,
        clock: Clock,
        refuses: Callable[[Transaction], Refusal | None],
        patience: timedelta,
    ) -> None:
        self._storage = storage
        self._shared = shared
        self._clock = clock
        self._patience = patience.total_seconds()
        self._most = limits.pending_transactions
        self._most_bytes = limits.pending_bytes
        self._sizes: dict[bytes, int] = {}
        """Of what waits in the storage, as far as is known."""
        self._round = 0
        """The latest when that was looked at."""
        self._standing = Standing(Watchers())
        self._pool = PendingPool(
            PoolLimits(
                # `_check_room` counts them, and knows which of them are there already.
                transactions=sys.maxsize,
                bytes=sys.maxsize,
                author_transactions=sys.maxsize,
            ),
            shared=True,
        )
        self._intake = Intake(
            genesis=genesis.id,
            operator=genesis.operator_id,
            storage=storage,
            pool=self._pool,
            keys=keys,
            limits=check_limits(limits),
            compute=compute,
            clock=clock,
            state_of=self._standing.state_of,
            refuses=refuses,
            recovers=_recovers_nothing,
            retry_after=lambda: timedelta(seconds=LOOK_SECONDS),
            # Whoever received what waits there already: it is asked, since the pool begins empty.
            shared=True,
        )
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._standing.begin(await self._storage.head())
        await self._look()
        self._work = asyncio.create_task(self._intake.run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._work is not None
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)

    async def put(self, transactions: Mapping[bytes, bytes]) -> Sequence[Received | Refusal]:
        """Check and store envelopes, by transaction id; what is `Received` is durable.

        Returns one result each, in order.

        Raises:
            Overloaded: there is no room, and nobody makes any; nothing was stored.
            StorageError: the storage failed; putting them again is safe.
        """
        while True:
            try:
                await self._check_room(transactions)
                results = await self._intake.submit(list(transactions.values()))
            except Overloaded:
                if not await self._is_relieved():
                    raise
            else:
                for (tx_id, envelope), result in zip(transactions.items(), results, strict=True):
                    if isinstance(result, Received) and not result.duplicate:
                        self._sizes[tx_id] = len(envelope)
                return results

    async def _check_room(self, transactions: Mapping[bytes, bytes]) -> None:
        if self._lacks(list(transactions.values())) is None:
            return
        # What is there already takes none.
        tx_ids = list(transactions)
        sealed, stored = await asyncio.gather(self._storage.find(tx_ids), self._storage.raw(tx_ids))
        new = [
            envelope
            for tx_id, envelope in transactions.items()
            if tx_id not in sealed and tx_id not in stored
        ]
        if new and (lacking := self._lacks(new)) is not None:
            raise Overloaded(lacking, timedelta(seconds=LOOK_SECONDS))

    def _lacks(self, envelopes: Sequence[bytes]) -> str | None:
        """Why there is no room for so many; ``None`` where there is."""
        waiting, size = len(self._sizes), sum(self._sizes.values())
        if waiting + len(envelopes) > self._most:
            return (
                f"{waiting} transactions wait to be sealed, and pending_transactions of [limits] "
                f"is {self._most}"
            )
        if size + sum(map(len, envelopes)) > self._most_bytes:
            return (
                f"{waiting} transactions of {size / (1 << 20):.1f} MiB wait to be sealed, and "
                f"pending_mib of [limits] is {self._most_bytes >> 20}"
            )
        return None

    async def _is_relieved(self) -> bool:
        """Wait until somebody seals a round, or makes room; ``False`` if nobody does."""
        if not self._shared:
            return False
        round, waiting = self._round, len(self._sizes)
        end = self._clock.monotonic() + self._patience
        while True:
            await self._look()
            # What a round sealed may be on the list for a while yet: then no other round follows.
            if self._round != round or len(self._sizes) < waiting:
                return True
            if self._clock.monotonic() >= end:
                return False
            await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """What waits now, after which round."""
        self._round = (await self._storage.head()).round
        ids = await self._storage.pending_ids(self._most + 1)
        unknown = [tx_id for tx_id in ids if tx_id not in self._sizes]
        self._sizes = {tx_id: self._sizes.get(tx_id, 0) for tx_id in ids}
        for start in range(0, len(unknown), SIZES_PAGE):
            found = await self._storage.raw(unknown[start : start + SIZES_PAGE])
            self._sizes |= {tx_id: len(raw.envelope) for tx_id, raw in found.items()}
        self._pool.drop(self._pool.ids().difference(ids))


async def _recovers_nothing(tx_id: bytes) -> bool:
    """A recovery comes into force through a server, and is in the ledger then."""
    return False
