"""Elections, as a city tells of them and as anybody computes them again.

`read_election` believes the city. `check_election` believes the genesis alone: that the
representatives certified the rounds, that these follow one on the other and hash as they say,
that the candidates are those of the closing round's record, and that these candidates and that
seed give those seats. Whether the record follows from the rounds before is an audit's to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, NamedTuple

from citychain import checkpoint, election, record
from citychain.checkpoint import Checkpoint
from citychain.client.city import CityClient
from citychain.committee import CommitteeChain
from citychain.crypto import poh
from citychain.errors import ConfigurationError, NotFound, VerificationError
from citychain.genesis import Genesis
from citychain.ports import StoredRound
from citychain.types import Seat

__all__ = ["Election", "ElectionRule", "check_election", "read_election"]

PAGE: Final = 50
"""Rounds asked for at once."""


class ElectionRule(NamedTuple):
    """What a genesis says of elections."""

    epoch_rounds: int
    seed_rounds: int
    seed_hashes: int
    seats: int

    @classmethod
    def of(cls, genesis: Genesis) -> ElectionRule:
        """A city's rule.

        Raises:
            ConfigurationError: it elects nobody.
        """
        options = genesis.consensus_options
        if not genesis.consensus.startswith("poh-pop/"):
            raise ConfigurationError(
                f"city {genesis.city}: its consensus, {genesis.consensus}, has no elections"
            )
        return cls(*(int(options[name]) for name in cls._fields))

    def epoch_of(self, round: int) -> int:
        """The epoch that a round belongs to."""
        return election.epoch_of(round, self.epoch_rounds)

    def closing_round(self, epoch: int) -> int:
        """The round after which candidacy is closed."""
        return election.closing_round(epoch, self.epoch_rounds, self.seed_rounds)

    def last_round(self, epoch: int) -> int:
        """The round that names the next committee."""
        return election.last_round(epoch, self.epoch_rounds)


@dataclass(frozen=True, slots=True)
class Election:
    """An epoch's election."""

    epoch: int
    closing_round: int
    last_round: int
    candidates: tuple[election.Candidate, ...]
    """At the closing; none before it."""
    seed: bytes | None = None
    """``None`` until the last round but one is sealed, and where nobody stands."""
    committee: tuple[Seat, ...] = ()
    """In office for the last round; empty until that is sealed."""
    named: tuple[Seat, ...] | None = None
    """The next committee, as the last round's checkpoint names it; ``None`` for no change."""

    @property
    def decided(self) -> bool:
        """Whether the last round is sealed."""
        return bool(self.committee)


async def read_election(client: CityClient, genesis: Genesis, epoch: int) -> Election:
    """What the city says of an election."""
    rule = ElectionRule.of(genesis)
    closing, last = rule.closing_round(epoch), rule.last_round(epoch)
    value = (await client.objects([election.snapshot_object(epoch)])).popitem()[1].value
    candidates = election.decode_snapshot(value).candidates if value else ()
    rounds = [checkpoint.decode(it.checkpoint) for it in await client.rounds(last - 1, 2)]
    seed = None
    if candidates and rounds:
        seed = await _seed(rule, genesis.id, epoch, rounds[0].poh.hash)
    if len(rounds) < 2:
        return Election(epoch, closing, last, candidates, seed)
    committee, named = rounds[1].committee, rounds[1].next_committee
    return Election(epoch, closing, last, candidates, seed, committee, named)


async def check_election(client: CityClient, genesis: Genesis, epoch: int) -> Election:
    """Compute a decided election again from what the city published.

    Raises:
        NotFound: the last round is not certified yet.
        VerificationError: something does not hold, or others were elected; says what.
    """
    rule = ElectionRule.of(genesis)
    closing, last = rule.closing_round(epoch), rule.last_round(epoch)
    chain, snapshot = await _certified_rounds(client, genesis, closing, last, epoch)
    candidates = snapshot.candidates if snapshot else ()
    if snapshot and snapshot.closing_round != closing:
        raise VerificationError(
            f"the record of round {closing} says that it closes in round {snapshot.closing_round}"
        )
    seed, due = None, None
    final = chain[-1]
    if candidates:
        seed = await _seed(rule, genesis.id, epoch, final.poh.prev)
        elected = election.elect(candidates, rule.seats, seed, genesis.id, epoch)
        due = None if elected == tuple(sorted(final.committee)) else elected
    if due != final.next_committee:
        raise VerificationError(
            f"round {last} names {_words(final.next_committee)}, and these candidates and this "
            f"seed give {_words(due)}"
        )
    return Election(epoch, closing, last, candidates, seed, final.committee, final.next_committee)


async def _seed(rule: ElectionRule, genesis: bytes, epoch: int, previous_poh: bytes) -> bytes:
    mixin = election.seed_mixin(genesis, epoch)
    return await asyncio.to_thread(poh.extend, previous_poh, rule.seed_hashes, mixin)


async def _certified_rounds(
    client: CityClient, genesis: Genesis, first: int, last: int, epoch: int
) -> tuple[list[Checkpoint], election.Snapshot | None]:
    """Checkpoints from ``first`` to ``last``, which is certified, each the one before the
    next; and the election's snapshot in the record of ``first``."""
    checkpoints: list[Checkpoint] = []
    snapshot, before = None, b""
    while first + len(checkpoints) <= last:
        number = first + len(checkpoints)
        page = await client.rounds(number, min(PAGE, last + 1 - number))
        if not page:
            raise NotFound("round", str(number))
        for stored in page:
            decoded = checkpoint.decode(stored.checkpoint)
            number = first + len(checkpoints)
            if (decoded.genesis, decoded.round) != (genesis.id, number):
                raise VerificationError(f"what was given for round {number} is another round")
            if not checkpoints:
                snapshot = _snapshot(stored.record, decoded, epoch)
            elif decoded.previous != before or decoded.poh.prev != checkpoints[-1].poh.hash:
                raise VerificationError(f"round {number} does not follow round {number - 1}")
            if decoded.poh.num_hashes != genesis.num_hashes:
                raise VerificationError(f"round {number} takes {decoded.poh.num_hashes} hashes")
            body = checkpoint.without_poh(stored.checkpoint)
            if decoded.poh.mixin != checkpoint.mixin(body):
                raise VerificationError(f"round {number}: its proof of history is of another")
            checkpoints.append(decoded)
            before = checkpoint.checkpoint_hash(stored.checkpoint)
    if stored.certificate is None:
        raise NotFound("certificate of round", str(last))
    await _verify_certificate(client, genesis, stored)
    entries = [decoded.poh for decoded in checkpoints]
    await asyncio.to_thread(poh.verify, entries, max_num_hashes=genesis.num_hashes)
    return checkpoints, snapshot


async def _verify_certificate(client: CityClient, genesis: Genesis, stored: StoredRound) -> None:
    """Check that the committee that the genesis leads to certified a round."""
    chain = CommitteeChain(genesis)
    for handover in await client.handovers():
        await asyncio.to_thread(chain.apply, handover)
    assert stored.certificate is not None
    await asyncio.to_thread(chain.verify_certificate, stored.checkpoint, stored.certificate)


def _snapshot(content: bytes, closing: Checkpoint, epoch: int) -> election.Snapshot | None:
    if record.record_hash(record.without_poh(content)) != closing.record_hash:
        raise VerificationError(f"the record of round {closing.round} is not the certified one")
    wanted = election.snapshot_object(epoch)
    for write in record.decode(content).writes:
        if write.object == wanted:
            return election.decode_snapshot(write.value)
    return None


def _words(seats: tuple[Seat, ...] | None) -> str:
    if seats is None:
        return "no other committee"
    return ", ".join(f"{seat.key_id.hex()[:16]} ({seat.stake})" for seat in seats)
