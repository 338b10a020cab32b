"""An application's whole way against a real server: sign, submit, wait, read, prove."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citychain.client import (
    CityClient,
    Refused,
    SignedTransaction,
    Transfer,
    load_receipt,
    save_receipt,
    sign_batch,
    sign_transaction,
    transaction_body,
    verify_receipt,
)
from citychain.crypto import merkle
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, InvalidReceipt, NotFound
from citychain.genesis import Genesis, balance_object
from citychain.handler import Received
from citychain.receipt import Receipt
from citychain.testing.server import CityServerFactory
from citychain.types import State

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
ALICE_ID, BOB_ID = key_id(ALICE.public_key), key_id(BOB.public_key)


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[CityClient]:
    balances = {"coin": {ALICE_ID.hex(): 100}}
    async with (
        CityServerFactory(tmp_path)({"tokyo": {"balances": balances}}) as server,
        server.client("tokyo") as client,
    ):
        yield client


async def approved(city: CityClient, *transactions: SignedTransaction) -> None:
    assert all(isinstance(result, Received) for result in await city.submit(transactions))
    events = await city.wait([transaction.tx_id for transaction in transactions])
    assert {event.state for event in events.values()} == {State.APPROVED}


async def test_a_key_by_id_is_learned_without_the_callers_help(city: CityClient) -> None:
    genesis = (await city.info()).genesis
    bodies = [transaction_body(ALICE_ID, genesis=genesis, data=b"%d" % n) for n in range(600)]
    signed = await sign_batch(ALICE, bodies)
    results = await city.submit(signed)
    assert results == [Received(item.tx_id, State.RECEIVED, False) for item in signed]
    again = await city.submit(signed[:2])
    assert [(item.tx_id, item.duplicate) for item in again] == [
        (item.tx_id, True) for item in signed[:2]
    ]
    events = await city.wait([item.tx_id for item in signed])
    assert {event.state for event in events.values()} == {State.APPROVED}


async def test_what_is_refused_says_why(city: CityClient) -> None:
    genesis = (await city.info()).genesis
    good = sign_transaction(ALICE, genesis=genesis, data=b"x")
    other = sign_transaction(ALICE, genesis=bytes(32), data=b"x", with_public_key=True)
    broken = replace(good, envelope=good.with_public_key()[:-1] + b"\0")
    results = await city.submit([good, other, b"nonsense", broken])
    assert isinstance(results[0], Received)
    codes = [result.code for result in results[1:] if isinstance(result, Refused)]
    assert codes == ["WRONG_GENESIS", "MALFORMED", "BAD_SIGNATURE"]


async def test_an_amount_moves_and_is_seen(city: CityClient) -> None:
    genesis = (await city.info()).genesis
    await approved(
        city, sign_transaction(ALICE, genesis=genesis, transfer=Transfer("coin", BOB_ID, 30))
    )
    objects = [balance_object("coin", key) for key in (ALICE_ID, BOB_ID)]
    states = await city.objects(objects)
    assert [int.from_bytes(states[name].value, "big") for name in objects] == [70, 30]


async def test_the_graph_and_the_log_are_read_back(city: CityClient) -> None:
    genesis = (await city.info()).genesis
    first = sign_transaction(ALICE, genesis=genesis, data=b"first")
    await approved(city, first)
    second = sign_transaction(BOB, genesis=genesis, data=b"second", depends_on=[first.tx_id])
    await approved(city, second)

    status = await city.status([first.tx_id, second.tx_id, bytes(32)])
    assert status.keys() == {first.tx_id, second.tx_id}
    node = status[second.tx_id].node
    assert node is not None
    assert node.node_id is not None
    assert node.author == BOB_ID
    assert status[second.tx_id].envelope == second.envelope

    [parent] = await city.parents(node.node_id)
    assert parent.node.tx_id == first.tx_id
    assert parent.node.node_id is not None
    assert [c.node.tx_id async for c in city.children(parent.node.node_id)] == [second.tx_id]
    assert [c.node.tx_id async for c in city.children(genesis)][:1] == [first.tx_id]
    linked = await city.node(node.node_id)
    assert (linked.node, linked.time_ms) == (node, status[second.tx_id].time_ms)
    assert linked.poh == status[second.tx_id].poh

    rounds = await city.rounds()
    assert [stored.round for stored in rounds] == list(range(1, len(rounds) + 1))
    assert all(stored.certificate for stored in rounds)
    latest = await city.checkpoint()
    assert latest == replace(rounds[-1], record=b"")

    inclusion = await city.inclusion_proof(0)
    merkle.verify_inclusion(inclusion.leaf_hash, 0, inclusion.size, inclusion.proof, inclusion.root)
    old, new, proof = await city.consistency_proof(rounds[0].size, latest.size)
    assert new == inclusion.root
    merkle.verify_consistency(rounds[0].size, latest.size, proof, old, new)


async def test_a_watcher_of_one_author_sees_what_comes(city: CityClient) -> None:
    genesis = (await city.info()).genesis
    async with aclosing(city.watch(author=BOB_ID)) as batches:
        next_events = asyncio.create_task(_first_events(batches))
        await approved(city, sign_transaction(ALICE, genesis=genesis, data=b"not this"))
        wanted = sign_transaction(BOB, genesis=genesis, data=b"this")
        await approved(city, wanted)
        [event] = await asyncio.wait_for(next_events, 120)
    assert (event.tx_id, event.state) == (wanted.tx_id, State.APPROVED)


async def _first_events(batches: Any) -> Any:
    async for batch in batches:
        if batch.events:
            return batch.events
    raise AssertionError


async def test_an_unknown_city_is_told_with_its_neighbours(tmp_path: Path) -> None:
    async with (
        CityServerFactory(tmp_path)(["tokyo"], plugins={"allow": ()}) as server,
        server.client("tokio") as client,
    ):
        with pytest.raises(NotFound, match="did you mean tokyo"):
            await client.info()


# --- receipts


@pytest.fixture
async def proofs(city: CityClient) -> tuple[Receipt, Receipt, bytes]:
    """Receipts of an approved and of a rejected transaction, and the genesis file."""
    info = await city.info()
    first, second = (
        sign_transaction(ALICE, genesis=info.genesis, data=b"%d" % n, writes={"door": 0})
        for n in range(2)
    )
    await city.submit([first, second])
    events = await city.wait([first.tx_id, second.tx_id])
    assert events[second.tx_id].code == "CONFLICT"
    receipts = await city.receipts([first.tx_id, bytes(32), second.tx_id])
    assert list(receipts) == [first.tx_id, second.tx_id]
    return receipts[first.tx_id], receipts[second.tx_id], info.genesis_file


async def test_receipts_are_verified_without_a_server(
    proofs: tuple[Receipt, Receipt, bytes], tmp_path: Path
) -> None:
    *receipts, genesis_file = proofs
    genesis_path = tmp_path / "genesis.json"
    genesis_path.write_bytes(genesis_file)
    for number, receipt in enumerate(receipts):
        path = tmp_path / f"{number}.json"
        save_receipt(path, receipt)
        assert load_receipt(path) == receipt
        for genesis in (genesis_file, genesis_path, str(genesis_path)):
            verify_receipt(path, genesis)
        verify_receipt(receipt, Genesis.from_bytes(genesis_file))
    assert receipts[1].rejection is not None
    assert receipts[1].rejection.code == "CONFLICT"
    for wrong, detail in ((path, "is no genesis file: "), (tmp_path / "no", "cannot be read: ")):
        with pytest.raises(ConfigurationError, match=f"{wrong}: {detail}"):
            verify_receipt(path, wrong)


async def test_a_receipt_that_was_touched_does_not_verify(
    proofs: tuple[Receipt, Receipt, bytes],
) -> None:
    good, rejected, genesis_file = proofs
    assert rejected.rejection is not None
    other = Genesis.from_bytes(genesis_file).model_copy(update={"network": "elsewhere"})
    with pytest.raises(InvalidReceipt, match="genesis"):
        verify_receipt(good, other.to_bytes())
    for changed, check in (
        (replace(good, tx_id=bytes(32)), "tx_id"),
        (replace(good, public_key=BOB.public_key), "key"),
        (replace(good, envelope=rejected.envelope), "tx_id"),
        (replace(good, seq=good.seq + 1), "node"),
        (replace(good, leaf_index=good.leaf_index + 1), "inclusion"),
        (replace(good, checkpoint=flipped(good.checkpoint)), "checkpoint"),
        (replace(good, certificate=replace(good.certificate, votes=())), "quorum"),
        (replace(rejected, rejection=replace_code(rejected, "EXPIRED")), "inclusion"),
        (replace(rejected, rejection=None), "form"),
    ):
        with pytest.raises(InvalidReceipt) as caught:
            verify_receipt(changed, genesis_file)
        assert caught.value.check == check


def flipped(data: bytes) -> bytes:
    """Other than it was, whatever its last byte is."""
    return data[:-1] + bytes((data[-1] ^ 1,))


def replace_code(receipt: Receipt, code: str) -> Any:
    assert receipt.rejection is not None
    return receipt.rejection._replace(code=code)


async def test_a_receipt_file_is_replaced_whole(
    proofs: tuple[Receipt, Receipt, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "receipt.json"
    save_receipt(path, proofs[0])
    save_receipt(path, proofs[1])
    assert load_receipt(path) == proofs[1]
    with pytest.raises(FileNotFoundError):
        save_receipt(tmp_path / "nowhere" / "receipt.json", proofs[0])
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    "other",
    [
        lambda text: text.replace('"round": "', '"round": ').replace(
            '",\n "leafIndex', ',\n "leafIndex'
        ),
        lambda text: text.replace('"txId"', '"tx_id"', 1),
        lambda text: text.replace("{", '{"seq": 0,', 1),
        lambda text: text.replace("{", '{"handovers": [],', 1),
        lambda text: text.replace("{", '{"node": null,', 1),
        lambda text: text.replace('"SCHEME_ML_DSA_87"', "1"),
        lambda text: text.replace("=", "", 1),
        lambda text: text.replace("+", "-").replace("/", "_"),
    ],
    ids=["number", "name", "default", "empty", "null", "enum", "padding", "alphabet"],
)
async def test_a_receipt_file_is_written_in_one_way(
    other: Any, proofs: tuple[Receipt, Receipt, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "receipt.json"
    save_receipt(path, proofs[1])
    text = path.read_text()
    path.write_text(other(text))
    assert path.read_text() != text
    with pytest.raises(InvalidReceipt) as caught:
        load_receipt(path)
    assert caught.value.check == "form"
    # White space and the order of members are free.
    path.write_text(json.dumps(json.loads(text), sort_keys=True))
    assert load_receipt(path) == proofs[1]


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"genesis": 5}', b'{"more": 1}', b"{}"])
def test_any_other_file_is_no_receipt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(content)
    with pytest.raises(InvalidReceipt) as caught:
        load_receipt(path)
    assert caught.value.check == "form"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json: cannot be read"):
        load_receipt(tmp_path / "none.json")
