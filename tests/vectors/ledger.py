"""A small city, sealed by hand: whatever a proof can be made of, or spoilt in.

Everything follows from names: keys from the name of their owner, signatures are
deterministic, times are fixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from citychain import checkpoint as checkpoints
from citychain import node, record
from citychain.crypto import merkle, poh
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis, Representative
from citychain.rpc._generated.citychain.v1 import ledger_pb2, transaction_pb2
from citychain.types import PohEntry, Quorum, Rejection, Seat

TRANSACTION_CONTEXT = b"citychain/tx/v1"
TIME_MS = 1_900_000_000_000


@cache
def key(owner: str) -> SigningKey:
    """Somebody's key."""
    return SigningKey(hashlib.sha256(b"citychain vectors: " + owner.encode()).digest())


@cache
def id_of(owner: str) -> bytes:
    """Id of somebody's key."""
    return key_id(key(owner).public_key)


def sign(owner: str, message: bytes, context: bytes) -> bytes:
    return key(owner).sign(message, context, deterministic=True)


def seats(stakes: Mapping[str, int]) -> tuple[Seat, ...]:
    """Seats of a committee by owner, in order of key id as elections give them."""
    return tuple(sorted(Seat(id_of(owner), stake) for owner, stake in stakes.items()))


def public_keys(stakes: Mapping[str, int]) -> list[bytes]:
    """Public keys in order of `seats`."""
    return [key(owner).public_key for owner in sorted(stakes, key=id_of)]


def body(author: str, genesis: bytes, number: int = 1, **fields: Any) -> bytes:
    """A transaction's body, with some data unless another action is given."""
    message = transaction_pb2.TransactionBody(
        genesis=genesis,
        author=id_of(author),
        nonce=number.to_bytes(8, "big"),
        created_at_ms=TIME_MS,
    )
    if not fields:
        fields = {"data": transaction_pb2.Data(content_type="text/plain", content=b"hello")}
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        elif isinstance(value, int):
            setattr(message, name, value)
        else:
            getattr(message, name).CopyFrom(value)
    return message.SerializeToString(deterministic=True)


def envelope(author: str, content: bytes) -> transaction_pb2.SignedTransaction:
    """A signed transaction in its stored form."""
    return transaction_pb2.SignedTransaction(
        body=content,
        scheme=transaction_pb2.SCHEME_ML_DSA_87,
        key_id=id_of(author),
        signature=sign(author, content, TRANSACTION_CONTEXT),
    )


def tx_id(content: bytes) -> bytes:
    return hashlib.sha256(b"citychain/tx/v1\0" + content).digest()


def digest(name: str) -> bytes:
    """Some 32 bytes."""
    return hashlib.sha256(name.encode()).digest()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@dataclass(frozen=True)
class Sealed:
    """A transaction and what became of it: ``fate`` is its parents or why it was rejected."""

    author: str
    body: bytes
    fate: Sequence[bytes] | Rejection
    pop: bytes | None = None

    @property
    def tx_id(self) -> bytes:
        return tx_id(self.body)


@dataclass(frozen=True)
class Round:
    """A round with what is needed to prove a place in it."""

    number: int
    sealed: Sequence[Sealed]
    node_ids: Sequence[bytes | None]
    first_index: int
    proofs: Sequence[Sequence[bytes]]
    fields: Mapping[str, Any]
    """Of the checkpoint, without its entry."""
    poh: PohEntry
    checkpoint: bytes
    certificate: ledger_pb2.Certificate

    @property
    def hash(self) -> bytes:
        return checkpoints.checkpoint_hash(self.checkpoint)


class Ledger:
    """One city; `seal` appends a round."""

    def __init__(
        self, city: str, committee: Mapping[str, int], quorum: Quorum = "two-thirds"
    ) -> None:
        self.genesis = Genesis(
            network="vectors",
            city=city,
            rule="sealed-rounds/1",
            consensus="poh-pop/1",
            quorum=quorum,
            operator=key("operator").public_key.hex(),
            num_hashes=3,
            committee=tuple(
                Representative(public_key=key(owner).public_key.hex(), stake=committee[owner])
                for owner in committee
            ),
        )
        self.rounds: list[Round] = []
        self._tree = merkle.Tree()

    def seal(
        self,
        *sealed: Sealed,
        voters: Sequence[str],
        committee: Mapping[str, int] | None = None,
        elects: Mapping[str, int] | None = None,
    ) -> Round:
        """Append a round and certify it; ``committee`` is the one that it names."""
        number = len(self.rounds) + 1
        genesis, rule = self.genesis.id, self.genesis.rule
        node_ids = [
            None
            if isinstance(item.fate, Rejection)
            else node.node_id(
                rule=rule,
                genesis=genesis,
                round=number,
                seq=seq,
                tx_id=item.tx_id,
                parents=item.fate,
                pop=item.pop,
            )
            for seq, item in enumerate(sealed)
        ]
        verdicts = [item.fate if isinstance(item.fate, Rejection) else None for item in sealed]
        leaves = merkle.leaf_hashes(
            [
                node.log_leaf(
                    round=number, seq=seq, tx_id=item.tx_id, node_id=one, rejection=verdict
                )
                for seq, (item, one, verdict) in enumerate(
                    zip(sealed, node_ids, verdicts, strict=True)
                )
            ]
        )
        first_index, peaks = self._tree.size, self._tree.peaks
        self._tree.append(leaves)
        written = record.body_bytes(
            genesis=genesis,
            round=number,
            time_ms=TIME_MS + 1_000 * number,
            epoch=1,
            tx_ids=[item.tx_id for item in sealed],
            verdicts=verdicts,
            held=(),
            held_places=(),
            writes=(),
        )
        last = self.rounds[-1] if self.rounds else None
        fields = {
            "genesis": genesis,
            "round": number,
            "previous": last.hash if last else genesis,
            "root": self._tree.root(),
            "size": self._tree.size,
            "rule": rule,
            "record_hash": record.record_hash(written),
            "committee": seats(committee) if committee else self.genesis.seats,
            "next_committee": seats(elects) if elects else None,
        }
        checkpoint, entry = self.complete(fields, last.poh.hash if last else genesis)
        made = Round(
            number=number,
            sealed=sealed,
            node_ids=node_ids,
            first_index=first_index,
            proofs=merkle.round_inclusions(
                peaks, first_index, leaves, range(first_index, self._tree.size)
            ),
            fields=fields,
            poh=entry,
            checkpoint=checkpoint,
            certificate=self.certificate(checkpoint, number, voters),
        )
        self.rounds.append(made)
        return made

    def complete(self, fields: Mapping[str, Any], prev: bytes) -> tuple[bytes, PohEntry]:
        """A checkpoint with its proof-of-history entry."""
        written = checkpoints.body_bytes(**fields)
        mixin = checkpoints.mixin(written)
        hashes = self.genesis.num_hashes
        entry = PohEntry(prev, hashes, mixin, poh.extend(prev, hashes, mixin))
        return checkpoints.with_poh(written, entry), entry

    def certificate(
        self, checkpoint: bytes, number: int, voters: Sequence[str]
    ) -> ledger_pb2.Certificate:
        """These voters' votes for a checkpoint."""
        digest = checkpoints.checkpoint_hash(checkpoint)
        message = checkpoints.vote_message(self.genesis.id, number, digest)
        return ledger_pb2.Certificate(
            round=number,
            checkpoint_hash=digest,
            votes=[
                ledger_pb2.Vote(
                    key_id=id_of(voter), signature=sign(voter, message, checkpoints.VOTE_CONTEXT)
                )
                for voter in voters
            ],
        )

    def receipt(
        self, number: int, seq: int, handovers: Sequence[ledger_pb2.Handover] = ()
    ) -> ledger_pb2.Receipt:
        """The receipt of one transaction."""
        made = self.rounds[number - 1]
        item = made.sealed[seq]
        receipt = ledger_pb2.Receipt(
            genesis=self.genesis.id,
            tx_id=item.tx_id,
            transaction=envelope(item.author, item.body),
            public_key=key(item.author).public_key,
            round=number,
            seq=seq,
            leaf_index=made.first_index + seq,
            inclusion=made.proofs[seq],
            checkpoint=made.checkpoint,
            certificate=made.certificate,
            handovers=handovers,
        )
        if isinstance(item.fate, Rejection):
            receipt.rejection.code, receipt.rejection.reason = item.fate
        else:
            receipt.node.node_id = made.node_ids[seq] or b""
            receipt.node.tx_id = item.tx_id
            receipt.node.round, receipt.node.seq = number, seq
            receipt.node.pop = item.pop or b""
            for parent in item.fate:
                receipt.node.parents.add(node_id=parent)
        return receipt

    def election(self, number: int, elected: Mapping[str, int]) -> ledger_pb2.Handover:
        """The handover by a round that names the next committee."""
        made = self.rounds[number - 1]
        return ledger_pb2.Handover(
            checkpoint=made.checkpoint,
            certificate=made.certificate,
            public_keys=public_keys(elected),
        )

    def recovery(
        self,
        from_round: int,
        committee: Mapping[str, int],
        *,
        previous: bytes | None = None,
        operator: str = "operator",
        genesis: bytes | None = None,
    ) -> ledger_pb2.Handover:
        """The handover by which the operator replaces a committee."""
        before = self.rounds[from_round - 2].hash if from_round > 1 else self.genesis.id
        action = transaction_pb2.Recovery(
            from_round=from_round,
            previous=previous or before,
            seats=[
                transaction_pb2.CommitteeSeat(key_id=seat.key_id, stake=seat.stake)
                for seat in seats(committee)
            ],
        )
        content = body(operator, genesis or self.genesis.id, recovery=action)
        return ledger_pb2.Handover(
            recovery=envelope(operator, content), public_keys=public_keys(committee)
        )
