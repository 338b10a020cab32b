"""What proofs between cities take is as the documentation tells."""

from __future__ import annotations

import hashlib
from pathlib import Path

from history import History, Members
from proven import AUTHOR

from citychain._native.transactions import decode_batch
from citychain.client.actions import Action
from citychain.client.transactions import sign_transaction
from citychain.committee import first_term
from citychain.crypto import merkle
from citychain.exchange.proof import encode_certified, encode_receipt, handover_bytes
from citychain.node import log_leaf, node_id
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.types import Anchor, Delivery, Remittance, Settlement

PAGE = Path(__file__).parents[2] / "docs" / "exchange.md"
LEAVES = 20
"""Inclusion hashes: of a log of a million."""


def quorum_of(seats: int) -> int:
    return -(-2 * seats // 3)


class Measured:
    """Two cities of so many seats, of which a quorum signs."""

    def __init__(self, seats: int) -> None:
        self.members: Members = dict.fromkeys(range(1, seats + 1), 1)
        self.voters = list(range(1, quorum_of(seats) + 1))
        self.source, self.target = History(self.members), History(self.members, city="lake")
        remittance = Remittance("coin", self.target.genesis.id, bytes(32), 1)
        sent = self.proven(self.source, remittance)
        delivery = Delivery(
            self.source.genesis.id, bytes(32), "coin", bytes(32), 1, encode_receipt(sent)
        )
        self.delivery = len(self.body(self.target, delivery))
        receipt = self.proven(self.target, delivery)
        settlement = Settlement(
            bytes(32), bytes(32), bytes(32), "coin", 1, False, encode_receipt(receipt)
        )
        self.settlement = len(self.body(self.source, settlement))
        sealed = self.source.seal(self.members, self.members)
        handover = self.source.election(sealed, self.voters, self.members)
        self.change = handover_bytes(handover)
        first = self.source.seal(self.members)
        proof = encode_certified(
            first_term(self.source.genesis).link,
            self.source.certify(first, self.voters),
            [handover],
        )
        anchor = Anchor(self.source.genesis.id, first.checkpoint, proof)
        self.anchor = len(self.body(self.target, anchor))

    def body(self, city: History, action: Action) -> bytes:
        """As it is counted: without the signature."""
        signed = sign_transaction(AUTHOR, genesis=city.genesis.id, action=action)
        [transaction] = decode_batch([signed.envelope])
        return transaction.body

    def proven(self, city: History, action: Action) -> Receipt:
        """The receipt of the only transaction of a city's first round."""
        signed = sign_transaction(AUTHOR, genesis=city.genesis.id, action=action)
        node = node_id(
            rule=city.genesis.rule,
            genesis=city.genesis.id,
            round=1,
            seq=0,
            tx_id=signed.tx_id,
            parents=[city.genesis.id],
        )
        leaf = log_leaf(round=1, seq=0, tx_id=signed.tx_id, node_id=node, rejection=None)
        root, inclusion = merkle.hash_leaf(leaf), []
        for level in range(LEAVES):
            inclusion.append(bytes([level]) * 32)
            root = hashlib.sha256(b"\1" + root + inclusion[-1]).digest()
        sealed = city.seal(self.members, root=root, size=1 << LEAVES)
        receipt = Receipt(
            genesis=city.genesis.id,
            tx_id=signed.tx_id,
            envelope=signed.envelope,
            public_key=AUTHOR.public_key,
            round=1,
            seq=0,
            node_id=node,
            parents=(city.genesis.id,),
            rejection=None,
            pop=None,
            leaf_index=0,
            inclusion=tuple(inclusion),
            checkpoint=sealed.checkpoint,
            certificate=city.certify(sealed, self.voters),
        )
        ReceiptVerifier(city.genesis).verify(receipt)
        return receipt


def test_the_documentation_tells_what_proofs_take() -> None:
    rows = []
    for seats, name in ((1, "one key"), (3, "three seats"), (7, "seven"), (21, "twenty-one")):
        it = Measured(seats)
        kb = [
            f"{-(-size // 1_000)} KB" for size in (it.delivery, it.settlement, it.change, it.anchor)
        ]
        rows.append(f"| {name}, {quorum_of(seats)} signing | {' | '.join(kb)} |")
    told = PAGE.read_text()
    assert [row for row in rows if row not in told] == []
