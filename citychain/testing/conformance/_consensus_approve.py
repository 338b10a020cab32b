"""Consensus tests: certificates, by keys that vote inside the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from citychain import checkpoint
from citychain._native.transactions import Transaction
from citychain.crypto.signatures import SigningKey
from citychain.ports import ConsensusStep, StoredRound, takes_votes
from citychain.testing.conformance._consensus_fronts import (
    Behind,
    OnlyState,
    TurningStorage,
    cancelled_at_each_await,
    comes,
    ended,
    settled,
)
from citychain.testing.conformance._consensus_town import Batches, Town
from citychain.types import Certificate, PohEntry

__all__ = ["ApproveTests", "other_version"]

FAILURES_MAX = 40
"""Calls of the storage that fail in turn."""


def other_version(stored: StoredRound) -> StoredRound:
    """Another checkpoint of the same round, as only a liar has it."""
    entry = PohEntry(b"o" * 32, 1, b"o" * 32, b"o" * 32)
    other = checkpoint.with_poh(checkpoint.without_poh(stored.checkpoint), entry)
    return replace(stored, checkpoint=other, checkpoint_hash=checkpoint.checkpoint_hash(other))


class ApproveTests:
    """Part of `ConsensusSuite`."""

    def life(self, town: Town, batches: Batches) -> Iterator[list[Transaction]]:
        raise NotImplementedError

    async def test_certificates_verify(
        self, town: Town, batches: Batches, representatives: Sequence[SigningKey]
    ) -> None:
        certificates = []
        async with town.opened(representatives) as step:
            for new in self.life(town, batches):
                certificates.append(await _approved(step, await town.seal(step, new)))
                await town.storage.certify(certificates[-1:])
        town.check(certificates)
        town.signed.check()

    async def test_rounds_are_approved_at_once_and_in_any_order(
        self, town: Town, batches: Batches, representatives: Sequence[SigningKey]
    ) -> None:
        async with town.opened(representatives) as step:
            rounds = [await town.seal(step, new) for new in self.life(town, batches)]
            order = [*rounds[1::2], *rounds[::2][::-1]]
            certificates = await asyncio.gather(*(_approved(step, round) for round in order))
        town.check(sorted(certificates, key=lambda certificate: certificate.round))
        town.signed.check()

    async def test_a_restart_repeats_the_votes(
        self, town: Town, batches: Batches, representatives: Sequence[SigningKey]
    ) -> None:
        async with town.opened(representatives) as step:
            rounds = [await town.seal(step, new) for new in self.life(town, batches)]
            first = [await _approved(step, round) for round in rounds]
        for certified in (False, True):
            if certified:
                await town.storage.certify(first)
            async with town.opened(representatives) as step:
                again = [await _approved(step, round) for round in rounds]
            town.check(again)
            for one, other in zip(first, again, strict=True):
                before, after = ({vote.key_id for vote in it.votes} for it in (one, other))
                assert before <= after, (
                    f"after a restart, round {one.round} lacks a vote that it had: a "
                    "representative that voted must repeat that vote"
                )
        town.signed.check()

    async def test_no_key_signs_two_checkpoints_of_a_round(
        self, town: Town, representatives: Sequence[SigningKey]
    ) -> None:
        async with town.opened(representatives) as step:
            rounds = [await town.seal(step) for _ in range(3)]
            lie = other_version(rounds[0])
            await _asked_to_lie(step, lie, rounds[0])
            certificates = [await _approved(step, round) for round in rounds]
            await _asked_to_lie(step, lie, rounds[0])
        async with town.opened(representatives) as step:
            await _asked_to_lie(step, lie, rounds[0])
            await _approved(step, rounds[0])
        town.signed.check()
        town.check(certificates)

    async def test_approving_can_be_cancelled_at_each_await(
        self, town: Town, representatives: Sequence[SigningKey]
    ) -> None:
        storage = TurningStorage(town.storage)
        async with town.opened(representatives, storage=storage) as step:
            rounds: list[StoredRound] = []

            async def check() -> None:
                rounds.append(await town.seal(step))
                for round in rounds[-3:]:
                    await _approved(step, round)

            async def approve() -> Certificate:
                # The one before is approved, and each call has a round that is new.
                return await step.approve(rounds[-1])  # type: ignore[no-any-return]

            rounds.append(await town.seal(step))
            await cancelled_at_each_await(approve, "approve", check)
            town.check([await _approved(step, round) for round in rounds])
        async with town.opened(representatives, storage=storage) as step:
            rounds = [await town.seal(step)]
            first = rounds[0]
            await cancelled_at_each_await(lambda: step.approve(first), "approve", settled)
            assert (await _approved(step, first)).checkpoint_hash == first.checkpoint_hash
        town.signed.check()

    async def test_a_storage_that_fails_is_survived(
        self, town: Town, representatives: Sequence[SigningKey]
    ) -> None:
        certificates: list[Certificate]
        async with town.opened() as step:
            rounds = [await town.seal(step) for _ in range(2)]
        for number in range(1, FAILURES_MAX):
            storage = TurningStorage(town.storage, {number})
            async with town.opened(representatives, storage=storage) as step:
                certificates = []
                for round in rounds:
                    try:
                        certificate = await _approved(step, round)
                    except Exception:  # The approver asks again, whatever it was.
                        certificate = await _approved(step, round)
                    certificates.append(certificate)
            town.check(certificates)
            if storage.calls < number:
                break
        town.signed.check()

    async def test_who_only_follows_approves_nothing(self, town: Town) -> None:
        async with town.opened() as step:
            stored = await town.seal(step)
        async with town.opened(followed=True) as step:
            task = asyncio.create_task(step.approve(stored))
            await settled(task)
            assert not task.done() or task.exception() is not None, (
                "a step without keys gave a certificate: who only follows a city cannot approve"
            )
            task.cancel()
            await ended(task, "approve, where the city is only followed and it was cancelled,")

    async def test_leaving_does_not_wait_for_what_was_cancelled(
        self, town: Town, representatives: Sequence[SigningKey]
    ) -> None:
        """As the server closes a city: approving is cancelled, then the step is left."""
        for turns in range(0, 40, 3):
            async with AsyncExitStack() as stack:
                step = await stack.enter_async_context(town.opened(representatives))
                stored = await town.seal(step)
                tasks = [asyncio.create_task(step.approve(stored)) for _ in range(2)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                leaving = asyncio.create_task(stack.aclose())
                await ended(leaving, "leaving the step")
                leaving.result()
                for task in tasks:
                    await ended(task, "approve, cancelled while the city closes,")
        town.signed.check()

    async def test_it_works_behind_a_proxy(
        self, town: Town, batches: Batches, representatives: Sequence[SigningKey]
    ) -> None:
        """What a server wraps for a test, a recorder or a fake, is no instance of its class."""
        storage = Behind(town.storage)
        async with town.opened(representatives, storage=storage) as real:
            step: Any = Behind(real)
            assert (takes_votes(step) is None) == (takes_votes(real) is None), (
                "behind a proxy the step does not take votes as it does without: its methods must "
                "be found by getattr"
            )
            certificates = []
            for new in self.life(town, batches):
                candidates = tuple(town.rounds.candidates(new).transactions)
                state = OnlyState(Behind(town.storage))
                await step.judge(town.rounds.round, candidates, state)
                certificates.append(await _approved(step, await town.seal(step, new)))
            town.check(certificates)


async def _asked_to_lie(step: ConsensusStep, lie: StoredRound, truth: StoredRound) -> None:
    task = asyncio.create_task(step.approve(lie))
    await settled(task)
    if task.done() and not task.cancelled() and task.exception() is None:
        given = task.result().checkpoint_hash
        assert given == truth.checkpoint_hash, (
            "approve gave a certificate for a checkpoint that is not the durable one of its round: "
            "refuse it, or stay with the first"
        )
    task.cancel()
    await ended(task, "approve, cancelled while it waited,")


async def _approved(step: ConsensusStep, stored: StoredRound) -> Certificate:
    """A round's certificate, by the keys inside the server alone."""
    task = asyncio.create_task(step.approve(stored))
    await comes(
        task,
        f"round {stored.round} is not approved, though all its committee votes inside the "
        "server: approve waits for something else. Where it needs further keys, override the "
        "fixture `representatives`",
    )
    certificate = task.result()
    assert (certificate.round, certificate.checkpoint_hash) == (
        stored.round,
        stored.checkpoint_hash,
    ), f"asked to approve round {stored.round}, the step certified something else"
    return certificate
