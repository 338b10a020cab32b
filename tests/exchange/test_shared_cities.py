"""Exchanges of cities that several servers share: whoever leads carries, whoever fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from exchange.cities import ALICE, ALICE_ID, BOB_ID, FUNDS, balance, funded, genesis_of, plain

from citychain.between_cities import RemittanceState
from citychain.client.city import CityClient
from citychain.client.transactions import sign_transaction
from citychain.errors import CitychainError
from citychain.genesis import escrow_account
from citychain.types import Remittance

SENT = 60
PATIENT = timedelta(seconds=300)


async def known(client: CityClient, slug: str) -> bytes:
    """Genesis id of a peer, once it is pinned."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await client.peer_id(slug)
            except CitychainError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["kill", "stop", "pause"])
async def test_who_leads_next_goes_on(server_factory: Any, how: str) -> None:
    cities = {"hill": funded(), "lake": plain()}
    async with server_factory(cities, servers=3, peers={"hill": {}, "lake": {}}) as cluster:
        for number in range(3):
            for city in cities:
                async with cluster[number].client(city) as client:
                    await client.info()
        async with cluster.client("hill") as home, cluster.client("lake") as there:
            other = await known(home, "lake")
            ours = await known(there, "hill")
            assert ours == (await genesis_of(home)).id
            signed = [
                sign_transaction(
                    ALICE,
                    genesis=ours,
                    action=Remittance("coin", other, BOB_ID, number + 1),
                    with_public_key=True,
                )
                for number in range(SENT)
            ]
            for start in range(0, SENT, 10):
                await home.submit(signed[start : start + 10], timeout=PATIENT)
                if start in (20, 40):
                    # The one that carries, then the one that receives.
                    leader = await cluster.leader("hill" if start == 20 else "lake")
                    if how == "pause":
                        cluster.pause(leader)
                        await asyncio.sleep(0.7)  # Longer than a lease holds.
                        cluster.heal(leader)
                    else:
                        await getattr(cluster, how)(leader)
                        await cluster.start()
            for one in signed:
                told = await home.delivered(one.tx_id, timeout=PATIENT)
                assert told.outgoing.state is RemittanceState.DELIVERED
            decided = await there.deliveries(ours, [one.tx_id for one in signed])
            assert len(decided) == SENT
            total = SENT * (SENT + 1) // 2
            assert await balance(there, BOB_ID) == total
            assert await balance(home, ALICE_ID) == FUNDS - total
            assert await balance(home, escrow_account(other)) == 0


async def test_a_server_that_does_not_lead_refuses_as_well(server_factory: Any) -> None:
    cities = {"hill": funded(), "lake": plain()}
    peers = {"hill": {"assets": ["gold"]}, "lake": {}}
    async with server_factory(cities, servers=2, peers=peers) as cluster:
        for number in range(2):
            for city in cities:
                async with cluster[number].client(city) as client:
                    await client.info()
        async with cluster.client("hill") as home, cluster.client("lake") as there:
            other, _ = await known(home, "lake"), await known(there, "hill")
            for _ in range(4):
                sent = await home.remit(ALICE, asset="coin", amount=3, to=BOB_ID, city=other)
                told = await home.delivered(sent.tx_id, timeout=PATIENT)
                assert told.outgoing.state is RemittanceState.RETURNED
            assert await balance(home, ALICE_ID) == FUNDS
