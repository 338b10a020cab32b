"""Consensus tests: votes from elsewhere, for steps that take them."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Final

import pytest

from citychain import checkpoint
from citychain.client.actions import Data
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SIGNATURE_BYTES, SigningKey, verify
from citychain.errors import InvalidRequest, InvalidSignature
from citychain.ports import StoredRound, takes_votes
from citychain.testing.conformance._consensus_fronts import (
    Behind,
    TurningStorage,
    ended,
    settled,
)
from citychain.testing.conformance._consensus_town import Town
from citychain.testing.conformance._rounds import AUTHORS, MEMBERS, OPERATOR, START_MS, id_of
from citychain.types import (
    CastVote,
    Certificate,
    Objection,
    Recovery,
    Seat,
    Vote,
    VoteOutcome,
)

__all__ = ["Ballot", "VoteTests", "check_conflict"]

STRANGER: Final = SigningKey(b"?" * 32)
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
CALL: Final = 64
"""Votes of one call."""
KEPT_BYTES_MAX: Final = 1 << 20


@dataclass
class Ballot:
    """An opened step that takes votes, with a first round that waits for them; none is inside."""

    town: Town
    step: Any
    keys: list[SigningKey]
    """Of the first round's committee, whose stakes are ``stakes``."""
    stakes: list[int]

    @property
    def enough(self) -> int:
        """How many of the keys, from the first on, make a quorum."""
        needed = self.town.needed(self.stakes)
        return next(n for n in range(1, len(self.keys) + 1) if sum(self.stakes[:n]) >= needed)

    async def cast(self, *votes: CastVote) -> list[VoteOutcome]:
        """Their outcomes."""
        outcomes = list(await self.step.cast(list(votes)))
        assert len(outcomes) == len(votes), (
            f"cast gave {len(outcomes)} outcomes for {len(votes)} votes: one each, in order"
        )
        return outcomes

    def votes(self, round: int, count: int | None = None) -> list[CastVote]:
        """Of the first keys, as many as suffice."""
        return [self.town.vote(key, round) for key in self.keys[: count or self.enough]]

    async def approved(self, round: int = 1) -> Certificate:
        """Its certificate, which must be there now."""
        task: asyncio.Task[Certificate] = asyncio.create_task(
            self.step.approve(self.town.stored(round))
        )
        await settled(task)
        done = task.done()
        task.cancel()
        assert done, f"the votes for round {round} are a quorum's, and it is not approved"
        return task.result()


def check_conflict(town: Town, conflict: Any) -> None:
    """Hold a proof of two votes to what everybody can verify."""
    first, second = conflict.first, conflict.second
    assert first.round == second.round, "a proof of two votes is of one round"
    assert first.checkpoint_hash != second.checkpoint_hash, (
        "a proof of two votes is of two checkpoints"
    )
    for cast in (first, second):
        assert cast.vote.key_id == key_id(conflict.public_key), "a proof names another key"
        message = checkpoint.vote_message(town.genesis.id, cast.round, cast.checkpoint_hash)
        try:
            verify(conflict.public_key, message, checkpoint.VOTE_CONTEXT, cast.vote.signature)
        except InvalidSignature:
            pytest.fail("a signature in a proof of two votes does not hold: anybody can send one")


class VoteTests:
    """Part of `ConsensusSuite`."""

    many_votes: ClassVar[int]

    @pytest.fixture
    async def ballot(self, town: Town) -> AsyncIterator[Ballot]:
        async with town.opened() as step:
            if takes_votes(step) is None:
                pytest.skip("the step takes no votes: takes_votes(step) is None")
            await town.seal(step)
            seats = town.committee(1)
            keys = [town.keys[seat.key_id] for seat in seats]
            yield Ballot(town, step, keys, [seat.stake for seat in seats])

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
            if takes_votes(step) is None:
                pytest.skip("the step takes no votes: takes_votes(step) is None")
            needed = town.needed(stakes)
            order = random.Random(sum(stakes)).sample(range(len(stakes)), len(stakes))
            stored = await town.seal(step)
            task = asyncio.create_task(step.approve(stored))
            signed = 0
            await step.cast([town.vote(STRANGER, 1)])
            for index in order:
                await settled(task)
                assert task.done() == (signed >= needed), (
                    f"stake {signed} of {sum(stakes)} signed, {needed} is needed "
                    f"({town.definition.quorum}), and the round is "
                    f"{'approved' if task.done() else 'not approved'}"
                )
                vote = town.vote(keys[index], 1)
                await step.cast([vote, vote])
                signed += stakes[index]
            await settled(task)
            assert task.done(), "all voted, and the round is not approved"
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
        await settled(*tasks)
        assert all(task.done() for task in tasks), (
            "the votes were there before approve was called, and the rounds are not approved"
        )
        town.check([task.result() for task in tasks])

    async def test_votes_may_come_at_once(self, ballot: Ballot) -> None:
        town = ballot.town
        task = asyncio.create_task(ballot.step.approve(town.stored(1)))
        calls = [ballot.cast(vote) for vote in ballot.votes(1, len(ballot.keys))]
        again = [ballot.cast(vote) for vote in ballot.votes(1, 2)]
        outcomes = [one for [one] in await asyncio.gather(*calls, *again)]
        await settled(task)
        assert task.done(), "all voted at once, and the round is not approved"
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
            await settled(task)
            assert task.done(), "the votes came again after a restart, and do not certify"
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
        assert (await ballot.step.committee()).conflicting == (), "one vote is no proof of two"
        forged = second._replace(vote=Vote(second.vote.key_id, bytes(SIGNATURE_BYTES)))
        assert await ballot.cast(forged) == [VoteOutcome.BAD_SIGNATURE]
        assert (await ballot.step.committee()).conflicting == (), (
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

    # --- trouble

    async def test_approve_waits_and_can_be_cancelled(self, ballot: Ballot) -> None:
        town = ballot.town
        tasks = [asyncio.create_task(ballot.step.approve(town.stored(1))) for _ in range(2)]
        await settled()
        assert not any(task.done() for task in tasks), "nobody voted, and the round is approved"
        tasks[0].cancel()
        await ended(tasks[0], "approve, cancelled while it waited,")
        assert tasks[0].cancelled(), "approve did not let its cancellation through"
        await ballot.cast(*ballot.votes(1))
        await settled(tasks[1])
        assert tasks[1].done(), "one caller was cancelled, and the other waits for ever"
        town.check([tasks[1].result()])

    async def test_leaving_while_it_is_busy(self, town: Town) -> None:
        for turns in range(0, 40, 3):
            stack = town.opened()
            step = await stack.__aenter__()
            if takes_votes(step) is None:
                await stack.__aexit__(None, None, None)
                pytest.skip("the step takes no votes: takes_votes(step) is None")
            stored = await town.seal(step)
            round = stored.round
            calls = [
                asyncio.create_task(step.approve(stored)),
                asyncio.create_task(step.cast([town.vote(MEMBERS[0], round)])),
                asyncio.create_task(step.committee()),
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving = asyncio.create_task(_left(stack))
            await ended(leaving, "leaving the step while it is busy")
            leaving.result()
            for call in calls:
                call.cancel()
                await ended(call, "a call that was cancelled after the step was left")

    async def test_a_storage_that_fails_loses_no_vote(self, new_town: Any, town: Town) -> None:
        async with town.opened() as step:
            if takes_votes(step) is None:
                pytest.skip("the step takes no votes: takes_votes(step) is None")
            await town.seal(step)
        keys = [town.keys[seat.key_id] for seat in town.committee(1)]
        for number in range(1, 20):
            storage = TurningStorage(town.storage, {number})
            async with town.opened(storage=storage) as step:
                task = asyncio.create_task(_insistent(step, town.stored(1)))
                for key in keys:
                    vote = town.vote(key, 1)
                    try:
                        await step.cast([vote])
                    except Exception:  # The representative sends it again, whatever it was.
                        await step.cast([vote])
                await settled(task)
                assert task.done(), (
                    f"call {number} of the storage failed, all votes were cast again, and the "
                    "round is not approved"
                )
                town.check([task.result()])
            if storage.calls < number:
                return

    async def test_very_many_votes_take_no_memory(self, ballot: Ballot) -> None:
        town, choose = ballot.town, random.Random(5)

        def some(number: int) -> CastVote:
            good = town.vote(ballot.keys[0], 1)
            kind = number % 4
            if kind == 0:  # Signed, and for ever another checkpoint.
                return _unseen(town, ballot.keys[-1], number)
            signature = choose.randbytes(SIGNATURE_BYTES)
            if kind == 1:
                return good._replace(vote=Vote(id_of(ballot.keys[0]), signature))
            if kind == 2:
                return good._replace(vote=Vote(choose.randbytes(32), signature))
            return good._replace(round=2 + number, vote=Vote(good.vote.key_id, signature))

        numbers = iter(range(self.many_votes))
        await ballot.cast(*(some(number) for number in islice(numbers, CALL)))
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            while votes := [some(number) for number in islice(numbers, CALL)]:
                await ballot.cast(*votes)
                del votes
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert kept < KEPT_BYTES_MAX, (
            f"after {self.many_votes} votes that do not count, {kept >> 10} KiB more are in use: "
            "of a key keep one vote for another checkpoint a round, and of strangers none"
        )
        if len(ballot.keys) > ballot.enough:
            await ballot.cast(*ballot.votes(1))
            town.check([await ballot.approved()])

    async def test_votes_work_behind_a_proxy(self, ballot: Ballot) -> None:
        front = takes_votes(Behind(ballot.step))
        assert front is not None, "behind a proxy, nobody sees that the step takes votes"
        await front.cast(ballot.votes(1))
        ballot.town.check([await ballot.approved()])

    # --- objections and recoveries

    async def test_objections_are_shown_until_their_author_votes(self, ballot: Ballot) -> None:
        town, key = ballot.town, ballot.keys[0]
        good = _objection(town, key)
        forged = good._replace(detail="something else")
        await ballot.step.object([_objection(town, STRANGER), forged])
        status = await ballot.step.committee()
        assert [member.objection for member in status.members] == [None] * len(ballot.keys), (
            "an objection by a stranger, or with a signature that does not hold, was taken"
        )
        await ballot.step.object([good])
        shown = {it.key_id: it.objection for it in (await ballot.step.committee()).members}
        assert shown[id_of(key)] == good, "a member's objection is not shown"
        await ballot.cast(town.vote(key, 1))
        shown = {it.key_id: it.objection for it in (await ballot.step.committee()).members}
        assert shown[id_of(key)] is None, "it voted since: the objection is gone"

    async def test_a_recovery_puts_another_committee_in_office(self, ballot: Ballot) -> None:
        town, heir = ballot.town, AUTHORS[-1]
        recovery = Recovery(1, town.genesis.id, (Seat(id_of(heir), 1),))
        envelopes = [
            town.rounds.sign(key, recovery, created_at_ms=START_MS).envelope
            for key in (STRANGER, OPERATOR)
        ]
        with pytest.raises(InvalidRequest):
            await ballot.step.recover(envelopes[0], [heir.public_key])
        with pytest.raises(InvalidRequest):
            await ballot.step.recover(
                town.rounds.sign(OPERATOR, Data(b"no recovery")).envelope, [heir.public_key]
            )
        transaction = town.rounds.sign(OPERATOR, recovery, created_at_ms=START_MS + 1)
        assert not await ballot.step.recovers(transaction.tx_id)
        task = asyncio.create_task(ballot.step.approve(town.stored(1)))
        await ballot.cast(*ballot.votes(1, ballot.enough - 1) if ballot.enough > 1 else ())
        for _ in range(2):
            await ballot.step.recover(transaction.envelope, [heir.public_key])
        assert await ballot.step.recovers(transaction.tx_id)
        assert await ballot.cast(town.vote(ballot.keys[-1], 1), town.vote(heir, 1)) == [
            VoteOutcome.NO_SEAT,
            VoteOutcome.COUNTED,
        ], "from a recovery on, its seats alone have votes"
        await settled(task)
        assert task.done(), "the recovered committee voted, and the round is not approved"
        assert [vote.key_id for vote in task.result().votes] == [id_of(heir)]
        async with town.opened() as step:
            assert await step.recovers(transaction.tx_id), "a recovery is forgotten by a restart"


async def _insistent(step: Any, stored: StoredRound) -> Certificate:
    """Ask for a certificate as the server does: again, whatever went wrong."""
    while True:
        try:
            return await step.approve(stored)  # type: ignore[no-any-return]
        except Exception:
            await asyncio.sleep(0)


async def _left(stack: Any) -> None:
    await stack.__aexit__(None, None, None)


def _unseen(town: Town, key: SigningKey, number: int) -> CastVote:
    digest = number.to_bytes(32, "big")
    message = checkpoint.vote_message(town.genesis.id, 1, digest)
    signature = key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True)
    return CastVote(1, digest, Vote(id_of(key), signature))


def _objection(town: Town, key: SigningKey) -> Objection:
    fields: tuple[int, bytes, str, str] = (1, town.stored(1).checkpoint_hash, "replay", "seq 3")
    message = checkpoint.objection_message(town.genesis.id, *fields)
    return Objection(*fields, id_of(key), key.sign(message, checkpoint.OBJECTION_CONTEXT))
