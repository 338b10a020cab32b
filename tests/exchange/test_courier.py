"""Amounts arrive in another city, once, or come back; whatever is down meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from exchange.cities import (
    ALICE,
    ALICE_ID,
    BOB_ID,
    FUNDS,
    balance,
    founded,
    funded,
    genesis_of,
    pinned,
    plain,
)
from free_ports import free_address

from citychain.between_cities import Outgoing, RemittanceState
from citychain.client import Refused
from citychain.client.actions import Transfer
from citychain.client.transactions import sign_transaction
from citychain.errors import NotFound
from citychain.exchange import courier, doorkeeper, waiting
from citychain.genesis import escrow_account
from citychain.receipt import ReceiptVerifier
from citychain.testing.server import CityServerFactory
from citychain.types import Peer, Remittance, State

BOTH = {"hill": funded(), "lake": plain()}
PEERS = {"hill": {}, "lake": {}}


async def test_an_amount_arrives_in_another_city_of_the_server(
    city_server: CityServerFactory,
) -> None:
    async with (
        city_server(BOTH, peers=PEERS) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        sent = await home.remit(ALICE, asset="coin", amount=30, to=BOB_ID, city="lake")
        told = await home.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.DELIVERED
        assert (told.outgoing.payer, told.outgoing.to) == (ALICE_ID, BOB_ID)
        assert (told.outgoing.amount, told.outgoing.asset) == (30, "coin")
        assert told.refusal is None
        other = await genesis_of(there)
        assert told.outgoing.city == other.id
        assert await balance(there, BOB_ID) == 30
        assert await balance(home, ALICE_ID) == FUNDS - 30
        assert await balance(home, escrow_account(other.id)) == 0

        ours = await genesis_of(home)
        decided = (await there.deliveries(ours.id, [sent.tx_id]))[sent.tx_id]
        assert decided.accepted
        receipt = (await there.receipts([decided.tx_id]))[decided.tx_id]
        ReceiptVerifier(other).verify(receipt)
        assert told.settlement is not None
        [settlement] = (await home.status([told.settlement])).values()
        assert settlement.state == State.APPROVED


async def test_many_at_once_arrive_each_once(city_server: CityServerFactory) -> None:
    async with (
        city_server(BOTH, peers=PEERS) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        ours, other = await genesis_of(home), await genesis_of(there)
        signed = [
            sign_transaction(
                ALICE,
                genesis=ours.id,
                action=Remittance("coin", other.id, BOB_ID, amount),
                with_public_key=True,
            )
            for amount in range(1, 301)
        ]
        await home.submit(signed)
        await asyncio.gather(*(home.delivered(one.tx_id) for one in signed))
        assert await balance(there, BOB_ID) == sum(range(1, 301))
        assert await balance(home, ALICE_ID) == FUNDS - sum(range(1, 301))
        assert await balance(home, escrow_account(other.id)) == 0
        assert [peer.pending for peer in await home.peers()] == [0]


async def test_what_a_city_does_not_take_goes_back_with_the_reason(
    city_server: CityServerFactory,
) -> None:
    peers = {"hill": {"assets": ["gold"]}, "lake": {}}
    async with (
        city_server(BOTH, peers=peers) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        sent = await home.remit(ALICE, asset="coin", amount=30, to=BOB_ID, city="lake")
        told = await home.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.RETURNED
        assert told.refusal is not None
        assert told.refusal.code == "ASSET_NOT_ACCEPTED"
        assert told.refusal.reason == "lake takes no coin from hill"
        assert await balance(there, BOB_ID) == 0
        assert await balance(home, ALICE_ID) == FUNDS


async def test_what_the_payee_cannot_hold_goes_back(city_server: CityServerFactory) -> None:
    rich = {"coin": {BOB_ID.hex(): (1 << 63) - 1}}
    cities = {
        "hill": funded(balances={"coin": {ALICE_ID.hex(): (1 << 63) - 1}}),
        "lake": plain(balances=rich),
        "dale": funded(balances={"coin": {ALICE_ID.hex(): (1 << 63) - 1}}),
    }
    async with (
        city_server(cities, peers={**PEERS, "dale": {}}) as server,
        server.client("hill") as home,
        server.client("dale") as second,
        server.client("lake") as there,
    ):
        await pinned(home, there, second)
        # 64 bits hold the first on top of what he has, and not the second.
        for client in (home, second):
            sent = await client.remit(
                ALICE, asset="coin", amount=(1 << 63) - 1, to=BOB_ID, city="lake"
            )
            told = await client.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.RETURNED
        assert told.refusal is not None
        assert told.refusal.code == "OVERFLOW"
        assert await balance(second, ALICE_ID) == (1 << 63) - 1


async def test_two_servers(city_server: CityServerFactory, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    hill = await founded(city_server, first, "hill", funded())
    lake = await founded(city_server, second, "lake", plain())
    addresses = [free_address() for _ in range(2)]
    peers = {
        "hill": {"genesis": hill, "endpoints": [addresses[0]]},
        "lake": {"genesis": lake, "endpoints": [addresses[1]]},
    }
    async with (
        city_server(
            {"hill": funded()},
            directory=first,
            peers={"lake": peers["lake"]},
            server={"listen": addresses[0]},
        ) as here,
        here.client("hill") as home,
    ):
        await pinned(home)
        sent = await home.remit(ALICE, asset="coin", amount=5, to=BOB_ID, city="lake")
        await home.wait([sent.tx_id])
        assert (await home.remittance(sent.tx_id)).outgoing.state is RemittanceState.PENDING
        assert await balance(home, ALICE_ID) == FUNDS - 5
        # The other city is up only now.
        async with (
            city_server(
                {"lake": plain()},
                directory=second,
                peers={"hill": peers["hill"]},
                server={"listen": addresses[1]},
            ) as elsewhere,
            elsewhere.client("lake") as there,
        ):
            told = await home.delivered(sent.tx_id)
            assert told.outgoing.state is RemittanceState.DELIVERED
            assert await balance(there, BOB_ID) == 5
            # And back, to somebody in the first city.


async def test_a_peer_that_is_down_delays_its_own_remittances_alone(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    down = {"genesis": farm, "endpoints": [free_address()]}
    async with (
        city_server(BOTH, peers={**PEERS, "farm": down}) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        waits = await home.remit(ALICE, asset="coin", amount=7, to=BOB_ID, city="farm")
        goes = [
            await home.remit(ALICE, asset="coin", amount=1, to=BOB_ID, city="lake")
            for _ in range(5)
        ]
        for sent in goes:
            told = await home.delivered(sent.tx_id)
            assert told.outgoing.state is RemittanceState.DELIVERED
        assert (await home.remittance(waits.tx_id)).outgoing.state is RemittanceState.PENDING
        [farm_peer] = [peer for peer in await home.peers() if peer.name == "farm"]
        assert farm_peer.pinned
        assert farm_peer.pending == 1
        async with asyncio.timeout(120):
            while not [p for p in await home.peers() if p.name == "farm" and p.trouble]:
                await asyncio.sleep(0.05)


async def test_a_courier_that_begins_anew_goes_on_where_the_ledger_stands(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    """Sent while the server knows no way to the peer, carried by the one after it."""
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    hill = await founded(city_server, tmp_path / "k", "hill", funded(storage="sqlite"))
    address = free_address()
    peers = {"farm": {"genesis": farm, "endpoints": [address]}}
    table = {"hill": funded(storage="sqlite")}
    async with (
        city_server(table, directory=tmp_path / "k", peers=peers) as server,
        server.client("hill") as home,
    ):
        await pinned(home)
        sent = [
            await home.remit(ALICE, asset="coin", amount=1, to=BOB_ID, city="farm")
            for _ in range(20)
        ]
        await home.wait([one.tx_id for one in sent])
    async with (
        city_server(
            {"farm": plain()},
            directory=tmp_path / "farm",
            peers={"hill": {"genesis": hill}},
            server={"listen": address},
        ) as elsewhere,
        city_server(table, directory=tmp_path / "k", peers=peers) as server,
        server.client("hill") as home,
        elsewhere.client("farm") as there,
    ):
        for one in sent:
            told = await home.delivered(one.tx_id)
            assert told.outgoing.state is RemittanceState.DELIVERED
        assert await balance(there, BOB_ID) == 20


async def test_a_city_that_is_down_for_long_keeps_nothing_from_closing(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    down = {"genesis": farm, "endpoints": [free_address()]}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            city_server({"hill": funded()}, peers={"farm": down})
        )
        async with server.client("hill") as home:
            await pinned(home)
            sent = await home.remit(ALICE, asset="coin", amount=7, to=BOB_ID, city="farm")
            await home.wait([sent.tx_id])
        async with asyncio.timeout(10):
            await stack.aclose()


async def test_a_changed_genesis_is_refused(
    city_server: CityServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    genuine = await founded(city_server, tmp_path / "a", "farm", plain())
    other = await founded(city_server, tmp_path / "b", "farm", plain())
    table = {"hill": funded(storage="sqlite")}
    for file in (genuine, other):
        async with (
            city_server(
                table, directory=tmp_path / "k", peers={"farm": {"genesis": file}}
            ) as server,
            server.client("hill") as home,
        ):
            if file is genuine:
                await pinned(home)
                known = await home.peer_id("farm")
                continue
            async with asyncio.timeout(120):
                while not (peers := await home.peers()):
                    await asyncio.sleep(0.01)
            assert not peers[0].pinned
            assert "a city's genesis never changes" in peers[0].trouble
            assert await home.peer_id("farm") == known
            async with asyncio.timeout(120):
                while "farm is not pinned" not in caplog.text:
                    await asyncio.sleep(0.01)


async def test_nobody_is_sent_anything_who_is_not_pinned(city_server: CityServerFactory) -> None:
    async with city_server(BOTH) as server, server.client("hill") as home:
        with pytest.raises(NotFound, match="lake"):
            await home.remit(ALICE, asset="coin", amount=30, to=BOB_ID, city="lake")
        sent = await home.remit(ALICE, asset="coin", amount=30, to=BOB_ID, city=bytes(32))
        [event] = (await home.wait([sent.tx_id])).values()
        assert (event.state, event.code) == (State.REJECTED, "UNKNOWN_CITY")
        with pytest.raises(NotFound, match="remittance"):
            await home.remittance(sent.tx_id)
        assert await balance(home, ALICE_ID) == FUNDS


async def test_a_peer_is_the_operators_to_name(city_server: CityServerFactory) -> None:
    async with (
        city_server(BOTH) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        ours, other = await genesis_of(home), await genesis_of(there)
        signed = sign_transaction(
            ALICE, genesis=ours.id, action=Peer(other.file), with_public_key=True
        )
        [refused] = await home.submit([signed])
        assert isinstance(refused, Refused)
        assert (refused.code, refused.field) == ("UNPROVEN", "body.author")


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
async def test_more_than_there_is_room_for_arrive_each_once(
    city_server: CityServerFactory, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    monkeypatch.setattr(waiting, "WAITING_MAX", 5)
    monkeypatch.setattr(courier, "ROUNDS_A_PAGE", 2)
    most, amounts = [0], list[int]()
    take = courier.Courier._take

    def counting(self: courier.Courier, item: Outgoing, round: int) -> bool:
        taken = take(self, item, round)
        if taken and item.amount not in amounts:
            amounts.append(item.amount)
        most.append(self.pending(item.city))
        return taken

    monkeypatch.setattr(courier.Courier, "_take", counting)
    cities = {"hill": funded(storage=storage), "lake": plain(storage=storage)}
    async with (
        city_server(cities, peers=PEERS) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        ours, other = await genesis_of(home), await genesis_of(there)
        signed = [
            sign_transaction(
                ALICE,
                genesis=ours.id,
                action=Remittance("coin", other.id, BOB_ID, amount),
                with_public_key=True,
            )
            for amount in range(1, 41)
        ]
        for first in range(0, 40, 8):
            await home.submit(signed[first : first + 8])
            await home.wait([one.tx_id for one in signed[first : first + 8]])
        await asyncio.gather(*(home.delivered(one.tx_id) for one in signed))
        assert await balance(there, BOB_ID) == sum(range(1, 41))
        assert await balance(home, escrow_account(other.id)) == 0
    assert max(most) == 5
    # The oldest first.
    assert [(amount - 1) // 8 for amount in amounts] == [number // 8 for number in range(40)]


async def test_a_full_lane_is_no_others_trouble_and_outlives_a_restart(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More wait for a city that is down than there is room for."""
    monkeypatch.setattr(waiting, "WAITING_MAX", 3)
    farm = await founded(city_server, tmp_path / "farm", "farm", plain())
    table = {"hill": funded(storage="sqlite"), "lake": plain(storage="sqlite")}
    hill = await founded(city_server, tmp_path / "k", "hill", table["hill"])
    address = free_address()
    peers = {**PEERS, "farm": {"genesis": farm, "endpoints": [address]}}
    async with (
        city_server(table, directory=tmp_path / "k", peers=peers) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        waits = [
            await home.remit(ALICE, asset="coin", amount=1, to=BOB_ID, city="farm")
            for _ in range(10)
        ]
        await home.wait([one.tx_id for one in waits])
        goes = await home.remit(ALICE, asset="coin", amount=1, to=BOB_ID, city="lake")
        assert (await home.delivered(goes.tx_id)).outgoing.state is RemittanceState.DELIVERED
        [peer] = [peer for peer in await home.peers() if peer.name == "farm"]
        assert peer.pending == 3
    async with (
        city_server(
            {"farm": plain()},
            directory=tmp_path / "farm",
            peers={"hill": {"genesis": hill}},
            server={"listen": address},
        ) as elsewhere,
        city_server(table, directory=tmp_path / "k", peers=peers) as server,
        server.client("hill") as home,
        elsewhere.client("farm") as there,
    ):
        for one in waits:
            told = await home.delivered(one.tx_id)
            assert told.outgoing.state is RemittanceState.DELIVERED
        assert await balance(there, BOB_ID) == 10


async def test_what_is_never_decided_keeps_nothing_else_from_arriving(
    city_server: CityServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than half of the room is of those that the other city neither takes nor refuses."""
    monkeypatch.setattr(waiting, "WAITING_MAX", 6)
    monkeypatch.setattr(doorkeeper.Doorkeeper, "_put", lambda self, wanted: None)
    gold = {ALICE_ID.hex(): FUNDS}
    table = {
        "hill": funded(storage="sqlite", balances={"coin": gold, "gold": gold}),
        "lake": plain(storage="sqlite"),
    }
    peers = {"hill": {"assets": ["gold"]}, "lake": {}}
    async with (
        city_server(table, directory=tmp_path, peers=peers) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        ours, other = await genesis_of(home), await genesis_of(there)
        signed = [
            sign_transaction(
                ALICE,
                genesis=ours.id,
                action=Remittance("coin" if number < 4 else "gold", other.id, BOB_ID, 1),
                with_public_key=True,
            )
            for number in range(20)
        ]
        for first in range(0, 20, 4):
            await home.submit(signed[first : first + 4])
            await home.wait([one.tx_id for one in signed[first : first + 4]])
        async with asyncio.timeout(120):
            await asyncio.gather(*(home.delivered(one.tx_id) for one in signed[4:]))
        for one in signed[:4]:
            assert (await home.remittance(one.tx_id)).outgoing.state is RemittanceState.PENDING
    # Who begins anew knows of those that wait, too.
    async with (
        city_server(table, directory=tmp_path, peers=PEERS) as server,
        server.client("hill") as home,
    ):
        for one in signed[:4]:
            told = await home.delivered(one.tx_id)
            assert told.outgoing.state is RemittanceState.DELIVERED


async def test_nobody_pays_to_an_account_of_escrow_by_name(
    city_server: CityServerFactory,
) -> None:
    cities = {**BOTH, "dale": plain()}
    async with (
        city_server(cities, peers={**PEERS, "dale": {}}) as server,
        server.client("hill") as home,
        server.client("lake") as there,
    ):
        await pinned(home, there)
        ours, lake = await genesis_of(home), await genesis_of(there)
        async with server.client("dale") as third:
            dale = await genesis_of(third)
        for action, field in (
            (Transfer("coin", escrow_account(lake.id), 3), "body.transfer.to"),
            (Remittance("coin", lake.id, escrow_account(ours.id), 3), "body.remittance.to"),
        ):
            signed = sign_transaction(ALICE, genesis=ours.id, action=action, with_public_key=True)
            [refused] = await home.submit([signed])
            assert isinstance(refused, Refused)
            assert (refused.code, refused.field) == ("ESCROW_PAYEE", field)
        # What the other city keeps for a third one only that city can tell.
        sent = await home.remit(
            ALICE, asset="coin", amount=30, to=escrow_account(dale.id), city="lake"
        )
        told = await home.delivered(sent.tx_id)
        assert told.outgoing.state is RemittanceState.RETURNED
        assert told.refusal is not None
        assert told.refusal.code == "ESCROW_PAYEE"
        assert told.refusal.reason == "it is where lake keeps what is on its way to dale"
        assert await balance(home, ALICE_ID) == FUNDS
        fine = await home.remit(ALICE, asset="coin", amount=30, to=BOB_ID, city="lake")
        assert (await home.delivered(fine.tx_id)).refusal is None
