"""A council decides by plain majority."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from citychain_council.step import Council, CouncilOptions

import citychain.consensus.builtin
import citychain.dag.builtin
import citychain.storage.builtin
from citychain import Genesis, State, checkpoint
from citychain.city.plan import plan_city
from citychain.client import CityClient
from citychain.client.keys import create_key
from citychain.config import load_settings
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError
from citychain.hooks.registry import Registry, load_plugins
from citychain.ports import StoredRound, SupportsVotes
from citychain.receipt import ReceiptVerifier
from citychain.testing.server import CityClientFactory, CityServerFactory, TransactionFactory
from citychain.types import CastVote, Vote, VoteOutcome

MEMBERS = [SigningKey(bytes([number]) * 32) for number in (10, 11, 12)]


def nara(*stakes: int, **table: Any) -> Mapping[str, Mapping[str, Any]]:
    """A city with a council, none of it inside the server."""
    members = [
        {"public_key": key.public_key.hex(), "stake": stake}
        for key, stake in zip(MEMBERS, stakes or (1, 1, 1), strict=True)
    ]
    return {"nara": {"consensus": "council", "num_hashes": 10, "committee": members, **table}}


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The built-in parts and this plugin, as installed."""
    return load_plugins(
        builtin=[citychain.dag.builtin, citychain.storage.builtin, citychain.consensus.builtin],
        allow=["citychain-council"],
    )


def test_the_plugin_is_active_and_a_city_can_use_its_step(registry: Registry) -> None:
    (record,) = [record for record in registry.records if record.name == "council"]
    assert (record.status, record.reason) == ("active", "")
    settings = load_settings(environment={}, cities={"nara": {"consensus": "council"}})
    plan = plan_city("nara", settings, registry)
    assert plan.consensus.definition.step == "council/1"
    assert plan.consensus.definition.quorum == "majority"
    assert plan.consensus.options == CouncilOptions()
    assert issubclass(plan.consensus.definition.factory, Council)  # type: ignore[arg-type]
    assert issubclass(Council, SupportsVotes)


def test_it_has_no_options(registry: Registry) -> None:
    table = {"consensus": "council", "consensus_options": {"members": 3}}
    settings = load_settings(environment={}, cities={"nara": table})
    with pytest.raises(ConfigurationError, match="members"):
        plan_city("nara", settings, registry)


def vote(genesis: bytes, member: SigningKey, stored: StoredRound) -> CastVote:
    message = checkpoint.vote_message(genesis, stored.round, stored.checkpoint_hash)
    signature = member.sign(message, checkpoint.VOTE_CONTEXT)
    return CastVote(
        stored.round, stored.checkpoint_hash, Vote(key_id(member.public_key), signature)
    )


async def seal(city: CityClient, transactions: TransactionFactory) -> tuple[bytes, StoredRound]:
    """A transaction in a round that waits for its certificate, and the round."""
    [signed] = await transactions(city, data=b"deer")
    await city.submit([signed])
    await city.wait([signed.tx_id], State.SEALED)
    [stored] = await city.rounds((await city.info()).head.round, 1)
    return signed.tx_id, stored


@pytest.mark.asyncio
async def test_one_of_three_does_not_suffice_and_two_do(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    async with city_client("nara", cities=nara()) as city:
        info = await city.info()
        assert info.consensus == "council/1"
        tx_id, stored = await seal(city, signed_transactions)
        one, two, three = [vote(info.genesis, member, stored) for member in MEMBERS]

        stranger = vote(info.genesis, SigningKey(b"s" * 32), stored)
        outcomes = await city.cast_votes([one, one, stranger])
        assert outcomes == [VoteOutcome.COUNTED, VoteOutcome.REPEATED, VoteOutcome.NO_SEAT]
        status = await city.committee()
        assert (status.round, status.stake_for, status.stake_needed) == (stored.round, 1, 2)
        assert (await city.status([tx_id]))[tx_id].state is State.SEALED
        assert not await city.receipts([tx_id])

        await city.cast_votes([two])
        await city.wait([tx_id])
        assert await city.cast_votes([three]) == [VoteOutcome.LATE]
        [receipt] = (await city.receipts([tx_id])).values()
        assert len(receipt.certificate.votes) == 2
        ReceiptVerifier(Genesis.from_bytes(info.genesis_file)).verify(receipt)


@pytest.mark.asyncio
async def test_three_of_five_suffice_which_are_no_two_thirds(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    members = [*MEMBERS, *(SigningKey(bytes([number]) * 32) for number in (13, 14))]
    committee = [{"public_key": key.public_key.hex()} for key in members]
    async with city_client("nara", cities=nara(committee=committee)) as city:
        info = await city.info()
        tx_id, stored = await seal(city, signed_transactions)
        votes = [vote(info.genesis, member, stored) for member in members[:3]]
        await city.cast_votes(votes[:2])
        assert (await city.committee()).stake_needed == 3
        await city.cast_votes(votes[2:])
        await city.wait([tx_id])
        [receipt] = (await city.receipts([tx_id])).values()
        genesis = Genesis.from_bytes(info.genesis_file)
        assert genesis.quorum == "majority"
        ReceiptVerifier(genesis).verify(receipt)


@pytest.mark.asyncio
async def test_a_server_can_vote_for_its_members(
    city_client: CityClientFactory, signed_transactions: TransactionFactory, tmp_path: Path
) -> None:
    keys = [create_key(tmp_path / f"{name}.key") for name in ("ana", "ben", "cho")]
    committee = [{"public_key": key.public_key.hex()} for key in keys]
    files = [tmp_path / "ana.key", tmp_path / "cho.key"]
    cities = nara(committee=committee, representatives=files)
    async with city_client("nara", cities=cities) as city:
        [signed] = await signed_transactions(city, data=b"deer")
        await city.submit([signed])
        await city.wait([signed.tx_id])
        [receipt] = (await city.receipts([signed.tx_id])).values()
        ReceiptVerifier(Genesis.from_bytes((await city.info()).genesis_file)).verify(receipt)


@pytest.mark.asyncio
async def test_unequal_stakes_are_refused_until_they_are_left_out(
    city_server: CityServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        place = tmp_path / "server"
        server = await stack.enter_async_context(city_server(nara(1, 2, 1), directory=place))
        city = await stack.enter_async_context(server.client("nara"))
        asking = asyncio.create_task(city.info())
        async with asyncio.timeout(120):
            while "one vote each: leave out their stakes" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not asking.done()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    # Nothing was pinned: the fix that the message names is enough.
    async with city_server(nara(), directory=place) as server, server.client("nara") as city:
        genesis = Genesis.from_bytes((await city.info()).genesis_file)
        assert {seat.stake for seat in genesis.seats} == {1}
