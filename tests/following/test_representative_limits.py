"""What a representative never signs, and what one representative can do to the others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from following.conftest import REPRESENTATIVES, OpenRepresentative, tokyo
from following.test_representative import RICH, entangled, running, settle
from free_ports import free_address

from citychain import checkpoint
from citychain.city.approver import ROUNDS_MAX, STALLED_SECONDS
from citychain.client.city import CityClient
from citychain.clock import SystemClock
from citychain.errors import InvalidRound, Overloaded
from citychain.following.timeliness import CLOCK_BOUND_MS, WAITED_SECONDS
from citychain.testing import FailingStorage
from citychain.testing.server import CityServerFactory
from citychain.types import CastVote, Certificate, State, Vote, VoteOutcome


class OffClock(SystemClock):
    """A clock that is wrong by so many milliseconds."""

    def __init__(self) -> None:
        self.off_ms = 0

    def time_ms(self) -> int:
        return super().time_ms() + self.off_ms


async def _objection(city: CityClient) -> Any:
    async with asyncio.timeout(120):
        while (objection := (await city.committee()).members[0].objection) is None:
            await asyncio.sleep(0.02)
    return objection


@pytest.mark.parametrize("off_ms", [2 * CLOCK_BOUND_MS, -2 * CLOCK_BOUND_MS])
async def test_a_round_of_another_time_gets_no_vote(
    city_server: CityServerFactory, representative: OpenRepresentative, off_ms: int
) -> None:
    """Dated ahead always; dated back where the representative was there to see."""
    clock = OffClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH), clock=clock))
        city = await stack.enter_async_context(server.client("tokyo"))
        clock.off_ms = min(off_ms, 0)
        async with representative(server, 0) as honest, running(honest):
            if off_ms < 0:
                # Time never goes back in a ledger: the first round is already dated back.
                await asyncio.sleep(WAITED_SECONDS + 0.2)
            clock.off_ms = off_ms
            await settle(city, 1, State.SEALED)
            assert (await _objection(city)).check == "time"
            assert (await city.info()).head.certified_round == 0
        # And not when it comes again, nor by a representative that begins anew.
        async with representative(server, 0) as again, running(again):
            await asyncio.sleep(1)
            assert (await city.info()).head.certified_round == 0


async def test_a_slow_clock_within_the_bound_is_no_lie(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    clock = OffClock()
    clock.off_ms = -CLOCK_BOUND_MS // 2
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH), clock=clock))
        city = await stack.enter_async_context(server.client("tokyo"))
        honest = await stack.enter_async_context(representative(server, 0))
        async with running(honest):
            await settle(city, 1)


async def test_a_certificate_of_nobody_excuses_no_wrong_time(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    clock = OffClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH), clock=clock))
        city = await stack.enter_async_context(server.client("tokyo"))
        clock.off_ms = 100 * CLOCK_BOUND_MS
        await settle(city, 1, State.SEALED)
        [stored] = await city.rounds(1, 1)
        honest = await stack.enter_async_context(representative(server, 0))
        vote = Vote(honest.key_id, bytes(4_627))
        forged = replace(stored, certificate=Certificate(1, stored.checkpoint_hash, (vote,)))
        assert not await honest._is_certified(forged)
        signature = REPRESENTATIVES[0].sign(
            checkpoint.vote_message((await city.info()).genesis, 1, stored.checkpoint_hash),
            checkpoint.VOTE_CONTEXT,
        )
        real = Certificate(1, stored.checkpoint_hash, (Vote(honest.key_id, signature),))
        assert await honest._is_certified(replace(stored, certificate=real))


async def test_votes_are_kept_until_their_certificate_is_durable(
    city_server: CityServerFactory, representative: OpenRepresentative, tmp_path: Path
) -> None:
    cities = tokyo(1, balances=RICH, storage="sqlite")
    place = tmp_path / "server"
    full = FailingStorage("certify")
    async with AsyncExitStack() as stack:
        listen = {"listen": free_address(), "drain_seconds": 1}
        async with city_server(
            cities, {"tokyo": {"storage": full}}, directory=place, server=listen
        ) as server:
            city = await stack.enter_async_context(server.client("tokyo"))
            honest = await stack.enter_async_context(representative(server, 0))
            await stack.enter_async_context(running(honest))
            ids = await settle(city, 1, State.SEALED)
            while full.calls["certify"] < 2:
                await asyncio.sleep(0.05)
        await stack.enter_async_context(city_server(cities, directory=place, server=listen))
        await city.wait(ids)


async def test_another_history_of_the_same_city_gets_no_vote(
    city_server: CityServerFactory, representative: OpenRepresentative, tmp_path: Path
) -> None:
    """The server forgets everything but its genesis, and begins again."""
    cities = tokyo(1, storage="sqlite", balances=RICH)
    place, again = tmp_path / "server", tmp_path / "again"
    async with (
        city_server(cities, directory=place) as server,
        server.client("tokyo") as city,
        representative(server, 0) as honest,
        running(honest),
    ):
        for seed in range(3):
            await settle(city, seed)
        first = await city.rounds(1, 100)
    again.mkdir()
    shutil.copy(place / "operator.key", again)
    shutil.copytree(place / "data" / "genesis", again / "data" / "genesis")
    objections: list[InvalidRound] = []
    heard = asyncio.Event()

    def objected(error: InvalidRound) -> None:
        objections.append(error)
        heard.set()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(cities, directory=again))
        city = await stack.enter_async_context(server.client("tokyo"))
        assert (await city.info()).genesis
        honest = await stack.enter_async_context(representative(server, 0, objected=objected))
        async with running(honest):
            for seed in range(10, 10 + len(first) + 2):
                await settle(city, seed, State.SEALED)
                if heard.is_set() or (await city.info()).head.round > len(first):
                    break
            await heard.wait()
            assert objections[0].round == len(first) + 1
            status = await city.committee()
            assert (status.round, status.stake_for) == (1, 0)
            assert not status.conflicting
            kept = [stored.checkpoint_hash for stored in await honest._storage.rounds(1, 100)]
            assert kept == [stored.checkpoint_hash for stored in first]


class HastyClock(SystemClock):
    """A clock whose seconds can be skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


async def test_a_city_that_approves_nothing_refuses_new_work_and_says_why(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    clock = HastyClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, balances=RICH), clock=clock))
        city = await stack.enter_async_context(server.client("tokyo"))
        genesis = (await city.info()).genesis
        for seed in range(ROUNDS_MAX + 1):
            await settle(city, seed, State.SEALED)
        clock.skipped = 2 * STALLED_SECONDS
        with pytest.raises(Overloaded, match=r"round 1 waits for its certificate.*silent"):
            await city.submit(entangled(genesis, 99), timeout=timedelta(seconds=5))
        late = await stack.enter_async_context(representative(server, 0))
        async with running(late):
            await settle(city, 100)


async def test_several_keys_vote_inside_one_server(
    city_server: CityServerFactory, tmp_path: Path, key_file: Callable[[int], Path]
) -> None:
    keys = [str(key_file(number)) for number in range(3)]
    cities = tokyo(1, 1, 1, 1, balances=RICH, representatives=keys)
    async with city_server(cities) as server, server.client("tokyo") as city:
        await settle(city, 1)
        [stored] = await city.rounds(1, 1)
        assert stored.certificate is not None
        assert len(stored.certificate.votes) == 3


async def test_one_that_signs_two_checkpoints_is_shown_to_everybody(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, 1, 1, 1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        genesis = (await city.info()).genesis
        three = [await stack.enter_async_context(representative(server, n)) for n in range(3)]
        async with running(*three):
            ids = await settle(city, 1)
            liar, other = REPRESENTATIVES[0], bytes(32)
            message = checkpoint.vote_message(genesis, 1, other)
            signature = liar.sign(message, checkpoint.VOTE_CONTEXT)
            outcome = await city.cast_votes([CastVote(1, other, Vote(three[0].key_id, signature))])
            assert outcome == [VoteOutcome.EQUIVOCATION]
            [conflict] = (await city.committee()).conflicting
            assert conflict.public_key == liar.public_key
            assert {conflict.first.checkpoint_hash, conflict.second.checkpoint_hash} > {other}
            # The city accuses it on the ledger, and the others go on.
            excluded = f"$excluded/{three[0].key_id.hex()}"
            await settle(city, 2)
            while not (await city.objects([excluded]))[excluded].version:
                await asyncio.sleep(0.02)
        assert len(await city.receipts(ids)) == len(ids)


async def test_a_vote_of_nobody_or_for_nothing_does_not_count(
    city_server: CityServerFactory, representative: OpenRepresentative
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(tokyo(1, 1, 1, balances=RICH)))
        city = await stack.enter_async_context(server.client("tokyo"))
        await settle(city, 1, State.SEALED)
        genesis = (await city.info()).genesis
        [stored] = await city.rounds(1, 1)
        digest = stored.checkpoint_hash
        stranger = REPRESENTATIVES[4]
        first = await stack.enter_async_context(representative(server, 0))
        good = REPRESENTATIVES[0].sign(
            checkpoint.vote_message(genesis, 1, digest), checkpoint.VOTE_CONTEXT
        )
        stranger_id = (await stack.enter_async_context(representative(server, 4))).key_id
        strange = stranger.sign(
            checkpoint.vote_message(genesis, 1, digest), checkpoint.VOTE_CONTEXT
        )
        votes = [
            CastVote(1, digest, Vote(stranger_id, strange)),
            CastVote(1, digest, Vote(first.key_id, strange)),
            CastVote(99, digest, Vote(first.key_id, good)),
            CastVote(1, digest, Vote(first.key_id, good)),
            CastVote(1, digest, Vote(first.key_id, good)),
        ]
        assert await city.cast_votes(votes) == [
            VoteOutcome.NO_SEAT,
            VoteOutcome.BAD_SIGNATURE,
            VoteOutcome.UNKNOWN_ROUND,
            VoteOutcome.COUNTED,
            VoteOutcome.REPEATED,
        ]
        assert (await city.committee()).stake_for == 1
