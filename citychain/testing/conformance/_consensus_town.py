"""A city for one consensus step: its genesis, its rounds, and who votes in it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from citychain import checkpoint
from citychain._native.transactions import Transaction
from citychain.city.sealing import stored_round
from citychain.client.actions import Action, Candidacy, Withdrawal, Witness
from citychain.committee import CommitteeChain
from citychain.crypto.signatures import SigningKey
from citychain.dag.sealed_rounds import SealedRounds
from citychain.errors import ConfigurationError, InvalidReceipt
from citychain.genesis import Representative
from citychain.hooks.definitions import ConsensusDefinition
from citychain.ports import CityContext, CityStorage, Compute, ConsensusStep, StoredRound
from citychain.presence import WITNESS_CONTEXT, witness_message
from citychain.testing.conformance._consensus_fronts import (
    HurriedClock,
    InTime,
    Signed,
    WatchedKey,
)
from citychain.testing.conformance._purity import InTurn
from citychain.testing.conformance._rounds import (
    ASSET,
    AUTHORS,
    FUNDS,
    MEMBERS,
    OPERATOR,
    Ordinary,
    Rounds,
    Traffic,
    id_of,
    new_genesis,
    ordinary,
)
from citychain.types import (
    CastVote,
    Certificate,
    Equivocation,
    Presence,
    Recovery,
    Seat,
    Vote,
    WitnessSignature,
)

__all__ = ["Batches", "Committee", "Town", "every_action"]

Committee: TypeAlias = Sequence[tuple[SigningKey, int]]
"""Keys with their stakes."""

Batches: TypeAlias = Callable[[Rounds], Iterator[Sequence[Transaction]]]
"""Makes the new transactions of one round after the other."""

NUM_HASHES: Final = 3


class Town:
    """A city that only its test drives.

    Args:
        keys: Further keys that may come into office.
        authors: Keys that sign transactions.
    """

    def __init__(
        self,
        definition: ConsensusDefinition,
        options: BaseModel,
        committee: Committee,
        keys: Sequence[SigningKey] = (),
        authors: Sequence[SigningKey] = AUTHORS,
        *,
        num_hashes: int = NUM_HASHES,
        compute: Compute | None = None,
    ) -> None:
        self.definition = definition
        self.options = options
        known = (OPERATOR, *MEMBERS, *AUTHORS, *authors, *keys, *(key for key, _ in committee))
        self.keys = {id_of(key): key for key in known}
        self.public_keys = {id: key.public_key for id, key in self.keys.items()}
        self.genesis = new_genesis(
            consensus=definition.step,
            consensus_options=options.model_dump(mode="json"),
            quorum=definition.quorum,
            num_hashes=num_hashes,
            committee=[
                Representative(public_key=key.public_key.hex(), stake=stake)
                for key, stake in committee
            ],
            balances={
                asset: {id_of(key).hex(): FUNDS for key in authors} for asset in (ASSET, "stake")
            },
        )
        self.clock = HurriedClock()
        self.compute = compute or InTurn()
        self.rounds = Rounds(self.genesis, self.compute, authors)
        self.signed = Signed()
        self._dag = SealedRounds(self.rounds.context())
        self._votes: dict[tuple[bytes, int, bytes], CastVote] = {}

    # --- the step

    def context(
        self,
        own: Sequence[SigningKey] = (),
        *,
        followed: bool = False,
        storage: Any = None,
        compute: Compute | None = None,
    ) -> CityContext:
        """What the step's factory is given.

        Args:
            own: Keys of those who vote inside the server.
            followed: It is the context of who only follows the city.
            storage: Stands in front of the city's.
        """
        compute = compute or self.compute
        if followed:
            return self.rounds.context(compute=compute, clock=self.clock)
        held: Any = [WatchedKey(key, self.signed) for key in own]
        operator: Any = WatchedKey(OPERATOR, self.signed)
        return CityContext(
            slug=self.genesis.city,
            genesis=self.genesis,
            compute=compute,
            clock=self.clock,
            operator=operator,
            representatives=held,
            storage=storage or self.rounds.storage,
        )

    def build(
        self, own: Sequence[SigningKey] = (), *, options: BaseModel | None = None, **context: Any
    ) -> ConsensusStep:
        """An instance of the step, not entered; see `context`."""
        return self.definition.factory(options or self.options, self.context(own, **context))

    def fits(self) -> bool:
        """Whether the step takes a city with this committee."""
        try:
            self.build()
        except ConfigurationError:
            return False
        return True

    @asynccontextmanager
    async def opened(self, own: Sequence[SigningKey] = (), **context: Any) -> AsyncIterator[Any]:
        """An instance of the step, entered as the server does; see `context`."""
        step = self.build(own, **context)
        if isinstance(step, AbstractAsyncContextManager):
            async with step as entered:
                yield InTime(entered)
        else:
            yield InTime(step)

    # --- rounds

    async def seal(self, step: ConsensusStep, new: Sequence[Transaction] = ()) -> StoredRound:
        """Have the next round judged, sealed and committed."""
        return stored_round((await self.rounds.seal(self._dag, step, new)).sealed)

    async def replay(self, step: ConsensusStep) -> None:
        """Repeat all rounds from what is published; see `Rounds.replay`."""
        await self.rounds.replay(SealedRounds(self.rounds.context()), step)

    @property
    def storage(self) -> CityStorage:
        """Of the city."""
        return self.rounds.storage

    def stored(self, round: int) -> StoredRound:
        """A round that was sealed."""
        return stored_round(self.rounds.played[round - 1].sealed)

    def committee(self, round: int) -> tuple[Seat, ...]:
        """The committee that the round's checkpoint names."""
        return checkpoint.decode(self.stored(round).checkpoint).committee

    def needed(self, stakes: Sequence[int]) -> int:
        """The least stake that certifies, by the words of `citychain.types.Quorum`."""
        total = sum(stakes)
        return total // 2 + 1 if self.definition.quorum == "majority" else (2 * total + 2) // 3

    # --- votes

    def vote(self, key: SigningKey, round: int, other: object = None) -> CastVote:
        """A vote for a round's checkpoint, or for some other one."""
        digest = hashlib.sha256(repr(other).encode()).digest()
        if other is None and round <= len(self.rounds.played):
            digest = self.stored(round).checkpoint_hash
        cast = self._votes.get((id_of(key), round, digest))
        if cast is None:
            message = checkpoint.vote_message(self.genesis.id, round, digest)
            signature = key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True)
            cast = CastVote(round, digest, Vote(id_of(key), signature))
            self._votes[id_of(key), round, digest] = cast
        return cast

    def check(self, certificates: Sequence[Certificate]) -> None:
        """Certificates of round 1 and all after it must verify, as receipts are verified."""
        chain = CommitteeChain(self.genesis)
        for number, certificate in enumerate(certificates, start=1):
            try:
                chain.advance(self.stored(number).checkpoint, certificate, self.public_keys)
            except InvalidReceipt as error:
                raise AssertionError(
                    f"the certificate of round {number} does not verify ({error}): it needs votes, "
                    "one of each key, of a quorum of the committee that judge named"
                ) from None


def _seat_of(key: SigningKey) -> Seat:
    return Seat(id_of(key), 1)


def every_action(rounds: Rounds, ordinary: Ordinary = ordinary) -> Iterator[list[Transaction]]:
    """Batches of all that a consensus step may be asked to judge, much of it wrong.

    Presences are near latitude and longitude 0, witnesses are `MEMBERS`, stakes are in `ASSET`;
    no recovery is the operator's.
    """
    choose = random.Random(7)
    traffic = Traffic(rounds, 7, ordinary)
    yield [rounds.sign(OPERATOR, Witness(key.public_key)) for key in MEMBERS[:2]]
    while True:
        batch = traffic.batch(8)
        for author in rounds.authors:
            if choose.random() < 0.5:
                batch.append(rounds.sign(author, _presence(rounds, author, choose)))
        for _ in range(6):
            author = choose.choice(rounds.authors)
            batch.append(rounds.sign(author, _some(rounds, choose)))
        choose.shuffle(batch)
        yield batch


def _presence(rounds: Rounds, author: SigningKey, choose: random.Random) -> Presence:
    far = choose.choice((0, 0, 0, 900_000))
    claim = Presence(
        latitude_e7=choose.randrange(10_000) + far,
        longitude_e7=choose.randrange(10_000),
        accuracy_m=choose.choice((10, 20, 5_000)),
        first_round=rounds.round.round - 1,
        last_round=rounds.round.round + choose.choice((0, 3)),
        anchor=rounds.round.previous_checkpoint,
    )
    message = witness_message(rounds.genesis.id, id_of(author), claim)
    seen = [
        WitnessSignature(id_of(key), key.sign(message, WITNESS_CONTEXT, deterministic=True))
        for key in choose.sample(MEMBERS, choose.choice((0, 1, 2, 2)))
    ]
    return claim._replace(witnesses=tuple(seen))


def _some(rounds: Rounds, choose: random.Random) -> Action:
    amount = choose.choice((1, 3, 10, 30))
    return choose.choice(
        (
            Candidacy(ASSET, amount),
            Candidacy(ASSET, amount),
            Candidacy("stake", amount),
            Withdrawal(ASSET, amount),
            Witness(MEMBERS[3].public_key),
            _two_votes(
                rounds, choose.choice((rounds.authors[-1], OPERATOR)), choose.random() < 0.5
            ),
            Recovery(rounds.round.round, rounds.round.previous_checkpoint, (_seat_of(OPERATOR),)),
        )
    )


def _two_votes(rounds: Rounds, key: SigningKey, holds: bool) -> Equivocation:
    hashes = (b"1" * 32, b"2" * 32)
    first, second = (
        key.sign(
            checkpoint.vote_message(rounds.genesis.id, 1, hash),
            checkpoint.VOTE_CONTEXT,
            deterministic=True,
        )
        for hash in hashes
    )
    return Equivocation(key.public_key, 1, hashes[0], first, hashes[1], second if holds else first)
