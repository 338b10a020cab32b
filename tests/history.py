"""A city's history in a few lines: checkpoints, certificates and handovers with real keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from citychain import checkpoint
from citychain.crypto import poh
from citychain.crypto.keys import SCHEME_ML_DSA_87, key_id
from citychain.crypto.signatures import TRANSACTION_CONTEXT, SigningKey
from citychain.genesis import Genesis, Representative
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.types import Certificate, Handover, PohEntry, Quorum, Seat, Vote

OPERATOR = 0
"""Number of the operator's key; members are numbered as well."""
NUM_HASHES = 2

Members = Mapping[int, int]
"""Stakes by member."""


@cache
def key(member: int) -> SigningKey:
    return SigningKey(member.to_bytes(32, "big"))


@cache
def member_id(member: int) -> bytes:
    return key_id(key(member).public_key)


def seats_of(members: Members) -> tuple[Seat, ...]:
    return tuple(sorted(Seat(member_id(member), stake) for member, stake in members.items()))


def keys_of(members: Members) -> tuple[bytes, ...]:
    """Public keys in order of the seats."""
    return tuple(key(member).public_key for member in sorted(members, key=member_id))


class Sealed(NamedTuple):
    round: int
    checkpoint: bytes
    hash: bytes


class History:
    """Seals one round after the other; who is in office is for the test to say."""

    def __init__(self, first: Members, quorum: Quorum = "two-thirds", city: str = "kanazawa"):
        self.first = first
        self.genesis = Genesis(
            network="test",
            city=city,
            rule="sealed-rounds/1",
            consensus="poh-pop/1",
            quorum=quorum,
            operator=key(OPERATOR).public_key.hex(),
            num_hashes=NUM_HASHES,
            committee=tuple(
                Representative(public_key=key(member).public_key.hex(), stake=stake)
                for member, stake in sorted(first.items(), key=lambda item: member_id(item[0]))
            ),
        )
        self.rounds: list[Sealed] = []
        self._poh = self.genesis.id

    def hash_of(self, round: int) -> bytes:
        return self.rounds[round - 1].hash if round else self.genesis.id

    def seal(
        self,
        named: Members,
        elects: Members | None = None,
        *,
        round: int | None = None,
        root: bytes = bytes(32),
        size: int = 1,
    ) -> Sealed:
        """The next round, or (a fork) another one in place of a round."""
        number = round or len(self.rounds) + 1
        body = checkpoint.body_bytes(
            genesis=self.genesis.id,
            round=number,
            previous=self.hash_of(number - 1),
            root=root,
            size=size,
            rule=self.genesis.rule,
            record_hash=bytes(32),
            committee=seats_of(named),
            next_committee=None if elects is None else seats_of(elects),
        )
        mixin = checkpoint.mixin(body)
        digest = poh.extend(self._poh, NUM_HASHES, mixin)
        whole = checkpoint.with_poh(body, PohEntry(self._poh, NUM_HASHES, mixin, digest))
        sealed = Sealed(number, whole, checkpoint.checkpoint_hash(whole))
        if round is None:
            self.rounds.append(sealed)
            self._poh = digest
        return sealed

    def certify(self, sealed: Sealed, by: Sequence[int]) -> Certificate:
        message = checkpoint.vote_message(self.genesis.id, sealed.round, sealed.hash)
        return Certificate(
            sealed.round,
            sealed.hash,
            tuple(
                Vote(
                    member_id(member),
                    key(member).sign(message, checkpoint.VOTE_CONTEXT, deterministic=True),
                )
                for member in by
            ),
        )

    def election(self, sealed: Sealed, by: Sequence[int], elects: Members) -> Handover:
        return Handover(keys_of(elects), sealed.checkpoint, self.certify(sealed, by))

    def recovery(
        self,
        from_round: int,
        members: Members,
        *,
        previous: bytes | None = None,
        signer: int = OPERATOR,
        author: int | None = None,
        genesis: bytes | None = None,
        by_value: bool = False,
    ) -> Handover:
        """A recovery by the operator, or one that is wrong in some way."""
        before = self.hash_of(from_round - 1) if previous is None else previous
        body = transaction_pb2.TransactionBody(
            genesis=genesis or self.genesis.id,
            author=member_id(signer if author is None else author),
            nonce=bytes(8),
            created_at_ms=1,
            recovery=transaction_pb2.Recovery(
                from_round=from_round,
                previous=before,
                seats=[
                    transaction_pb2.CommitteeSeat(key_id=seat.key_id, stake=seat.stake)
                    for seat in seats_of(members)
                ],
            ),
        ).SerializeToString()
        return Handover(keys_of(members), recovery=envelope(body, signer, author, by_value))


def envelope(body: bytes, signer: int, author: int | None = None, by_value: bool = False) -> bytes:
    message = transaction_pb2.SignedTransaction(
        body=body,
        scheme=transaction_pb2.Scheme.ValueType(SCHEME_ML_DSA_87),
        signature=key(signer).sign(body, TRANSACTION_CONTEXT, deterministic=True),
    )
    claimed = signer if author is None else author
    if by_value:
        message.public_key = key(claimed).public_key
    else:
        message.key_id = member_id(claimed)
    return message.SerializeToString()
