"""Consensus tests: votes amid trouble, objections and recoveries."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from itertools import islice
from typing import Any, ClassVar, Final

import pytest

from citychain import checkpoint
from citychain.client.actions import Data
from citychain.crypto.signatures import SIGNATURE_BYTES, SigningKey
from citychain.errors import InvalidRequest
from citychain.ports import StoredRound, takes_votes
from citychain.testing.conformance._consensus_ballot import (
    STRANGER,
    Ballot,
    WithBallot,
    need_votes,
)
from citychain.testing.conformance._consensus_fronts import (
    Behind,
    TurningStorage,
    comes,
    ended,
    settled,
)
from citychain.testing.conformance._consensus_town import Town
from citychain.testing.conformance._rounds import AUTHORS, MEMBERS, OPERATOR, START_MS, id_of
from citychain.types import CastVote, Certificate, Objection, Recovery, Seat, Vote, VoteOutcome

__all__ = ["OfficeTests"]

CALL: Final = 64
"""Votes of one call."""
KEPT_BYTES_MAX: Final = 1 << 20


class OfficeTests(WithBallot):
    """Part of `ConsensusSuite`."""

    many_votes: ClassVar[int]

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
        await comes(tasks[1], "one caller was cancelled, and the other waits for ever")
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
            need_votes(step)
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
                await comes(
                    task,
                    f"call {number} of the storage failed, all votes were cast again, and the "
                    "round is not approved",
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
        await comes(task, "the recovered committee voted, and the round is not approved")
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
