"""A city of a few representatives, without a pipeline: rounds are sealed by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from citychain import checkpoint
from citychain._native.transactions import tx_id as native_tx_id
from citychain.consensus.votes import VoteBox
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey, verify
from citychain.genesis import Genesis, Representative
from citychain.ports import CityContext, CityStorage, StoredRound
from citychain.rpc._generated.citychain.v1 import transaction_pb2
from citychain.storage.memory import MemoryCity
from citychain.testing import FakeClock
from citychain.types import (
    CastVote,
    Certificate,
    Objection,
    PohEntry,
    Quorum,
    SealedRound,
    Seat,
    Vote,
)

SIGNATURE_CONTEXT = b"citychain/tx/v1"


@cache
def make_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


OPERATOR = make_key(255)


def id_of(number: int) -> bytes:
    return key_id(make_key(number).public_key)


def seats(**stakes: int) -> tuple[Seat, ...]:
    """Seats of keys, such as ``k1=3``."""
    return tuple(Seat(id_of(int(name[1:])), stake) for name, stake in stakes.items())


async def compute(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(function, *args, **kwargs)


class World:
    """A city whose first committee are keys 0, 1, ... with these stakes."""

    def __init__(
        self, stakes: Sequence[int], *, own: Sequence[int] = (), quorum: Quorum = "two-thirds"
    ) -> None:
        self.genesis = Genesis(
            network="test",
            city="kanazawa",
            rule="sealed-rounds/1",
            consensus="poh-pop/1",
            operator=OPERATOR.public_key.hex(),
            quorum=quorum,
            committee=tuple(
                Representative(public_key=make_key(number).public_key.hex(), stake=stake)
                for number, stake in enumerate(stakes)
            ),
        )
        self.own = own
        self.clock = FakeClock()
        self.storage: CityStorage = MemoryCity(self.clock, self.genesis.file, ())
        self.rounds: list[StoredRound] = []

    def box(self) -> VoteBox:
        """The city opened (anew)."""
        return VoteBox(self.context())

    def context(self) -> CityContext:
        """What a consensus step of this city is given."""
        return CityContext(
            slug="kanazawa",
            genesis=self.genesis,
            compute=compute,
            clock=self.clock,
            operator=OPERATOR,
            representatives=[make_key(number) for number in self.own],
            storage=self.storage,
        )

    # --- rounds

    async def seal(
        self,
        committee: tuple[Seat, ...] | None = None,
        next_committee: tuple[Seat, ...] | None = None,
    ) -> StoredRound:
        """Commit the next round, naming these committees."""
        number = len(self.rounds) + 1
        body = checkpoint.body_bytes(
            genesis=self.genesis.id,
            round=number,
            previous=self.hash_of(number - 1),
            root=bytes(32),
            size=0,
            rule=self.genesis.rule,
            record_hash=bytes(32),
            committee=committee or self.genesis.seats,
            next_committee=next_committee,
        )
        encoded = checkpoint.with_poh(body, PohEntry(bytes(32), 1, bytes(32), bytes(32)))
        sealed = SealedRound(
            round=number,
            time_ms=1_000 * number,
            epoch=1,
            first_index=0,
            record=b"record",
            checkpoint=encoded,
            checkpoint_hash=checkpoint.checkpoint_hash(encoded),
            transactions=(),
            verdicts=(),
            node_ids=(),
            parents=(),
            pops=None,
            held=(),
            writes=(),
            leaf_hashes=b"",
            peaks=b"",
        )
        await self.storage.commit(sealed)
        [stored] = await self.storage.rounds(number, 1)
        self.rounds.append(stored)
        return stored

    def hash_of(self, number: int) -> bytes:
        """Hash of a round's checkpoint."""
        return self.rounds[number - 1].checkpoint_hash if number else self.genesis.id

    # --- what representatives send

    def vote(self, key: int, number: int, other: object = None) -> CastVote:
        """A vote for a round's checkpoint, or for some other one."""
        digest = self.hash_of(number) if other is None else sha256(other)
        message = checkpoint.vote_message(self.genesis.id, number, digest)
        signature = make_key(key).sign(message, checkpoint.VOTE_CONTEXT)
        return CastVote(number, digest, Vote(id_of(key), signature))

    def objection(
        self, key: int, number: int, check: str = "replay", detail: str = ""
    ) -> Objection:
        fields = (number, self.hash_of(number), check, detail)
        message = checkpoint.objection_message(self.genesis.id, *fields)
        signature = make_key(key).sign(message, checkpoint.OBJECTION_CONTEXT)
        return Objection(*fields, id_of(key), signature)

    def recovery(
        self,
        since: int,
        committee: tuple[Seat, ...],
        *,
        key: SigningKey = OPERATOR,
        genesis: bytes | None = None,
        previous: bytes | None = None,
        later_ms: int = 0,
    ) -> bytes:
        """The envelope of a recovery."""
        body = transaction_pb2.TransactionBody(
            genesis=genesis or self.genesis.id,
            author=key_id(key.public_key),
            nonce=bytes(8),
            created_at_ms=self.clock.time_ms() + later_ms,
        )
        body.recovery.from_round = since
        body.recovery.previous = self.hash_of(since - 1) if previous is None else previous
        for seat in committee:
            body.recovery.seats.add(key_id=seat.key_id, stake=seat.stake)
        return signed(key, body)

    # --- what is expected

    def check(self, certificate: Certificate, committee: tuple[Seat, ...] | None = None) -> None:
        """Hold a certificate to what a verifier asks of it."""
        stored = self.rounds[certificate.round - 1]
        assert certificate.checkpoint_hash == stored.checkpoint_hash
        stakes = dict(committee or self.genesis.seats)
        voters = [vote.key_id for vote in certificate.votes]
        assert voters == sorted(set(voters))
        assert set(voters) <= stakes.keys()
        public_keys = {id_of(number): make_key(number).public_key for number in range(20)}
        message = checkpoint.vote_message(
            self.genesis.id, certificate.round, certificate.checkpoint_hash
        )
        for vote in certificate.votes:
            verify(public_keys[vote.key_id], message, checkpoint.VOTE_CONTEXT, vote.signature)
        signed, total = sum(stakes[voter] for voter in voters), sum(stakes.values())
        if self.genesis.quorum == "majority":
            assert 2 * signed > total
        else:
            assert 3 * signed >= 2 * total


def sha256(what: object) -> bytes:
    return hashlib.sha256(repr(what).encode()).digest()


def signed(key: SigningKey, body: transaction_pb2.TransactionBody, **fields: Any) -> bytes:
    encoded = body.SerializeToString()
    assert len(native_tx_id(encoded)) == 32
    identity = fields or {"key_id": key_id(key.public_key)}
    return transaction_pb2.SignedTransaction(
        body=encoded,
        scheme=transaction_pb2.Scheme.ValueType(1),
        signature=key.sign(encoded, SIGNATURE_CONTEXT),
        **identity,
    ).SerializeToString()


def approving(box: VoteBox, *rounds: StoredRound) -> list[asyncio.Task[Certificate]]:
    return [asyncio.create_task(box.approve(round)) for round in rounds]


async def settled(*tasks: asyncio.Task[Any]) -> None:
    """Let everything happen that can without more votes."""
    for _ in range(3):
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(4)))
        await asyncio.sleep(0.01)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def certified(world: World, box: VoteBox, keys: range = range(3)) -> StoredRound:
    """Another round, certified by these keys."""
    stored = await world.seal()
    await box.cast([world.vote(key, stored.round) for key in keys])
    await world.storage.certify([await box.approve(stored)])
    return stored
