"""A receipt proves all that it says, and nothing else verifies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import Settings
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidReceipt
from citychain.genesis import Genesis
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Rejection, State, Vote

KEY = SigningKey(bytes(32))


@pytest.fixture
async def proven(tmp_path: Path) -> AsyncIterator[tuple[Genesis, Receipt, Receipt, Receipt]]:
    """A genesis and the receipts of an approved, a rejected and a later transaction."""
    create_key(tmp_path / "operator.key")
    settings = Settings(
        data_dir=tmp_path / "data",
        operator_key=tmp_path / "operator.key",
        pacer={"min_seconds": 0.01, "max_seconds": 0.02},
        cities={"tokyo": {"storage": "memory", "num_hashes": 3}},
        plugins={"allow": ()},
    )
    async with open_directory(CoreContainer(settings=settings)) as directory:
        city = await directory.handler("tokyo")

        async def final(**fields: Any) -> Receipt:
            signed = sign_transaction(
                KEY, genesis=city.genesis.id, data=b"x", with_public_key=True, **fields
            )
            await city.submit([signed.envelope])
            async with asyncio.timeout(120):
                async for _ in city.watch_transactions([signed.tx_id], State.APPROVED):
                    pass
            return (await city.receipts([signed.tx_id]))[signed.tx_id]

        approved = await final(writes={"a": 0})
        rejected = await final(writes={"a": 0})
        later = await final()
        yield city.genesis, approved, rejected, later


def _other_vote(receipt: Receipt) -> Receipt:
    [vote] = receipt.certificate.votes
    signature = bytearray(vote.signature)
    signature[0] ^= 1
    votes = (Vote(vote.key_id, bytes(signature)),)
    return replace(receipt, certificate=replace(receipt.certificate, votes=votes))


FORGED: dict[str, tuple[str, Callable[[Receipt, Receipt], Receipt]]] = {
    "another city": ("genesis", lambda r, _: replace(r, genesis=bytes(32))),
    "another id": ("tx_id", lambda r, _: replace(r, tx_id=bytes(32))),
    "a short id": ("form", lambda r, _: replace(r, tx_id=b"x")),
    "another envelope": ("tx_id", lambda r, other: replace(r, envelope=other.envelope)),
    "an envelope without its key": ("form", lambda r, _: replace(r, public_key=None)),
    "a key without its envelope": ("form", lambda r, _: replace(r, envelope=None)),
    "garbage for an envelope": ("tx_id", lambda r, _: replace(r, envelope=b"junk")),
    "another key": ("key", lambda r, _: replace(r, public_key=bytes(2592))),
    "another seq": ("inclusion", lambda r, _: replace(r, seq=r.seq + 1)),
    "a seq that is none": ("form", lambda r, _: replace(r, seq=1 << 32)),
    "another leaf": ("inclusion", lambda r, _: replace(r, leaf_index=r.leaf_index + 1)),
    "a later checkpoint": (
        "inclusion",
        lambda r, other: replace(
            r,
            round=other.round,
            checkpoint=other.checkpoint,
            certificate=other.certificate,
            inclusion=other.inclusion,
        ),
    ),
    "another checkpoint": ("checkpoint", lambda r, other: replace(r, checkpoint=other.checkpoint)),
    "an altered vote": ("quorum", lambda r, _: _other_vote(r)),
    "no vote": (
        "quorum",
        lambda r, _: replace(r, certificate=replace(r.certificate, votes=())),
    ),
    "the same vote twice": (
        "quorum",
        lambda r, _: replace(r, certificate=replace(r.certificate, votes=r.certificate.votes * 2)),
    ),
    "neither node nor rejection": ("form", lambda r, _: replace(r, node_id=None, rejection=None)),
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("kind", ["approved", "rejected"])
async def test_a_forged_receipt_fails_by_the_check_that_is_for_it(
    forged: str, kind: str, proven: tuple[Genesis, Receipt, Receipt, Receipt]
) -> None:
    genesis, approved, rejected, later = proven
    check, forge = FORGED[forged]
    receipt = approved if kind == "approved" else rejected
    verifier = ReceiptVerifier(genesis)
    verifier.verify(receipt)
    verifier.verify(later)
    bad = forge(receipt, later)
    if check == "inclusion" and kind == "approved" and forged != "another leaf":
        check = "node"  # The node's id contains its place.
    for asked in (verifier, ReceiptVerifier(genesis)):
        with pytest.raises(InvalidReceipt) as refused:
            asked.verify(bad)
        assert refused.value.check == check


@pytest.mark.parametrize(
    "forge",
    [
        lambda r: replace(r, rejection=Rejection("RULE", r.rejection.reason)),
        lambda r: replace(r, rejection=Rejection(r.rejection.code, "because")),
        lambda r: replace(r, rejection=Rejection("", r.rejection.reason)),
        lambda r: replace(r, rejection=Rejection("É" * 32, r.rejection.reason)),
        lambda r: replace(r, round=r.round + 1),
    ],
    ids=["code", "reason", "no code", "letters", "round"],
)
async def test_a_rejection_is_bound_in_code_reason_and_place(
    forge: Any, proven: tuple[Genesis, Receipt, Receipt, Receipt]
) -> None:
    genesis, _, rejected, _ = proven
    with pytest.raises(InvalidReceipt):
        ReceiptVerifier(genesis).verify(forge(rejected))


async def test_a_rejection_cannot_carry_parents_nor_a_node_a_judgement_that_was_not(
    proven: tuple[Genesis, Receipt, Receipt, Receipt],
) -> None:
    genesis, approved, rejected, _ = proven
    verifier = ReceiptVerifier(genesis)
    with pytest.raises(InvalidReceipt, match="form"):
        verifier.verify(replace(rejected, parents=(bytes(32),)))
    with pytest.raises(InvalidReceipt, match="node"):
        verifier.verify(replace(approved, pop=bytes(32)))
    # The last parent's id given as the judgement: the same bytes would be hashed.
    with pytest.raises(InvalidReceipt, match=r"node|form"):
        verifier.verify(replace(approved, parents=approved.parents[:-1], pop=approved.parents[-1]))


async def test_every_altered_byte_of_the_checkpoint_is_noticed(
    proven: tuple[Genesis, Receipt, Receipt, Receipt],
) -> None:
    genesis, approved, _, _ = proven
    verifier = ReceiptVerifier(genesis)
    for at in range(len(approved.checkpoint)):
        altered = bytearray(approved.checkpoint)
        altered[at] ^= 1
        with pytest.raises(InvalidReceipt):
            verifier.verify(replace(approved, checkpoint=bytes(altered)))


async def test_the_content_may_be_gone_and_the_proof_still_holds(
    proven: tuple[Genesis, Receipt, Receipt, Receipt],
) -> None:
    genesis, approved, _, _ = proven
    ReceiptVerifier(genesis).verify(replace(approved, envelope=None, public_key=None))
