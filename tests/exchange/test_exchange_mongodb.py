"""Two cities that exchange, on one MongoDB that two servers share: whoever leads carries, and what
two couriers carry is in both ledgers once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster.nodes import Node, cluster
from cluster.witness import Lease
from exchange.book import DELIVERED, Book
from exchange.cities import ALICE, ALICE_ID, BOB, BOB_ID, FUNDS, balance, funded, plain
from exchange.test_shared_cities import PATIENT, known
from pymongo import MongoClient

from citychain import record
from citychain._native.transactions import decode_batch
from citychain.between_cities import RemittanceState
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction, sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis, escrow_account
from citychain.types import Remittance

SENT = 16
BATCH = 4
CITIES = ("hill", "lake")
OTHERS = {"hill": "lake", "lake": "hill"}
PAYERS = {"hill": (ALICE, BOB_ID), "lake": (BOB, ALICE_ID)}
TABLES = {
    "hill": funded(storage="shared"),
    "lake": plain(storage="shared", balances={"coin": {BOB_ID.hex(): FUNDS}}),
}
LEASE = 2.0


def remittances(ours: bytes, other: bytes, key: SigningKey, to: bytes) -> list[SignedTransaction]:
    return [
        sign_transaction(
            key,
            genesis=ours,
            action=Remittance("coin", other, to, number + 1),
            with_public_key=True,
        )
        for number in range(SENT)
    ]


async def exchange(clients: dict[str, CityClient], trouble: Callable[[], Awaitable[None]]) -> None:
    """Both cities pay each other without pause; halfway each city's leader has trouble. What the
    ledgers then say is compared with a book."""
    genesis = {
        city: Genesis.from_bytes((await client.info()).genesis_file)
        for city, client in clients.items()
    }
    for city, client in clients.items():
        assert await known(client, OTHERS[city]) == genesis[OTHERS[city]].id
    signed = {
        city: remittances(genesis[city].id, genesis[OTHERS[city]].id, *PAYERS[city])
        for city in CITIES
    }

    async def pay(city: str, start: int) -> None:
        await clients[city].submit(signed[city][start : start + BATCH], timeout=PATIENT)
        # So that trouble comes while some are on their way, and others are not sent yet.
        await clients[city].wait([signed[city][start].tx_id], timeout=PATIENT)

    async def pay_on(city: str) -> None:
        for start in range(BATCH, SENT, BATCH):
            await pay(city, start)

    await asyncio.gather(*(pay(city, 0) for city in CITIES))
    async with asyncio.TaskGroup() as group:
        for city in CITIES:
            group.create_task(pay_on(city))
        await trouble()
    for city in CITIES:
        for one in signed[city]:
            told = await clients[city].delivered(one.tx_id, timeout=PATIENT)
            assert told.outgoing.state is RemittanceState.DELIVERED
    books = {
        city: await read(client, genesis[city], genesis[OTHERS[city]])
        for city, client in clients.items()
    }
    for city, book in books.items():
        assert book.sent.keys() == {one.tx_id for one in signed[city]}
        assert {sent.status for sent in book.sent.values()} == {DELIVERED}
        source = genesis[OTHERS[city]].id
        assert book.received.keys() == {(source, one.tx_id) for one in signed[OTHERS[city]]}
        assert all(accepted for accepted, _ in book.received.values())
        assert await balance(clients[city], ALICE_ID) == book.balances["coin", ALICE_ID]
        assert await balance(clients[city], BOB_ID) == book.balances["coin", BOB_ID]
        assert await balance(clients[city], escrow_account(source)) == 0
    assert sum(sum(book.balances.values()) for book in books.values()) == 2 * FUNDS


async def read(client: CityClient, genesis: Genesis, other: Genesis) -> Book:
    """The book of a city, by all transactions in its ledger: each was decided as it must be, and
    each round leaves the balances that it must leave."""
    book, escrows = Book.begun(genesis), frozenset(map(escrow_account, (genesis.id, other.id)))
    head = (await client.info()).head.certified_round
    rounds = client.follow_transactions(1, sealed=False)
    async with aclosing(rounds):
        async for followed in rounds:
            decided = record.decode(followed.stored.record)
            # What was held comes after what was sealed.
            sealed = decode_batch(followed.envelopes[: len(decided.tx_ids)])
            assert [item.tx_id for item in sealed] == list(decided.tx_ids)
            for item, verdict in zip(sealed, decided.verdicts, strict=True):
                if item.peer is None and item.anchor is None:
                    code = book.enter(item, escrows)
                    assert (verdict.code if verdict else "") == code, item.action
            for write in decided.writes:
                kind, *rest = write.object.split("/")
                if kind == "$balance":
                    assert (
                        int.from_bytes(write.value, "big")
                        == book.balances[rest[0], bytes.fromhex(rest[1])]
                    )
            if followed.stored.round == head:
                return book
    raise AssertionError("rounds without end have one")


@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
async def test_the_other_server_carries_on(
    server_factory: Any, mongodb_uri: str, mongodb_database: str, how: str
) -> None:
    storage = {"backend": "mongodb", "uri": mongodb_uri, "database": mongodb_database}
    async with (
        server_factory(
            TABLES,
            storage={"shared": storage},
            peers={city: {} for city in CITIES},
            cluster={"lease_seconds": LEASE},
        ) as servers,
        servers.client("hill", timeout=PATIENT) as hill,
        servers.client("lake", timeout=PATIENT) as lake,
    ):
        for number in range(2):
            for city in CITIES:
                async with servers[number].client(city) as client:
                    await client.info()

        async def trouble() -> None:
            if how != "pause":
                leader = await servers.leader("hill")
                await getattr(servers, how)(leader)
                assert await servers.leader("hill") == await servers.leader("lake") != leader
                return
            for city in CITIES:
                leader = await servers.leader(city)
                servers.pause(leader)
                # Once another one leads this one wakes up, with what it had in hand.
                assert await servers.leader(city) != leader
                servers.heal(leader)

        await exchange({"hill": hill, "lake": lake}, trouble)


PROCESSES = """
[cities.hill.balances.coin]
{alice} = {funds}
[cities.lake.balances.coin]
{bob} = {funds}
[peers.hill]
[peers.lake]
"""


async def test_processes_are_killed_and_paused(
    tmp_path: Path, mongodb_uri: str, mongodb_database: str, mongodb_client: MongoClient[Any]
) -> None:
    leases = mongodb_client[mongodb_database].leases
    more = PROCESSES.format(alice=ALICE_ID.hex(), bob=BOB_ID.hex(), funds=FUNDS)
    async with (
        cluster(
            tmp_path, mongodb_uri, mongodb_database, CITIES, skews=(0, 0), lease=LEASE, more=more
        ) as nodes,
        AsyncExitStack() as stack,
    ):
        channels = ChannelFactory(
            [node.process.address for node in nodes],
            "round_robin",
            keepalive=timedelta(milliseconds=250),
        )
        clients, genesis = {}, {}
        for city in CITIES:
            for node in nodes:  # So that each has both open.
                alone = ChannelFactory([node.process.address])
                async with CityClient(city, alone, timeout=PATIENT) as client:
                    genesis[city] = (await client.info()).genesis
            clients[city] = await stack.enter_async_context(
                CityClient(city, channels, timeout=PATIENT)
            )

        async def leader(city: str, *, but: Node | None = None) -> Node:
            async with asyncio.timeout(120):
                while True:
                    found = leases.find_one({"_id": genesis[city]}) or {}
                    lease = Lease(found.get("holder") or "", found.get("epoch", 0))
                    for node in nodes:
                        if node is not but and node.pid == lease.pid:
                            return node
                    await asyncio.sleep(0.02)

        async def trouble() -> None:
            node = await leader("hill")
            await node.kill()
            await leader("hill", but=node)
            await node.start()
            node = await leader("lake")
            node.pause()
            await leader("lake", but=node)
            node.resume()

        await exchange(clients, trouble)
