"""Receipts that lead up to the country and the earth: what they prove, and that nothing in them
can be altered."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import run_process
from exchange.cities import ALICE, founded, genesis_of, pinned, plain
from free_ports import free_address

from citychain._native.transactions import decode_batch
from citychain.cli.app import run
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.levels import (
    fetch_level_receipt,
    load_level_receipt,
    save_level_receipt,
    verify_level_receipt,
)
from citychain.client.transactions import sign_transaction
from citychain.errors import InvalidReceipt, NotFound
from citychain.exchange.proof import encode_certified
from citychain.genesis import Genesis
from citychain.levels import LevelReceipt, verify_levels
from citychain.receipt import ReceiptVerifier
from citychain.testing.server import CityServerFactory
from citychain.types import Anchor, Rejection, State

CITIES = {
    "earth": plain(),
    "east": plain(parent="earth"),
    "isle": plain(parent="east"),
    "hill": plain(parent="isle"),
    "lake": plain(parent="isle"),
}
SOON = {"anchor_seconds": 0.05}
PATIENT = timedelta(seconds=300)


async def deed(client: CityClient, content: bytes = b"deed", **fields: Any) -> bytes:
    genesis = (await client.info()).genesis
    signed = sign_transaction(ALICE, genesis=genesis, data=content, with_public_key=True, **fields)
    await client.submit([signed])
    await client.wait([signed.tx_id])
    return signed.tx_id


@pytest.fixture
async def proven(
    city_server: CityServerFactory,
) -> tuple[LevelReceipt, dict[str, Genesis]]:
    async with city_server(CITIES, exchange=SOON) as server:
        async with server.client("hill") as client:
            tx_id = await deed(client)

            def above(name: str, endpoints: Sequence[str]) -> CityClient:
                assert endpoints == ()
                return server.client(name)

            receipt = await fetch_level_receipt(client, tx_id, "earth", above, timeout=PATIENT)
        genesis = {}
        for slug in CITIES:
            async with server.client(slug) as client:
                genesis[slug] = await genesis_of(client)
    return receipt, genesis


async def test_it_leads_up_to_the_earth(
    proven: tuple[LevelReceipt, dict[str, Genesis]], tmp_path: Path
) -> None:
    receipt, genesis = proven
    assert [level.genesis for level in receipt.levels] == [
        genesis[slug].id for slug in ("hill", "isle", "east")
    ]
    assert receipt.top.genesis == genesis["earth"].id
    verify_levels(receipt, genesis["earth"])
    save_level_receipt(tmp_path / "deed.json", receipt)
    assert load_level_receipt(tmp_path / "deed.json") == receipt
    verify_level_receipt(tmp_path / "deed.json", genesis["earth"].file)
    for slug in ("hill", "isle", "east", "lake"):
        with pytest.raises(InvalidReceipt, match="genesis"):
            verify_levels(receipt, genesis[slug])
    # What stands above the country proves the city to whoever trusts the country.
    with pytest.raises(InvalidReceipt, match="genesis"):
        verify_levels(LevelReceipt(receipt.levels[:1], receipt.top), genesis["earth"])


async def test_no_field_of_it_can_be_altered(
    proven: tuple[LevelReceipt, dict[str, Genesis]],
) -> None:
    receipt, genesis = proven
    top = genesis["earth"]
    choose = random.Random(3)

    def flipped(data: bytes) -> bytes:
        at = choose.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << choose.randrange(8))]) + data[at + 1 :]

    altered = []
    for at, level in enumerate(receipt.levels):
        changes: list[dict[str, Any]] = [
            {"genesis": flipped(level.genesis)},
            {"tx_id": flipped(level.tx_id)},
            {"public_key": flipped(level.public_key or b"")},
            {"round": level.round + 1},
            {"seq": level.seq + 1},
            {"node_id": flipped(level.node_id or b"")},
            {"parents": (flipped(level.parents[0]), *level.parents[1:])},
            {"parents": (*level.parents, bytes(32))},
            {"node_id": None, "parents": (), "rejection": Rejection("EXPIRED", "")},
            {"pop": bytes(32)},
            {"leaf_index": level.leaf_index + 1},
            {"checkpoint": receipt.top.checkpoint},
            {"certificate": receipt.top.certificate},
            {"inclusion": (*level.inclusion, bytes(32))},
            *({"envelope": flipped(level.envelope or b"")} for _ in range(20)),
            *(
                {"inclusion": (*level.inclusion[:n], flipped(it), *level.inclusion[n + 1 :])}
                for n, it in enumerate(level.inclusion)
            ),
        ]
        altered += [
            LevelReceipt(
                (*receipt.levels[:at], replace(level, **change), *receipt.levels[at + 1 :]),
                receipt.top,
            )
            for change in changes
        ]
    # A level left out, repeated, in another order; another top.
    levels = receipt.levels
    altered += [
        LevelReceipt(levels[:-1], receipt.top),
        LevelReceipt(levels[1:][::-1] + levels[:1], receipt.top),
        LevelReceipt((levels[0], *levels), receipt.top),
        LevelReceipt(levels, replace(receipt.top, leaf_index=receipt.top.leaf_index + 1)),
        LevelReceipt(levels, replace(receipt.top, envelope=None, public_key=None)),
        LevelReceipt(levels * 6, receipt.top),
    ]
    for one in altered:
        with pytest.raises(InvalidReceipt):
            verify_levels(one, top)
    verify_levels(receipt, top)


async def test_no_byte_of_its_file_can_be_altered(
    proven: tuple[LevelReceipt, dict[str, Genesis]], tmp_path: Path
) -> None:
    receipt, genesis = proven
    path = tmp_path / "deed.json"
    save_level_receipt(path, receipt)
    text = path.read_bytes()
    choose = random.Random(5)
    for at in choose.sample(range(len(text)), 400):
        if text[at : at + 1] in b" \n":
            continue
        path.write_bytes(
            text[:at] + bytes([text[at] ^ (1 << choose.randrange(7))]) + text[at + 1 :]
        )
        with pytest.raises(InvalidReceipt):
            verify_level_receipt(path, genesis["earth"])
    for members in ({"more": 1}, {"top": {}}, {"levels": []}):
        path.write_text(json.dumps(json.loads(text) | members))
        with pytest.raises(InvalidReceipt):
            verify_level_receipt(path, genesis["earth"])


async def test_an_anchor_that_was_rejected_proves_nothing(city_server: CityServerFactory) -> None:
    """Anybody may submit one, of any checkpoint; the parent's log has it, as rejected."""
    cities = {"isle": plain(), "hill": plain(parent="isle")}
    async with (
        city_server(cities, exchange=SOON) as server,
        server.client("hill") as client,
        server.client("isle") as parent,
    ):
        tx_id = await deed(client)
        real = await fetch_level_receipt(
            client, tx_id, "isle", lambda name, _: server.client(name), timeout=PATIENT
        )
        [anchored] = decode_batch([real.top.envelope or b""])
        assert anchored.anchor is not None
        top = await genesis_of(parent)
        for change in ({"proof": b"none"}, {"city": bytes(32)}):
            signed = sign_transaction(
                ALICE,
                genesis=top.id,
                action=anchored.anchor._replace(**change),
                with_public_key=True,
            )
            await parent.submit([signed])
            [event] = (await parent.wait([signed.tx_id])).values()
            assert event.state == State.REJECTED
            [receipt] = (await parent.receipts([signed.tx_id])).values()
            ReceiptVerifier(top).verify(receipt)
            with pytest.raises(InvalidReceipt, match="anchor"):
                verify_levels(LevelReceipt(real.levels, receipt), top)
        verify_levels(real, top)


async def test_a_rejection_is_proven_as_well(city_server: CityServerFactory) -> None:
    async with city_server(CITIES, exchange=SOON) as server:
        async with server.client("lake") as client:
            ids = [await deed(client, writes={"x": 0}) for _ in range(2)]
            receipt = await fetch_level_receipt(
                client, ids[1], "isle", lambda name, _: server.client(name), timeout=PATIENT
            )
        assert receipt.subject.rejection is not None
        assert receipt.subject.rejection.code == "CONFLICT"
        async with server.client("isle") as client:
            verify_levels(receipt, await genesis_of(client))


async def test_without_levels_it_is_the_citys_own_receipt(city_server: CityServerFactory) -> None:
    async with city_server(["lake"]) as server, server.client("lake") as client:
        tx_id = await deed(client)
        receipt = await fetch_level_receipt(
            client, tx_id, "Lake", lambda name, _: server.client(name), timeout=PATIENT
        )
        assert receipt.levels == ()
        verify_levels(receipt, await genesis_of(client))
        with pytest.raises(NotFound, match="earth"):
            await fetch_level_receipt(
                client, tx_id, "earth", lambda name, _: server.client(name), timeout=PATIENT
            )


async def test_an_idle_city_anchors_nothing_and_a_busy_one_no_more_than_it_may(
    city_server: CityServerFactory,
) -> None:
    cities = {"isle": plain(), "lake": plain(parent="isle")}
    async with (
        city_server(cities, exchange={"anchor_seconds": 0.2}) as server,
        server.client("lake") as client,
        server.client("isle") as parent,
    ):
        await deed(client)
        async with asyncio.timeout(120):
            while (anchor := await client.anchor()) is None:
                await asyncio.sleep(0.01)
        assert anchor.parent == (await parent.info()).genesis
        assert anchor.name == "isle"
        # A peer and an anchor; nothing follows while nothing changes.
        quiet = (await parent.info()).head.size
        assert quiet == 2
        await asyncio.sleep(0.6)
        assert (await parent.info()).head.size == quiet
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(20):
            await deed(client, b"%d" % number)
        most = 2 + (loop.time() - began) / 0.2
        assert (await parent.info()).head.size - quiet <= most


async def test_a_parent_on_another_server(city_server: CityServerFactory, tmp_path: Path) -> None:
    isle = await founded(city_server, tmp_path / "isle", "isle", plain())
    lake = await founded(city_server, tmp_path / "lake", "lake", plain(parent="isle"))
    address = free_address()
    async with (
        city_server(
            {"isle": plain()},
            directory=tmp_path / "isle",
            peers={"lake": {"genesis": lake}},
            server={"listen": address},
        ) as country,
        city_server(
            {"lake": plain(parent="isle")},
            directory=tmp_path / "lake",
            peers={"isle": {"genesis": isle, "endpoints": [address]}},
            exchange=SOON,
        ) as server,
        server.client("lake") as client,
        country.client("isle") as parent,
    ):
        tx_id = await deed(client)

        def above(name: str, endpoints: Sequence[str]) -> CityClient:
            assert endpoints == (address,)
            return CityClient(name, ChannelFactory(endpoints))

        receipt = await fetch_level_receipt(client, tx_id, "isle", above, timeout=PATIENT)
        verify_levels(receipt, Genesis.from_bytes(isle.read_bytes()))
        assert (await parent.info()).genesis == receipt.top.genesis


@pytest.mark.parametrize("apart", [False, True])
async def test_an_anchor_that_somebody_else_brought_is_a_link_as_well(
    city_server: CityServerFactory, tmp_path: Path, apart: bool
) -> None:
    """Before the city itself did, which anchors nothing twice."""
    tables = {
        "isle": plain(storage="sqlite"),
        "lake": plain(storage="sqlite", parent="isle"),
    }
    isle = await founded(city_server, tmp_path / "isle", "isle", tables["isle"])
    at = tmp_path / ("lake" if apart else "isle")
    lake = await founded(city_server, at, "lake", tables["lake"])
    address = free_address()
    where: Sequence[str] = (address,) if apart else ()

    @asynccontextmanager
    async def served(seconds: float) -> AsyncIterator[tuple[CityClient, CityClient]]:
        """The city and its parent."""
        async with AsyncExitStack() as stack:
            above = server = await stack.enter_async_context(
                city_server(
                    {"isle": tables["isle"]} if apart else tables,
                    directory=tmp_path / "isle",
                    peers={"lake": {"genesis": lake}},
                    server={"listen": address},
                    exchange={"anchor_seconds": seconds},
                )
            )
            if apart:
                server = await stack.enter_async_context(
                    city_server(
                        {"lake": tables["lake"]},
                        directory=at,
                        peers={"isle": {"genesis": isle, "endpoints": [address]}},
                        exchange={"anchor_seconds": seconds},
                    )
                )
            yield (
                await stack.enter_async_context(server.client("lake")),
                await stack.enter_async_context(above.client("isle")),
            )

    async with served(86_400) as (city, parent):
        await pinned(parent, *([city] if apart else []))
        tx_id = await deed(city)
        genesis, top = await genesis_of(city), await genesis_of(parent)
        [stored] = await city.rounds((await city.info()).head.certified_round, 1)
        assert stored.certificate is not None
        proof = encode_certified(genesis.id, stored.certificate, ())
        action = Anchor(genesis.id, stored.checkpoint, proof)
        brought = sign_transaction(ALICE, genesis=top.id, action=action, with_public_key=True)
        await parent.submit([brought])
        [event] = (await parent.wait([brought.tx_id])).values()
        assert event.state == State.APPROVED
        await deed(parent)
    async with served(0.05) as (city, parent):

        def above(name: str, endpoints: Sequence[str]) -> CityClient:
            assert endpoints == where
            return CityClient(name, ChannelFactory([address]))

        receipt = await fetch_level_receipt(city, tx_id, "isle", above, timeout=PATIENT)
        verify_levels(receipt, top)
        assert receipt.top.tx_id == brought.tx_id


async def test_the_command_fetches_and_verifies(
    city_server: CityServerFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with city_server(CITIES, exchange=SOON) as server:
        async with server.client("hill") as client:
            tx_id = await deed(client)
        path = tmp_path / "deed.earth.json"
        command = ["receipt", "--city", "hill", tx_id.hex(), "--up-to", "earth"]
        more = ["-o", str(path), "--server", server.address, "--timeout", "60"]
        fetched = await asyncio.to_thread(run_process, *command, *more, cwd=tmp_path)
        assert fetched.code == 0, fetched.err
        for slug in ("earth", "isle"):
            async with server.client(slug) as client:
                (tmp_path / f"{slug}.json").write_bytes((await genesis_of(client)).file)
    genesis = str(tmp_path / "earth.json")
    assert await asyncio.to_thread(run, ["verify", str(path), "--genesis", genesis]) == 0
    assert "APPROVED" in capsys.readouterr().out
    genesis = str(tmp_path / "isle.json")
    assert await asyncio.to_thread(run, ["verify", str(path), "--genesis", genesis]) == 1
