"""Consensus tests: any sequence of votes, restarts and approvals, compared with plain counting.

What the model knows for sure must be so; where the contract leaves it open (whether a vote
survives a restart, whether a second vote of a key counts) either answer will do.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from citychain import checkpoint
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SIGNATURE_BYTES, verify
from citychain.testing.conformance._consensus_ballot import (
    STRANGER,
    check_conflict,
    need_votes,
)
from citychain.testing.conformance._consensus_fronts import comes, ended, settled
from citychain.testing.conformance._consensus_town import Town
from citychain.testing.conformance._rounds import id_of
from citychain.types import CastVote, Certificate, Vote, VoteOutcome

__all__ = ["VoteMachine"]

ROUNDS_MAX: Final = 4
OTHERS: Final = ("x", "y")
"""Checkpoints that no round has."""

COUNTED, LATE, REPEATED = VoteOutcome.COUNTED, VoteOutcome.LATE, VoteOutcome.REPEATED
OTHER, TWO = VoteOutcome.OTHER_CHECKPOINT, VoteOutcome.EQUIVOCATION


class Counted:
    """What is known of one round's votes."""

    def __init__(self, stakes: dict[bytes, int]) -> None:
        self.stakes = stakes
        """Of the round's committee, by key id."""
        self.votes: set[bytes] = set()
        """Keys whose vote is known to the instance."""
        self.lost: set[bytes] = set()
        """Keys whose vote an instance before it knew."""
        self.others: dict[bytes, set[bytes]] = {}
        """Other checkpoints that keys signed, by key id, as this instance was told."""
        self.others_lost: dict[bytes, set[bytes]] = {}
        self.certificate: Certificate | None = None
        self.given = False
        """This instance gave the certificate."""

    def hashes(self, key: bytes, ours: bytes) -> set[bytes]:
        """Checkpoints for which the instance has a vote of the key."""
        return self.others.get(key, set()) | ({ours} if key in self.votes else set())

    def restart(self) -> None:
        """What the instance knew it may have lost."""
        self.lost |= self.votes
        self.votes = set()
        for key, hashes in self.others.items():
            self.others_lost.setdefault(key, set()).update(hashes)
        self.others = {}
        self.given = False


class VoteMachine(RuleBasedStateMachine):
    """Drives an opened step, and counts stakes in integers."""

    def town(self) -> Town:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._city = self.town()
        self._tasks: dict[int, asyncio.Task[Certificate]] = {}
        self._rounds: dict[int, Counted] = {}
        self._accused: set[bytes] = set()

    def _run(self, work: Any) -> Any:
        return self._runner.run(work)

    # --- life

    @initialize(inside=st.booleans())
    def open(self, inside: bool) -> None:
        seats = self._city.genesis.seats
        self._keys = [self._city.keys[seat.key_id] for seat in seats]
        self._own = self._keys[:1] if inside and len(seats) > 1 else []
        self._run(self._open())
        self._seal()

    async def _open(self) -> None:
        self._step = await self._stack.enter_async_context(self._city.opened(self._own))
        need_votes(self._step)

    @precondition(lambda self: len(self._rounds) < ROUNDS_MAX)
    @rule()
    def seal(self) -> None:
        self._seal()

    def _seal(self) -> None:
        stored = self._run(self._city.seal(self._step))
        self._rounds[stored.round] = Counted(dict(self._city.committee(stored.round)))

    @rule()
    def restart(self) -> None:
        """Every task is cancelled, and another instance opens the city."""
        self._run(self._close())
        for counted in self._rounds.values():
            counted.restart()
        self._stack = AsyncExitStack()
        self._run(self._open())

    async def _close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
            await ended(task, "approve, cancelled while the city closes,")
        self._tasks.clear()
        await self._stack.aclose()

    # --- votes

    @rule(data=st.data())
    def cast(self, data: st.DataObject) -> None:
        """Votes by members and a stranger, for this checkpoint and others, good and bad."""
        keys = [*self._keys, STRANGER]
        one = st.tuples(
            st.integers(0, len(keys) - 1),
            st.integers(1, len(self._rounds) + 1),
            st.sampled_from((None, *OTHERS)),
            st.sampled_from(("good", "good", "good", "forged")),
        )
        drawn = data.draw(st.lists(one, min_size=1, max_size=4), "key, round, checkpoint")
        votes = []
        for key, round, other, signature in drawn:
            vote = self._city.vote(keys[key], round, other)
            if signature == "forged":
                vote = vote._replace(vote=Vote(vote.vote.key_id, bytes(SIGNATURE_BYTES)))
            votes.append(vote)
        outcomes = self._run(self._step.cast(votes))
        assert len(outcomes) == len(votes), "cast gives one outcome for each vote"
        for (_, _, _, signature), vote, outcome in zip(drawn, votes, outcomes, strict=True):
            allowed = self._allowed(vote, forged=signature == "forged")
            assert outcome in allowed, (
                f"a {signature} vote for round {vote.round} became {outcome.name}; it must be "
                f"{' or '.join(sorted(one.name for one in allowed))}"
            )
            if signature == "good":
                self._note(vote, outcome)

    def _allowed(self, vote: CastVote, *, forged: bool) -> set[VoteOutcome]:
        signer = vote.vote.key_id
        if (counted := self._rounds.get(vote.round)) is None:
            return {VoteOutcome.UNKNOWN_ROUND}
        late = {LATE} if counted.certificate is not None else set()
        if signer not in counted.stakes:
            return {VoteOutcome.NO_SEAT, *late, *({VoteOutcome.BAD_SIGNATURE} if forged else ())}
        ours = self._city.stored(vote.round).checkpoint_hash
        is_ours = vote.checkpoint_hash == ours
        known = signer in counted.votes or signer in self._inside(vote.round)
        before = counted.hashes(signer, ours) | ({ours} if known else set())
        perhaps = set(counted.others_lost.get(signer, ()))
        perhaps |= {ours} if signer in counted.lost or signer in map(id_of, self._own) else set()
        if forged:
            repeated = {REPEATED} if is_ours and ours in before | perhaps else set()
            return {VoteOutcome.BAD_SIGNATURE, *repeated, *late} | (set() if is_ours else {OTHER})
        if is_ours and known:
            return {REPEATED}
        fresh = {COUNTED, LATE} if self._may_be_certified(vote.round) else {COUNTED}
        fresh = fresh if is_ours else {OTHER}
        fresh = {LATE} if is_ours and counted.given else fresh
        allowed = set(fresh)
        if is_ours and ours in perhaps:
            allowed |= {REPEATED}
        if (before | perhaps) - {vote.checkpoint_hash}:
            allowed |= {TWO}
        proven = signer in self._accused
        if before - {vote.checkpoint_hash} and vote.checkpoint_hash not in before and not proven:
            allowed = {TWO}
        return allowed | late

    def _inside(self, round: int) -> set[bytes]:
        """Keys that vote here and have been asked to."""
        own = set(map(id_of, self._own)) & self._rounds[round].stakes.keys()
        return own if round in self._tasks else set()

    def _may_be_certified(self, round: int) -> bool:
        return round in self._tasks or self._rounds[round].certificate is not None

    def _note(self, vote: CastVote, outcome: VoteOutcome) -> None:
        counted, signer = self._rounds.get(vote.round), vote.vote.key_id
        if counted is None or signer not in counted.stakes:
            return
        if vote.checkpoint_hash == self._city.stored(vote.round).checkpoint_hash:
            counted.votes.add(signer)
        else:
            counted.others.setdefault(signer, set()).add(vote.checkpoint_hash)
        if outcome is TWO:
            self._accused.add(signer)

    # --- certificates

    @rule(data=st.data())
    def approve(self, data: st.DataObject) -> None:
        round = data.draw(st.integers(1, len(self._rounds)))
        if round not in self._tasks:
            self._tasks[round] = self._run(self._begin(round))

    async def _begin(self, round: int) -> asyncio.Task[Certificate]:
        return asyncio.create_task(self._step.approve(self._city.stored(round)))

    @precondition(lambda self: any(it.given for it in self._rounds.values()))
    @rule()
    def certify(self) -> None:
        """Certificates become durable."""
        given = [it.certificate for it in self._rounds.values() if it.certificate is not None]
        self._run(self._city.storage.certify(given))

    @invariant()
    def certificates_are_there_exactly_when_the_stake_is(self) -> None:
        if not self._rounds:
            return
        self._run(settled())
        before = True
        for round, counted in self._rounds.items():
            task = self._tasks.get(round)
            if task is None:
                # The server asks for all in turn: a round may wait until it did.
                before = False
                continue
            sure, possible = self._stake(round, counted, surely=True), self._stake(round, counted)
            needed = self._city.needed([*counted.stakes.values()])
            if sure >= needed and before:
                self._run(
                    comes(
                        task,
                        f"stake {sure} signed round {round}, {needed} is needed, the rounds "
                        "before are approved, and this one is not",
                    )
                )
            if task.done():
                assert possible >= needed, (
                    f"round {round} has a certificate, and {possible} of the {needed} needed signed"
                )
                counted.certificate, counted.given = task.result(), True
                counted.votes |= {vote.key_id for vote in task.result().votes}
                self._verify(round, task.result(), needed)
            before = before and task.done()

    def _stake(self, round: int, counted: Counted, *, surely: bool = False) -> int:
        voters = counted.votes | self._inside(round)
        if surely:
            voters = {key for key in voters if key not in counted.others}
            voters -= counted.others_lost.keys()
        else:
            voters = voters | counted.lost
        return sum(counted.stakes[key] for key in voters)

    def _verify(self, round: int, certificate: Certificate, needed: int) -> None:
        digest, stakes = self._city.stored(round).checkpoint_hash, self._rounds[round].stakes
        assert (certificate.round, certificate.checkpoint_hash) == (round, digest)
        voters = {vote.key_id for vote in certificate.votes}
        assert len(voters) == len(certificate.votes), "a certificate has two votes of one key"
        assert voters <= stakes.keys(), "a certificate has a stranger's vote"
        assert sum(stakes[key] for key in voters) >= needed, "a certificate lacks votes"
        message = checkpoint.vote_message(self._city.genesis.id, round, digest)
        for key, signature in certificate.votes:
            verify(self._city.public_keys[key], message, checkpoint.VOTE_CONTEXT, signature)

    @invariant()
    def proofs_are_of_those_who_signed_twice(self) -> None:
        if not self._rounds:
            return
        status = self._run(self._step.committee())
        for conflict in status.conflicting:
            check_conflict(self._city, conflict)
        proven = {key_id(conflict.public_key) for conflict in status.conflicting}
        assert proven == self._accused, (
            "`conflicting` has one proof for each key of whom a vote was an EQUIVOCATION"
        )
        if status.round in self._rounds:
            stakes = self._rounds[status.round].stakes
            assert {seat.key_id: seat.stake for seat in status.members} == stakes
            assert status.stake_needed == self._city.needed([*stakes.values()])
        self._city.signed.check()

    def teardown(self) -> None:
        self._run(self._close())
        self._runner.close()
