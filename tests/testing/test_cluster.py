"""Several servers in a test: what kills one, stops it, or comes between it and the storage."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from citychain.errors import CityUnavailable, ConfigurationError
from citychain.testing import FailingStorage
from citychain.types import State


async def approved(city: Any, signed: Any) -> None:
    told = await city.wait([transaction.tx_id for transaction in signed])
    assert {event.state for event in told.values()} == {State.APPROVED}


async def test_each_server_accepts_and_shows_the_same(
    server_factory: Any, signed_transactions: Any
) -> None:
    # Long enough that it is not over where the machine is slow: then nobody leads for a moment.
    leases = {"lease_seconds": 60}
    async with server_factory(["tokyo"], servers=3, cluster=leases) as cluster:
        assert len(cluster) == 3
        sent = []
        for number in range(3):
            async with cluster[number].client("tokyo") as city:
                batch = await signed_transactions(city, 2, key=number)
                await city.submit(batch)
                sent += batch
        ledgers = []
        for number in range(3):
            async with cluster[number].client("tokyo") as city:
                await approved(city, sent)
                ledgers.append([stored.record for stored in await city.rounds()])
        assert ledgers[0] == ledgers[1] == ledgers[2]
        assert len(cluster.leads("tokyo")) == 1


@pytest.mark.parametrize("how", ["kill", "stop", "pause", "partition"])
@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
async def test_a_client_of_all_goes_on_without_the_leader(
    server_factory: Any, signed_transactions: Any, how: str, policy: Any
) -> None:
    async with server_factory(["tokyo"], servers=3) as cluster:
        for number in range(3):
            async with cluster[number].client("tokyo") as city:
                await city.info()
        async with cluster.client("tokyo", policy) as city:
            sent = await signed_transactions(city, 6)
            await city.submit(sent[:2])
            leader = await cluster.leader("tokyo")
            if how in ("kill", "stop"):
                await getattr(cluster, how)(leader)
            else:
                getattr(cluster, how)(leader)
            if how == "partition":
                # Clients still reach it, and it cannot answer: the application asks another.
                others = [number for number in range(3) if number != leader]
                async with cluster[others[0]].client("tokyo") as other:
                    await other.submit(sent[2:4])
                    await approved(other, sent[:4])
            else:
                await city.submit(sent[2:4])
                await approved(city, sent[:4])
            assert await cluster.leader("tokyo") != leader
            if how in ("pause", "partition"):
                cluster.heal(leader)
            else:
                assert await cluster.start() == 3
            await city.submit(sent[4:])
            await approved(city, sent)
        sealed = []
        async with cluster.client("tokyo") as city:
            async for followed in city.follow_transactions():
                sealed += followed.envelopes
                if len(sealed) == len(sent):
                    break
        assert len(set(sealed)) == len(sent)
        async with asyncio.timeout(120):
            while len(cluster.leads("tokyo")) != 1:
                await asyncio.sleep(0.01)


async def test_a_watcher_goes_on_over_the_servers_that_are_left(
    server_factory: Any, signed_transactions: Any
) -> None:
    async with server_factory(["tokyo"], servers=3) as cluster, cluster.client("tokyo") as city:
        sent = await signed_transactions(city, 30)
        told: list[bytes] = []

        async def watch() -> None:
            async for batch in city.watch(after=0):
                told.extend(event.tx_id for event in batch.events)
                if len(told) >= len(sent):
                    return

        watching = asyncio.create_task(watch())
        for number, transaction in enumerate(sent):
            await city.submit([transaction])
            await city.wait([transaction.tx_id])
            if number in (9, 19):
                await cluster.kill(number // 10)
        await asyncio.wait_for(watching, 120)
    assert told == [transaction.tx_id for transaction in sent]


async def test_a_partitioned_server_acknowledges_nothing(
    server_factory: Any, signed_transactions: Any
) -> None:
    async with server_factory(["tokyo"]) as cluster:
        async with cluster[0].client("tokyo") as cut:
            [sent] = await signed_transactions(cut)
            cluster.partition(0)
            with pytest.raises((TimeoutError, CityUnavailable)):
                await cut.submit([sent], timeout=timedelta(seconds=1))
            async with cluster[1].client("tokyo") as other:
                assert await other.status([sent.tx_id]) == {}
            cluster.heal(0)
        async with cluster[0].client("tokyo") as healed:
            await healed.submit([sent])
            await approved(healed, [sent])


async def test_one_server_alone_has_a_part_replaced(
    server_factory: Any, signed_transactions: Any
) -> None:
    failing = FailingStorage("append")
    async with server_factory(["tokyo"], servers=1) as cluster:
        number = await cluster.start({"tokyo": {"storage": failing}})
        async with cluster[0].client("tokyo") as whole:
            sent = await signed_transactions(whole)
            await whole.submit(sent)
        async with cluster[number].client("tokyo") as broken:
            sent = await signed_transactions(broken, 1, key=1)
            with pytest.raises(CityUnavailable):
                await broken.submit(sent, timeout=timedelta(seconds=5))


async def test_wrong_settings_are_told(server_factory: Any) -> None:
    with pytest.raises(ConfigurationError, match="did you mean pacer"):
        server_factory(["tokyo"], pacr={})
