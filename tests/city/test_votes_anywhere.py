"""Representatives vote through any server: the leader counts what reached the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from city.sharing import Servers, final, leader, sign, submit

from citychain import checkpoint, notes
from citychain.city.pipeline import City
from citychain.client.keys import load_key
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import NotLeading
from citychain.notes import RELAYED_VOTES
from citychain.ports import StoredRound
from citychain.types import (
    CastVote,
    Objection,
    Recovery,
    Seat,
    Vote,
    VoteOutcome,
)

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 5)]
TABLE = {
    "consensus": "poh-pop",
    "committee": [{"public_key": key.public_key.hex()} for key in KEYS[:3]],
}


def vote(city: City, key: SigningKey, round: int, digest: bytes) -> CastVote:
    message = checkpoint.vote_message(city.genesis.id, round, digest)
    signature = key.sign(message, checkpoint.VOTE_CONTEXT, deterministic=True)
    return CastVote(round, digest, Vote(key_id(key.public_key), signature))


class Voter:
    """Votes for what it sees on a server, through that server."""

    def __init__(self, city: City, keys: list[SigningKey]) -> None:
        self._city = city
        self._keys = keys
        self._work = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for stored in self._city.stream_rounds(1, sealed=True):
            votes = [
                vote(self._city, key, stored.round, stored.checkpoint_hash) for key in self._keys
            ]
            # Again until it is certified, as representatives do.
            while (await self._city.head()).certified_round < stored.round:
                await self._city.voting.cast(votes)  # type: ignore[union-attr]
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        self._work.cancel()
        await asyncio.wait({self._work})


async def first_round(city: City) -> StoredRound:
    """As soon as a server tells of it."""
    async for stored in city.stream_rounds(1, sealed=True):
        return stored
    raise AssertionError


async def led(servers: Servers, count: int) -> tuple[City, list[City]]:
    """Who leads, and the others."""
    cities = [await (await servers.start(TABLE)).city() for _ in range(count)]
    one = await leader(*cities)
    return one, [city for city in cities if city is not one]


async def test_votes_count_wherever_they_arrive(servers: Servers) -> None:
    first, [second, third] = await led(servers, 3)
    voters = [Voter(second, KEYS[:1]), Voter(third, KEYS[1:2]), Voter(first, KEYS[2:3])]
    sent = []
    for city in (first, second, third):
        await submit(city, batch := sign(city, 2))
        await asyncio.gather(*(final(one, batch) for one in (first, second, third)))
        sent += batch
    for voter in voters:
        await voter.stop()
    await servers.check(first, sent)
    assert len(await first.storage.notes(RELAYED_VOTES)) == 2


async def test_votes_that_another_server_relayed_count_after_the_lead_passed_on(
    servers: Servers,
) -> None:
    first, [second, third] = await led(servers, 3)
    await submit(first, batch := sign(first))
    stored = await first_round(third)
    votes = [vote(third, key, 1, stored.checkpoint_hash) for key in KEYS[:3]]
    assert await third.voting.cast(votes[:2]) == [VoteOutcome.COUNTED] * 2  # type: ignore[union-attr]
    epoch = await first.step_down()
    assert epoch is not None
    await second.storage.release_lease(epoch)
    await leader(second, third)
    last = second if second.leads else third
    assert last.voting is not None
    await last.voting.cast(votes[2:])
    await asyncio.gather(*(final(city, batch) for city in (first, second, third)))


async def test_a_follower_knows_of_votes_that_reached_another_one(servers: Servers) -> None:
    first, [second, third] = await led(servers, 3)
    await submit(first, sign(first))
    stored = await first_round(second)
    await first_round(third)
    assert second.voting is not None
    assert third.voting is not None
    await second.voting.cast([vote(second, KEYS[0], 1, stored.checkpoint_hash)])
    async with asyncio.timeout(120):
        while not (await third.voting.committee()).stake_for:
            await asyncio.sleep(0.01)


async def test_what_is_not_signed_is_not_relayed(servers: Servers) -> None:
    _, [second] = await led(servers, 2)
    await submit(second, sign(second))
    stored = await first_round(second)
    good = vote(second, KEYS[0], 1, stored.checkpoint_hash)
    bad = good._replace(vote=good.vote._replace(signature=bytes(len(good.vote.signature))))
    stranger = vote(second, KEYS[3], 1, stored.checkpoint_hash)
    early = vote(second, KEYS[0], 9, stored.checkpoint_hash)
    assert second.voting is not None
    assert await second.voting.cast([bad, stranger, early]) == [
        VoteOutcome.BAD_SIGNATURE,
        VoteOutcome.NO_SEAT,
        VoteOutcome.UNKNOWN_ROUND,
    ]
    assert await second.storage.notes(RELAYED_VOTES) == {}


@pytest.mark.parametrize("shared", [False, True], ids=["apart", "in one place"])
async def test_two_votes_of_a_key_through_two_servers_accuse_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    # By chance, one time in sixteen, two servers leave their notes in the same place at first.
    places: dict[str, int] = {}

    def place(server: str, moves: int = 0) -> str:
        return f"{moves if shared else places.setdefault(server, len(places)):x}"

    monkeypatch.setattr(notes, "relay_slot", place)
    first, [second, third] = await led(servers, 3)
    await submit(first, sign(first))
    said = [(second, bytes(32)), (third, (await first_round(third)).checkpoint_hash)]
    await first_round(second)
    votes = [(city, vote(city, KEYS[0], 1, digest)) for city, digest in said]
    assert first.voting is not None
    async with asyncio.timeout(120):
        while not (await first.voting.committee()).conflicting:
            # Again, as representatives do: what is not in a note by then comes into one.
            for city, one in votes:
                assert city.voting is not None
                await city.voting.cast([one])
                await asyncio.sleep(0.01)
    voters = [Voter(city, KEYS[1:3]) for city in (first, second)]
    async with asyncio.timeout(120):
        while not await first.storage.notes("accused/"):
            await asyncio.sleep(0.01)
    for voter in voters:
        await voter.stop()


async def test_objections_are_heard_of_wherever_they_arrive(servers: Servers) -> None:
    first, [second] = await led(servers, 2)
    await submit(first, sign(first))
    stored = await first_round(second)
    said: Any = (1, stored.checkpoint_hash, "verdict", "it is wrong")
    message = checkpoint.objection_message(second.genesis.id, *said)
    signature = KEYS[0].sign(message, checkpoint.OBJECTION_CONTEXT, deterministic=True)
    assert second.voting is not None
    await second.voting.object([Objection(*said, key_id(KEYS[0].public_key), signature)])
    assert first.voting is not None
    async with asyncio.timeout(120):
        while not any(m.objection for m in (await first.voting.committee()).members):
            await asyncio.sleep(0.01)


async def test_a_recovery_goes_to_the_leader_and_is_known_everywhere(
    servers: Servers, tmp_path: Any
) -> None:
    first, [second] = await led(servers, 2)
    operator = load_key(tmp_path / "operator.key")
    recovery = Recovery(1, first.genesis.id, (Seat(key_id(KEYS[3].public_key), 1),))
    signed = sign_transaction(operator, genesis=first.genesis.id, action=recovery)
    assert first.voting is not None
    assert second.voting is not None
    # The follower has read who is in office before.
    assert not await second.voting.recovers(signed.tx_id)
    with pytest.raises(NotLeading, match="another server leads city tokyo"):
        await second.voting.recover(signed.envelope, [KEYS[3].public_key])
    await first.voting.recover(signed.envelope, [KEYS[3].public_key])
    assert await second.voting.recovers(signed.tx_id)
    await submit(second, batch := sign(second))
    voter = Voter(second, KEYS[3:])
    await asyncio.gather(final(first, batch), final(second, batch))
    await voter.stop()
