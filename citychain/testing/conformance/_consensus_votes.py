"""Consensus tests: votes from elsewhere, for steps that take them."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import pytest

from citychain import checkpoint
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SIGNATURE_BYTES
from citychain.testing.conformance._consensus_ballot import (
    STRANGER,
    Ballot,
    WithBallot,
    check_conflict,
    need_votes,
)
from citychain.testing.conformance._consensus_fronts import comes, ended, settled
from citychain.testing.conformance._rounds import AUTHORS, MEMBERS, id_of
from citychain.types import Vote, VoteOutcome

__all__ = ["VoteTests"]

STAKES: Final = (
    (1,),
    (1, 1),
    (1, 1, 1),
    (1, 1, 1, 1),
    (1, 1, 1, 1, 1),
    (1, 1, 1, 1, 1, 1),
    (3, 1, 1),
    (5, 3, 2, 1),
    (2, 2, 1, 1),
)
"""Committees whose thresholds are tried, where the step takes them."""


class VoteTests(WithBallot):
    """Part of `ConsensusSuite`."""

    # --- outcomes

    async def test_a_vote_counts_once(self, ballot: Ballot) -> None:
        vote = ballot.town.vote(ballot.keys[0], 1)
        assert await ballot.cast(vote, vote) == [VoteOutcome.COUNTED, VoteOutcome.REPEATED], (
            "the first time a vote is COUNTED, then REPEATED"
        )
        assert await ballot.cast(vote) == [VoteOutcome.REPEATED]
        status = await ballot.step.committee()
        assert status.stake_for == ballot.stakes[0], (
            f"one key voted, with a stake of {ballot.stakes[0]}, and stake_for is "
            f"{status.stake_for}: a repeated vote adds nothing"
        )

    async def test_a_stranger_has_no_seat(self, ballot: Ballot) -> None:
        for key in (STRANGER, AUTHORS[0]):
            if id_of(key) not in map(id_of, ballot.keys):
                assert await ballot.cast(ballot.town.vote(key, 1)) == [VoteOutcome.NO_SEAT], (
                    "a key without a seat in the round's committee gets NO_SEAT"
                )
        assert (await ballot.step.committee()).stake_for == 0, "a stranger's vote was counted"

    async def test_a_signature_that_does_not_hold_is_refused(self, ballot: Ballot) -> None:
        town, key = ballot.town, ballot.keys[0]
        good = town.vote(key, 1)
        message = checkpoint.vote_message(b"?" * 32, 1, good.checkpoint_hash)
        elsewhere = key.sign(message, checkpoint.VOTE_CONTEXT)
        objected = key.sign(
            checkpoint.vote_message(town.genesis.id, 1, good.checkpoint_hash),
            checkpoint.OBJECTION_CONTEXT,
        )
        by_another = STRANGER.sign(
            checkpoint.vote_message(town.genesis.id, 1, good.checkpoint_hash),
            checkpoint.VOTE_CONTEXT,
        )
        for signature in (elsewhere, objected, by_another, bytes(SIGNATURE_BYTES)):
            bad = good._replace(vote=Vote(good.vote.key_id, signature))
            assert await ballot.cast(bad) == [VoteOutcome.BAD_SIGNATURE], (
                "a vote that the key did not sign for this city, round and checkpoint was taken"
            )
        assert await ballot.cast(good) == [VoteOutcome.COUNTED], (
            "after forged votes in its name, a key's own vote must count"
        )

    async def test_votes_for_rounds_that_are_not_there_are_told(self, ballot: Ballot) -> None:
        votes = [ballot.town.vote(ballot.keys[0], round) for round in (2, 3, 1 << 40)]
        assert await ballot.cast(*votes) == [VoteOutcome.UNKNOWN_ROUND] * 3
        await ballot.town.seal(ballot.step)
        assert await ballot.cast(ballot.town.vote(ballot.keys[0], 2)) == [VoteOutcome.COUNTED], (
            "a vote counts as soon as its round is sealed"
        )

    async def test_a_late_vote_is_told(self, ballot: Ballot) -> None:
        if ballot.enough == len(ballot.keys):
            pytest.skip("this committee needs all its votes: none can be late")
        await ballot.cast(*ballot.votes(1))
        await ballot.town.storage.certify([await ballot.approved()])
        late = ballot.town.vote(ballot.keys[-1], 1)
        assert await ballot.cast(late) == [VoteOutcome.LATE], (
            "the round has its certificate: what comes now is LATE"
        )
        assert await ballot.cast(late) == [VoteOutcome.REPEATED], "a late vote is kept"

    async def test_no_vote_gives_no_outcome(self, ballot: Ballot) -> None:
        assert await ballot.cast() == []

    # --- certificates

    @pytest.mark.parametrize("stakes", STAKES, ids=str)
    async def test_a_quorum_is_reached_exactly_at_its_threshold(
        self, new_town: Any, stakes: tuple[int, ...]
    ) -> None:
        keys = (*MEMBERS, *AUTHORS)
        town = new_town(tuple(zip(keys, stakes, strict=False)))
        if not town.fits():
            pytest.skip(f"the step takes no committee with stakes {stakes}")
        async with town.opened() as step:
            need_votes(step)
            needed = town.needed(stakes)
            order = random.Random(sum(stakes)).sample(range(len(stakes)), len(stakes))
            stored = await town.seal(step)
            task = asyncio.create_task(step.approve(stored))
            signed = 0
            await step.cast([town.vote(STRANGER, 1)])
            for index in order:
                counted = (
                    f"stake {signed} of {sum(stakes)} signed, {needed} is needed "
                    f"({town.definition.quorum}), and the round is"
                )
                if signed >= needed:
                    await comes(task, f"{counted} not approved")
                else:
                    await settled(task)
                    assert not task.done(), f"{counted} approved"
                vote = town.vote(keys[index], 1)
                await step.cast([vote, vote])
                signed += stakes[index]
            await comes(task, "all voted, and the round is not approved")
            town.check([task.result()])

    async def test_votes_count_before_approve_is_called(self, ballot: Ballot) -> None:
        town = ballot.town
        for _ in range(2):
            await town.seal(ballot.step)
        for round in (3, 2, 1):
            outcomes = await ballot.cast(*ballot.votes(round))
            assert set(outcomes) == {VoteOutcome.COUNTED}, (
                f"a vote for round {round}, which is sealed, was not counted: {outcomes}"
            )
        tasks = [
            asyncio.create_task(ballot.step.approve(town.stored(round))) for round in (1, 2, 3)
        ]
        for task in tasks:
            await comes(
                task,
                "the votes were there before approve was called, and the rounds are not approved",
            )
        town.check([task.result() for task in tasks])

    async def test_votes_may_come_at_once(self, ballot: Ballot) -> None:
        town = ballot.town
        task = asyncio.create_task(ballot.step.approve(town.stored(1)))
        calls = [ballot.cast(vote) for vote in ballot.votes(1, len(ballot.keys))]
        again = [ballot.cast(vote) for vote in ballot.votes(1, 2)]
        outcomes = [one for [one] in await asyncio.gather(*calls, *again)]
        await comes(task, "all voted at once, and the round is not approved")
        town.check([task.result()])
        counted = {VoteOutcome.COUNTED, VoteOutcome.LATE}
        assert sum(outcome in counted for outcome in outcomes) == len(ballot.keys), (
            f"of {len(ballot.keys)} keys each has one vote that counts, or is late: {outcomes}"
        )

    async def test_votes_come_again_after_a_restart(self, ballot: Ballot) -> None:
        town = ballot.town
        await ballot.cast(*ballot.votes(1, 1))
        async with town.opened() as step:
            other = Ballot(town, step, ballot.keys, ballot.stakes)
            task = asyncio.create_task(step.approve(town.stored(1)))
            outcomes = await other.cast(*other.votes(1))
            assert set(outcomes) <= {
                VoteOutcome.COUNTED,
                VoteOutcome.REPEATED,
                VoteOutcome.LATE,
            }, f"representatives send their votes again after a restart: {outcomes}"
            await comes(task, "the votes came again after a restart, and do not certify")
            town.check([task.result()])

    async def test_the_status_says_what_the_city_waits_for(self, ballot: Ballot) -> None:
        town = ballot.town
        await ballot.cast(*ballot.votes(1, 1))
        status = await ballot.step.committee()
        members = {member.key_id: member.stake for member in status.members}
        assert members == dict(town.committee(1)), "members are the committee that judge named"
        assert status.round == 1, "the first round without a certificate is what is waited for"
        assert (status.stake_for, status.stake_needed) == (
            ballot.stakes[0],
            town.needed(ballot.stakes),
        ), "stake_for is what signed, stake_needed the least that certifies"
        assert (status.sealed_round, status.approved_round) == (1, 0)
        voted = {member.key_id: member.last_round for member in status.members}
        assert voted == {id_of(key): int(key is ballot.keys[0]) for key in ballot.keys}, (
            "last_round is the latest round that the member voted for, 0 for none"
        )

    # --- two votes

    @pytest.mark.parametrize("ours_first", [True, False])
    async def test_two_votes_of_a_key_are_proof_against_it(
        self, ballot: Ballot, ours_first: bool
    ) -> None:
        town, key = ballot.town, ballot.keys[0]
        ours, other = town.vote(key, 1), town.vote(key, 1, "other")
        first, second = (ours, other) if ours_first else (other, ours)
        expected = VoteOutcome.COUNTED if ours_first else VoteOutcome.OTHER_CHECKPOINT
        assert await ballot.cast(first) == [expected]
        assert not (await ballot.step.committee()).conflicting, "one vote is no proof of two"
        forged = second._replace(vote=Vote(second.vote.key_id, bytes(SIGNATURE_BYTES)))
        assert await ballot.cast(forged) == [VoteOutcome.BAD_SIGNATURE]
        assert not (await ballot.step.committee()).conflicting, (
            "a forged second vote was taken for proof against a key"
        )
        assert await ballot.cast(second) == [VoteOutcome.EQUIVOCATION], (
            "a key's vote for a second checkpoint of the round is an EQUIVOCATION"
        )
        for step in (ballot.step, None):
            async with town.opened() as reopened:
                status = await (step or reopened).committee()
            assert [key_id(proof.public_key) for proof in status.conflicting] == [id_of(key)], (
                "the proof of two votes is not in `conflicting`"
                + ("" if step else " after a restart: keep it by CityStorage.keep")
            )
            check_conflict(town, status.conflicting[0])

    async def test_a_vote_for_another_checkpoint_does_not_count(self, ballot: Ballot) -> None:
        task = asyncio.create_task(ballot.step.approve(ballot.town.stored(1)))
        votes = [ballot.town.vote(key, 1, "other") for key in ballot.keys]
        assert set(await ballot.cast(*votes)) == {VoteOutcome.OTHER_CHECKPOINT}
        await settled()
        assert not task.done(), "votes for another checkpoint approved this one"
        assert (await ballot.step.committee()).stake_for == 0
        task.cancel()
        await ended(task, "approve, cancelled while it waited,")
