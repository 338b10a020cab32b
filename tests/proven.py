"""A city of three committees, with a receipt for each of its rounds."""

from __future__ import annotations

from history import History, Members, Sealed, key

from citychain.client.transactions import sign_transaction
from citychain.crypto import merkle
from citychain.node import log_leaf, node_id
from citychain.receipt import Receipt
from citychain.types import Handover

FIRST: Members = {1: 1, 2: 1, 3: 1}
SECOND: Members = {3: 1, 4: 1}
THIRD: Members = {5: 1}
AUTHOR = key(99)


class Proven:
    """Rounds 1 and 2 are the first committee's, which elects the second; from round 4 on the
    operator replaced that by the third."""

    def __init__(self) -> None:
        self.history = History(FIRST)
        self.signed = sign_transaction(AUTHOR, genesis=self.history.genesis.id, data=b"deed")
        rounds = [
            (self.seal(FIRST), [1, 2]),
            (elects := self.seal(FIRST, SECOND), [2, 3]),
            (self.seal(SECOND), [3, 4]),
            (self.seal(SECOND), [5]),  # Round 4, recovered.
            (self.seal(THIRD), [5]),
        ]
        self.handovers = (
            self.history.election(elects, [1, 2, 3], SECOND),
            self.history.recovery(4, THIRD),
        )
        self.receipts = [
            self.receipt(sealed, voters, self.handovers[: max(0, min(2, sealed.round - 2))])
            for sealed, voters in rounds
        ]

    def node_id(self, round: int) -> bytes:
        return node_id(
            rule=self.history.genesis.rule,
            genesis=self.history.genesis.id,
            round=round,
            seq=0,
            tx_id=self.signed.tx_id,
            parents=(self.history.genesis.id,),
        )

    def seal(
        self, named: Members, elects: Members | None = None, round: int | None = None
    ) -> Sealed:
        number = round or len(self.history.rounds) + 1
        leaf = log_leaf(
            round=number,
            seq=0,
            tx_id=self.signed.tx_id,
            node_id=self.node_id(number),
            rejection=None,
        )
        return self.history.seal(named, elects, round=round, root=merkle.hash_leaf(leaf))

    def receipt(
        self, sealed: Sealed, voters: list[int], handovers: tuple[Handover, ...]
    ) -> Receipt:
        return Receipt(
            genesis=self.history.genesis.id,
            tx_id=self.signed.tx_id,
            envelope=self.signed.envelope,
            public_key=AUTHOR.public_key,
            round=sealed.round,
            seq=0,
            node_id=self.node_id(sealed.round),
            parents=(self.history.genesis.id,),
            rejection=None,
            pop=None,
            leaf_index=0,
            inclusion=(),
            checkpoint=sealed.checkpoint,
            certificate=self.history.certify(sealed, voters),
            handovers=handovers,
        )
