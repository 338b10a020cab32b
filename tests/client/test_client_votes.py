"""Representatives elsewhere, against a real server: votes, what waits for them, a recovery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rpc.fakes import FakeCity, make_round

from citychain import checkpoint
from citychain.client import (
    CityClient,
    Refused,
    SignedTransaction,
    load_key,
    retries,
    sign_transaction,
    verify_receipt,
)
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidReceipt, InvalidRequest, NotSupported, Overloaded
from citychain.handler import Received
from citychain.ports import StoredRound
from citychain.rpc.services import votes as votes_service
from citychain.testing.faults import StallingStorage
from citychain.testing.server import CityServerFactory
from citychain.types import CastVote, Handover, Objection, Recovery, Seat, State, Vote, VoteOutcome

AUTHOR = SigningKey(b"a" * 32)
KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 6)]
IDS = [key_id(key.public_key) for key in KEYS]


class Town:
    """A city whose committee are the first three of `KEYS`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._factory = CityServerFactory(directory)
        self._sent = 0
        self.genesis = b""

    @asynccontextmanager
    async def open(self, **table: Any) -> AsyncIterator[CityClient]:
        """The server, started (again)."""
        city = {
            "storage": "sqlite",
            "consensus": "poh-pop",
            "committee": [{"public_key": key.public_key.hex()} for key in KEYS[:3]],
            **table,
        }
        async with (
            self._factory({"tokyo": city}, directory=self._directory) as server,
            server.client("tokyo") as client,
        ):
            self.genesis = (await client.info()).genesis
            yield client

    @property
    def operator(self) -> SigningKey:
        return load_key(self._directory / "operator.key")

    def transaction(self) -> SignedTransaction:
        self._sent += 1
        return sign_transaction(
            AUTHOR, genesis=self.genesis, data=b"%d" % self._sent, with_public_key=True
        )

    async def sealed(self, client: CityClient, rounds: int = 1) -> list[SignedTransaction]:
        """Transactions, each sealed in a round of its own."""
        sent = []
        for _ in range(rounds):
            sent.append(self.transaction())
            await client.submit([sent[-1]])
            await client.wait([sent[-1].tx_id], State.SEALED)
        return sent

    def vote(self, number: int, stored: StoredRound, digest: bytes | None = None) -> CastVote:
        digest = digest or stored.checkpoint_hash
        message = checkpoint.vote_message(self.genesis, stored.round, digest)
        signature = KEYS[number].sign(message, checkpoint.VOTE_CONTEXT)
        return CastVote(stored.round, digest, Vote(IDS[number], signature))

    async def approve(self, client: CityClient, *numbers: int) -> list[StoredRound]:
        """Vote with these keys for every round that waits."""
        head = (await client.info()).head
        rounds = await client.rounds(head.certified_round + 1, 100)
        for stored in rounds:
            await client.cast_votes([self.vote(number, stored) for number in numbers])
        return rounds


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def test_representatives_elsewhere_approve_what_the_city_sealed(town: Town) -> None:
    async with town.open() as client:
        [sent] = await town.sealed(client)
        [stored] = await client.rounds()
        assert stored.certificate is None
        status = await client.committee()
        assert (status.round, status.stake_for, status.stake_needed) == (1, 0, 2)
        votes = [town.vote(number, stored) for number in (0, 1, 2)]
        first = votes[0]
        unsigned = first._replace(vote=Vote(IDS[1], first.vote.signature))
        assert await client.cast_votes([first, first, unsigned]) == [
            VoteOutcome.COUNTED,
            VoteOutcome.REPEATED,
            VoteOutcome.BAD_SIGNATURE,
        ]
        assert await client.cast_votes([votes[1]]) == [VoteOutcome.COUNTED]
        events = await client.wait([sent.tx_id])
        assert events[sent.tx_id].state == State.APPROVED
        assert await client.cast_votes([votes[2]]) == [VoteOutcome.LATE]
        [stored] = await client.rounds()
        assert stored.certificate is not None
        assert {vote.key_id for vote in stored.certificate.votes} == set(IDS[:2])
        members = (await client.committee()).members
        assert [(one.key_id, one.last_round) for one in members] == [(id, 1) for id in IDS[:3]]


async def test_approved_is_what_is_durable(tmp_path: Path) -> None:
    storage = StallingStorage("certify")
    city = {"consensus": "poh-pop"}
    async with (
        CityServerFactory(tmp_path)({"tokyo": city}, {"tokyo": {"storage": storage}}) as server,
        server.client("tokyo") as client,
    ):
        genesis = (await client.info()).genesis
        sent = sign_transaction(AUTHOR, genesis=genesis, data=b"x", with_public_key=True)
        await client.submit([sent])
        await storage.reached()
        status = await client.committee()
        assert (status.round, status.sealed_round, status.approved_round) == (2, 1, 0)
        storage.release()
        await client.wait([sent.tx_id])
        status = await client.committee()
        assert (status.round, status.sealed_round, status.approved_round) == (2, 1, 1)


async def test_an_objection_is_shown(town: Town) -> None:
    async with town.open() as client:
        await town.sealed(client)
        [stored] = await client.rounds()
        fields = (1, stored.checkpoint_hash, "replay", "seq 0 differs")
        message = checkpoint.objection_message(town.genesis, *fields)
        signature = KEYS[2].sign(message, checkpoint.OBJECTION_CONTEXT)
        objection = Objection(*fields, IDS[2], signature)
        assert await client.cast_votes([], [objection]) == []
        assert (await client.committee()).members[2].objection == objection


async def test_rounds_that_wait_survive_a_restart(town: Town) -> None:
    async with town.open() as client:
        sent = await town.sealed(client, 3)
        await client.cast_votes([town.vote(0, stored) for stored in await client.rounds()])
    async with town.open() as client:
        await town.approve(client, 1)
        assert (await client.committee()).stake_for == 1, "votes come again"
        await town.approve(client, 0)
        events = await client.wait([each.tx_id for each in sent])
        assert {event.state for event in events.values()} == {State.APPROVED}


async def test_a_city_that_waits_for_votes_fills_up_and_says_why(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.open(limits={"pending_transactions": 3}) as client:
        # The ninth round waits for a place among those to be approved; what comes then stays.
        await town.sealed(client, 9)
        for _ in range(3):
            await client.submit([town.transaction()])
        [first, *_] = await client.rounds()
        await client.cast_votes([town.vote(0, first)])
        silent = ", ".join(f"{id.hex()[:12]}…" for id in IDS[1:3])
        with monkeypatch.context() as impatient:
            # Longer than the client has.
            impatient.setattr(retries, "BACKOFF_SECONDS", (3_600.0, 3_600.0))
            with pytest.raises(Overloaded) as caught:
                await client.submit([town.transaction()])
        assert str(caught.value) == (
            "3 transactions are pending; round 1 waits for its certificate: stake 1 of 3 signed, "
            f"2 needed; silent: {silent}"
        )
        # With the votes all goes on.
        while (head := (await client.info()).head).certified_round < head.round or head.round < 10:
            await town.approve(client, 0, 1)
        await client.submit([town.transaction()])


async def test_who_signs_two_checkpoints_is_accused_in_the_ledger(town: Town) -> None:
    async with town.open() as client:
        await town.sealed(client)
        [stored] = await client.rounds()
        votes = [town.vote(0, stored), town.vote(0, stored, b"x" * 32)]
        assert (await client.cast_votes(votes))[1] == VoteOutcome.EQUIVOCATION
        [conflict] = (await client.committee()).conflicting
        assert conflict.public_key == KEYS[0].public_key
        assert {conflict.first, conflict.second} == set(votes)
    # Also what was not submitted before a restart.
    async with town.open() as client:
        await town.approve(client, 0, 1)
        excluded = f"$excluded/{IDS[0].hex()}"
        async with asyncio.timeout(120):
            while not (await client.objects([excluded]))[excluded].value:
                await town.approve(client, 0, 1)
        accusation = (await client.objects([excluded]))[excluded].value
    async with town.open() as client:
        await town.sealed(client)
        await town.approve(client, 0, 1)
        events = await client.wait([accusation])
        assert events[accusation].state == State.APPROVED
        rounds = await client.rounds(1, 100)
        assert rounds[-1].size == 3, "it is accused once"


async def test_an_operator_recovers_a_city_whose_committee_is_lost(town: Town) -> None:
    async with town.open() as client:
        await town.sealed(client)
        await town.approve(client, 0, 1)
        sent = await town.sealed(client, 2)
        [_, first, _] = await client.rounds()
        seats = (Seat(IDS[3], 1), Seat(IDS[4], 2))
        keys = [key.public_key for key in KEYS[3:]]

        def recovery(since: int, previous: bytes, key: SigningKey) -> SignedTransaction:
            action = Recovery(since, previous, seats)
            return sign_transaction(key, genesis=town.genesis, action=action)

        [before, *_] = await client.rounds()
        wrong = recovery(2, before.checkpoint_hash, KEYS[0])
        with pytest.raises(InvalidRequest, match="operator"):
            await client.recover(wrong, keys)
        with pytest.raises(InvalidRequest, match="the first round without a certificate is 2"):
            await client.recover(recovery(3, first.checkpoint_hash, town.operator), keys)
        right = recovery(2, before.checkpoint_hash, town.operator)
        for _ in range(2):
            await client.recover(right, keys)
        await client.submit([right])
        assert await client.cast_votes([town.vote(0, first)]) == [VoteOutcome.NO_SEAT]
    async with town.open() as client:
        assert [one.key_id for one in (await client.committee()).members] == IDS[3:]
        while (head := (await client.info()).head).certified_round < max(head.round, 4):
            await town.approve(client, 4)
        ids = [each.tx_id for each in (*sent, right)]
        states = {status.state for status in (await client.status(ids)).values()}
        assert states == {State.APPROVED}
        rounds = await client.rounds(1, 100)
        named = [checkpoint.decode(stored.checkpoint).committee for stored in rounds]
        assert named[2] != seats, "sealed before"
        await town.sealed(client)
        last = (await client.rounds(len(rounds) + 1, 1))[0]
        assert checkpoint.decode(last.checkpoint).committee == seats
        # Receipts show it: of a round that names the old committee yet, and of one that does not.
        genesis_file = (await client.info()).genesis_file
        receipts = await client.receipts(ids)
        assert len(receipts) == 3
        for receipt in receipts.values():
            verify_receipt(receipt, genesis_file)
            [handover] = receipt.handovers
            assert handover.public_keys == tuple(keys)
            with pytest.raises(InvalidReceipt):
                verify_receipt(replace(receipt, handovers=()), genesis_file)


async def test_a_recovery_that_did_not_come_as_one_stays_out_of_the_ledger(town: Town) -> None:
    """Else rounds would name a committee to which no receipt leads."""
    async with town.open() as client:
        await town.sealed(client)
        action = Recovery(1, town.genesis, (Seat(IDS[3], 1),))
        order = sign_transaction(
            town.operator, genesis=town.genesis, action=action, with_public_key=True
        )
        other = town.transaction()
        [result, beside] = await client.submit([order, other])
        assert isinstance(result, Refused)
        assert (result.code, result.field) == ("RECOVERY_UNKNOWN", "body.recovery")
        assert "citychain recover" in result.detail
        assert isinstance(beside, Received)
        await client.wait([other.tx_id], State.SEALED)
        await town.approve(client, 0, 1)
        await client.wait([other.tx_id])
        [receipt] = (await client.receipts([other.tx_id])).values()
        verify_receipt(receipt, (await client.info()).genesis_file)
    async with town.open() as client:
        last = (await client.info()).head.certified_round
        previous = (await client.checkpoint(last)).checkpoint_hash
        action = Recovery(last + 1, previous, (Seat(IDS[3], 1),))
        order = sign_transaction(town.operator, genesis=town.genesis, action=action)
        await client.recover(order, [KEYS[3].public_key])
    async with town.open() as client:  # What is in force is known after a restart.
        [result] = await client.submit([order])
        assert isinstance(result, Received)


async def test_a_city_of_one_key_takes_no_votes(tmp_path: Path) -> None:
    async with (
        CityServerFactory(tmp_path)(["tokyo"]) as server,
        server.client("tokyo") as client,
    ):
        for call in (client.committee(), client.cast_votes([])):
            with pytest.raises(NotSupported, match="solo/1"):
                await call


async def test_public_keys_are_asked_for_by_id(town: Town) -> None:
    async with town.open() as client:
        await town.sealed(client)
        author = key_id(AUTHOR.public_key)
        assert await client.public_keys([author, IDS[0]]) == {author: AUTHOR.public_key}


async def test_rounds_are_followed_with_their_transactions(town: Town) -> None:
    async with town.open() as client:
        sent = await town.sealed(client, 2)
        followed = []
        async for stored, envelopes, _ in client.follow_transactions():
            followed.append((stored.round, len(envelopes)))
            assert len(envelopes[0]) < len(sent[0].with_public_key())
            if len(followed) == 2:
                break
        assert followed == [(1, 1), (2, 1)]


async def test_all_handovers_come_a_page_at_a_time(
    city: CityClient, fake: FakeCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(votes_service, "RESPONSE_BYTES", 7_000)
    certificate = make_round(1).certificate
    fake.changes = [
        Handover((bytes(2_592),), b"checkpoint %d" % number, certificate) for number in range(7)
    ]
    asked: list[int] = []
    handovers = fake.handovers

    async def counted(known_round: int = 0) -> Sequence[Handover]:
        asked.append(known_round)
        return await handovers(known_round)

    monkeypatch.setattr(fake, "handovers", counted)
    assert await city.handovers() == fake.changes
    assert await city.handovers(5) == fake.changes[5:]
    assert await city.handovers(7) == []
    assert asked == [0] * 7 + [5] * 2 + [7]
    await city.committee()
    assert len(asked) == 10, "who is in office is told without"
