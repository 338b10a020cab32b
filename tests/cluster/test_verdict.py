"""The verdict on a cluster names what is lost, doubled or strange: else a soak proves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from citychain import record
from citychain.testing.server import CityServerFactory, TransactionFactory
from cluster import reading
from cluster.load import Written
from cluster.reading import Ledger, Reading
from cluster.verdict import judge


async def test_what_is_not_as_it_must_be_is_named(
    city_server: CityServerFactory,
    signed_transactions: TransactionFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with city_server(["tokyo"]) as server, server.client("tokyo") as client:
        sent = await signed_transactions(client, 40)
        for start in range(0, 40, 10):
            await client.submit(sent[start : start + 10])
            await client.wait([sent[start].tx_id])
        ids = {one.tx_id for one in sent}

        async def faults(sent: set[bytes], acknowledged: set[bytes]) -> str:
            reader = Reading([server.address], "tokyo")
            reads = asyncio.create_task(reader.read())
            await reader.until(ids)
            written = Written("tokyo", sent=sent, acknowledged=acknowledged)
            with monkeypatch.context() as impatient:
                # All that comes has come.
                impatient.setattr(reading, "PATIENCE_SECONDS", 0.3)
                found = await judge(written, reader, [server.address])
            reads.cancel()
            await asyncio.wait({reads})
            assert (found.approved, found.receipts) == (40, 40)
            return "; ".join(found.faults)

        assert await faults(ids, set(ids)) == ""
        lost = bytes(32)
        assert "1 acknowledged transactions are in no approved" in await faults(
            ids | {lost}, ids | {lost}
        )
        assert "1 sealed transactions were never sent" in await faults(
            ids - {sent[0].tx_id}, set(ids)
        )
        rounds = await client.rounds(1, 100)

    def told(*stored: Any) -> Ledger:
        ledger = Ledger()
        for one in stored:
            ledger.enter(one)
        return ledger

    whole = told(*rounds)
    assert (whole.size, whole.doubled, whole.faults) == (40, 0, [])
    again = told(rounds[0], replace(rounds[0], round=2))
    assert again.doubled == len(record.decode(rounds[0].record).tx_ids)
    assert again.faults == ["round 2 came as the 2th"]
    assert told(*rounds[1:]).faults
