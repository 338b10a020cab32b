"""Residents who write without pause, over all servers, and remember every answer."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta

from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.errors import CitychainError
from citychain.handler import Received
from cluster.reading import Ledger

BATCH_MAX = 20
PENDING_MAX = 5_000
"""Of what is acknowledged and not approved: a machine that is slower than the rate, or stands still
for long, is not given ever more."""
PATIENCE = timedelta(seconds=60)


@dataclass(slots=True)
class Written:
    """What one city was sent, and what it answered."""

    city: str
    sent: set[bytes] = field(default_factory=set)
    acknowledged: set[bytes] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Calls that failed for the application, whatever the client tried."""
    calls: int = 0
    slowest: float = 0.0
    """Seconds that the slowest call took."""


class Load:
    """One resident a city; ask it to `write`.

    Args:
        ledger: Of the city, as somebody reads it meanwhile.
        rate: Transactions a second.
    """

    def __init__(
        self, endpoints: list[str], city: str, ledger: Ledger, seed: int, rate: float
    ) -> None:
        self.written = Written(city)
        self._ledger = ledger
        self._channels = ChannelFactory(endpoints, "round_robin")
        self._choose = random.Random(seed)
        self._key = SigningKey(self._choose.randbytes(32))
        self._rate = rate

    async def write(self, until: asyncio.Event) -> None:
        """Send batches, so many transactions a second as the rate says."""
        written = self.written
        async with CityClient(written.city, self._channels, timeout=PATIENCE) as client:
            genesis = (await client.info()).genesis
            while not until.is_set():
                if len(written.acknowledged) - self._ledger.size > PENDING_MAX:
                    await asyncio.sleep(0.1)
                    continue
                count = self._choose.randint(1, BATCH_MAX)
                batch = [
                    sign_transaction(
                        self._key,
                        genesis=genesis,
                        data=self._choose.randbytes(100),
                        with_public_key=True,
                    )
                    for _ in range(count)
                ]
                written.sent |= {item.tx_id for item in batch}
                began = time.monotonic()
                written.calls += 1
                try:
                    results = await client.submit(batch)
                except (CitychainError, TimeoutError) as error:
                    written.failures.append(repr(error))
                    continue
                now = time.monotonic()
                written.slowest = max(written.slowest, now - began)
                for item, result in zip(batch, results, strict=True):
                    if isinstance(result, Received):
                        written.acknowledged.add(item.tx_id)
                    else:
                        written.refused.append(f"{result.code}: {result.detail}")
                await asyncio.sleep(max(0.0, count / self._rate - (now - began)))
