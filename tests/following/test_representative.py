"""Representatives elsewhere: what is approved is what they checked, and a lie gets no vote."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from following.conftest import OpenRepresentative, tokyo

from citychain.client.city import CityClient
from citychain.client.transactions import SignedTransaction, Transfer, sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRound
from citychain.following.representative import Representative
from citychain.genesis import Genesis
from citychain.receipt import ReceiptVerifier
from citychain.testing.liars import CONSENSUS_LIES, DAG_LIES, LyingConsensus, LyingDag
from citychain.testing.server import CityServerFactory
from citychain.types import Presence, SealedRound, State

KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
RICH = {"coin": {key_id(KEYS[0].public_key).hex(): 1_000}}


@asynccontextmanager
async def running(*representatives: Representative) -> AsyncIterator[None]:
    """Representatives at work."""
    work = [asyncio.create_task(one.run()) for one in representatives]
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


def entangled(genesis: bytes, seed: int, count: int = 30) -> list[SignedTransaction]:
    """Transactions that give a liar every occasion."""
    choose = random.Random(seed)
    sent: list[SignedTransaction] = []
    for number in range(count):
        depends_on = [one.tx_id for one in choose.sample(sent, min(len(sent), number % 3))]
        action: dict[str, Any] = {"data": b"x"}
        if not number % 3:
            action = {"transfer": Transfer("coin", key_id(KEYS[1].public_key), 90)}
        sent.append(
            sign_transaction(
                KEYS[0] if "transfer" in action else choose.choice(KEYS),
                genesis=genesis,
                writes={f"o{choose.randrange(4)}": 0} if not number % 4 else {},
                depends_on=depends_on,
                with_public_key=True,
                **action,
            )
        )
    return sent


def claim(genesis: bytes, key: SigningKey) -> SignedTransaction:
    """A claim to have been at the centre of the world."""
    here = Presence(0, 0, 10, 0, 30, genesis, ())
    return sign_transaction(key, genesis=genesis, action=here, with_public_key=True)


async def settle(city: CityClient, seed: int, state: State = State.APPROVED) -> list[bytes]:
    """Submit entangled transactions and wait for them."""
    transactions = entangled((await city.info()).genesis, seed)
    await city.submit(transactions)
    ids = [transaction.tx_id for transaction in transactions]
    await city.wait(ids, state)
    return ids


async def test_what_a_quorum_elsewhere_checked_is_approved(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, 1, 1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        three = [await stack.enter_async_context(representative(server, n)) for n in range(3)]
        async with running(*three):
            ids = await settle(city, 1)
        receipts = await city.receipts(ids)
        info = await city.info()
        verifier = ReceiptVerifier(Genesis.from_bytes(info.genesis_file))
        for tx_id in ids:
            verifier.verify(receipts[tx_id])
            assert len(receipts[tx_id].certificate.votes) >= 2


async def test_without_a_quorum_rounds_stay_sealed_until_it_comes(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, 1, 1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        first = await stack.enter_async_context(representative(server, 0))
        async with running(first):
            ids = await settle(city, 1, State.SEALED)
            while not (status := await city.committee()).stake_for:
                await asyncio.sleep(0.01)
            assert (await city.info()).head.certified_round == 0
            assert status.round == 1
            assert (status.stake_for, status.stake_needed) == (1, 2)
            second = await stack.enter_async_context(representative(server, 1))
            async with running(second):
                await city.wait(ids)


async def test_one_that_comes_late_or_again_goes_on_where_it_was(
    city_server: CityServerFactory, representative: OpenRepresentative, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        for seed in range(3):
            async with representative(server, 0) as again, running(again):
                await settle(city, seed)
        rounds = await city.rounds(1, 100)
        async with representative(server, 0) as again:
            head = again._replay.head
            assert head.round == rounds[-1].round
            assert head.checkpoint_hash == rounds[-1].checkpoint_hash


async def test_votes_that_a_dead_server_forgot_are_sent_again(
    city_server: CityServerFactory, representative: OpenRepresentative, tmp_path: Path
) -> None:
    cities = tokyo(1, 1, 1, storage="sqlite")
    place = tmp_path / "server"
    async with AsyncExitStack() as stack:
        async with (
            city_server(cities, directory=place) as server,
            server.client("tokyo") as city,
            representative(server, 0) as first,
            running(first),
        ):
            ids = await settle(city, 1, State.SEALED)
            while (await city.committee()).stake_for < 1:
                await asyncio.sleep(0.01)
        server = await stack.enter_async_context(city_server(cities, directory=place))
        city = await stack.enter_async_context(server.client("tokyo"))
        two = [await stack.enter_async_context(representative(server, n)) for n in range(2)]
        async with running(*two):
            await city.wait(ids)


async def test_no_vote_leaves_before_its_round_is_durable(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        one = await stack.enter_async_context(representative(server, 0))
        commit, reached, release = one._storage.commit, asyncio.Event(), asyncio.Event()

        async def slow(sealed: SealedRound) -> None:
            reached.set()
            await release.wait()
            await commit(sealed)

        one._storage.commit = slow  # type: ignore[method-assign]
        async with running(one):
            ids = await settle(city, 1, State.SEALED)
            await reached.wait()
            await one._send()
            assert not one._votes
            assert (await city.info()).head.certified_round == 0
            release.set()
            await city.wait(ids)


async def test_a_server_that_goes_back_gets_no_second_vote(
    city_server: CityServerFactory,
    representative: OpenRepresentative,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cities = tokyo(1, balances=RICH, storage="sqlite")
    place, copy = tmp_path / "server", tmp_path / "copy"

    async def go_on(seed: int) -> int:
        async with (
            city_server(cities, directory=place) as server,
            server.client("tokyo") as city,
            representative(server, 0) as one,
            running(one),
        ):
            await settle(city, seed)
            return (await city.info()).head.round

    old = await go_on(1)
    shutil.copytree(place, copy)
    assert await go_on(2) > old
    shutil.rmtree(place)
    copy.rename(place)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(cities, directory=place))
        city = await stack.enter_async_context(server.client("tokyo"))
        one = await stack.enter_async_context(representative(server, 0))
        async with running(one):
            await settle(city, 3, State.SEALED)
            while "the server has another version of this round" not in caplog.text:
                await asyncio.sleep(0.01)
            status = await city.committee()
            assert (status.round, status.stake_for) == (old + 1, 0)
            assert not status.conflicting


@pytest.mark.parametrize("lie", [*DAG_LIES, *CONSENSUS_LIES])
async def test_a_lie_gets_no_honest_vote(
    city_server: CityServerFactory, representative: OpenRepresentative, lie: str
) -> None:
    liar = LyingDag(lie) if lie in DAG_LIES else LyingConsensus(lie)
    part = "dag" if lie in DAG_LIES else "consensus"
    table = tokyo(1, balances=RICH)
    if lie in ("let anybody in", "make up a presence"):
        here = {"disc": {"latitude_e7": 0, "longitude_e7": 0, "radius_m": 1_000}}
        options = {"place": here, "policy": "claimed"}
        table = tokyo(1, balances=RICH, consensus_options=options)
    objections: list[InvalidRound] = []
    heard = asyncio.Event()

    def objected(error: InvalidRound) -> None:
        objections.append(error)
        heard.set()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(table, {"tokyo": {part: liar}}))
        city = await stack.enter_async_context(server.client("tokyo"))
        honest = await stack.enter_async_context(representative(server, 0, objected=objected))
        async with running(honest):
            genesis = (await city.info()).genesis
            if lie == "make up a presence":
                await city.submit([claim(genesis, key) for key in KEYS])
            for seed in range(50):
                await city.submit(entangled(genesis, seed))
                if liar.told:
                    break
                await asyncio.sleep(0.05)
            async with asyncio.timeout(120):
                while not liar.told:
                    await asyncio.sleep(0.01)
                await heard.wait()
                [objection] = objections
                print(objection)
                # Rounds before the lie were honest, and are approved, be it after the objection.
                while (await city.info()).head.certified_round < objection.round - 1:
                    await asyncio.sleep(0.01)
                while not (status := await city.committee()).members[0].objection:
                    await asyncio.sleep(0.01)
                while status.round < objection.round:
                    status = await city.committee()
            assert status.members[0].objection.check == objection.check
            # That one never is.
            assert status.round == objection.round
            assert status.stake_for == 0
            assert (await city.info()).head.certified_round == objection.round - 1
