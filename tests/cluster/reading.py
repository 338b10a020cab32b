"""Reads a city's approved rounds as they come, through the servers, and keeps what they say.

So that in the end nothing is left to read but the last of them, however long it all went on. Some
200 bytes are kept of each transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

from citychain import record
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.ports import StoredRound

PATIENCE_SECONDS = 60.0
"""Without another round: then no more are to come."""
FOREVER = timedelta(hours=1)
"""A reader goes on for as long as it is left to."""


@dataclass(slots=True)
class Ledger:
    """What the approved rounds of one city say."""

    rounds: int = 0
    epochs: set[int] = field(default_factory=set)
    """Of leases that sealed something."""
    approved: set[bytes] = field(default_factory=set)
    rejected: set[bytes] = field(default_factory=set)
    doubled: int = 0
    """Transactions that stand in it once more."""
    faults: list[str] = field(default_factory=list)
    read_at: float = field(default_factory=time.monotonic)
    """When the latest round was read."""

    def enter(self, stored: StoredRound) -> None:
        """The next round."""
        self.rounds += 1
        self.read_at = time.monotonic()
        decided = record.decode(stored.record)
        if not stored.round == decided.round == self.rounds:
            self.faults.append(f"round {stored.round} came as the {self.rounds}th")
        if decided.epoch < max(self.epochs, default=0):
            self.faults.append(f"a fenced server sealed round {stored.round}")
        self.epochs.add(decided.epoch)
        for tx_id, verdict in zip(decided.tx_ids, decided.verdicts, strict=True):
            self.doubled += tx_id in self.approved or tx_id in self.rejected
            (self.rejected if verdict else self.approved).add(tx_id)

    @property
    def size(self) -> int:
        """Transactions in it."""
        return len(self.approved) + len(self.rejected)


class Reading:
    """Of one city; `read` until cancelled."""

    def __init__(self, endpoints: Sequence[str], city: str) -> None:
        self._city = city
        self._channels = ChannelFactory(endpoints, "round_robin")
        self.ledger = Ledger()

    async def read(self) -> None:
        """Follow the rounds from the first one on."""
        async with (
            CityClient(self._city, self._channels, timeout=FOREVER) as client,
            aclosing(client.follow_rounds(1)) as rounds,
        ):
            async for stored in rounds:
                self.ledger.enter(stored)

    async def until(self, tx_ids: Collection[bytes]) -> None:
        """Wait until all of these are in the ledger, or no other round comes."""
        ledger, began = self.ledger, time.monotonic()
        while any(
            tx_id not in ledger.approved and tx_id not in ledger.rejected for tx_id in tx_ids
        ):
            if time.monotonic() - max(ledger.read_at, began) > PATIENCE_SECONDS:
                return
            await asyncio.sleep(0.2)
