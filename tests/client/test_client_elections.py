"""Elections are shown as the city has them, and computed again from what it published."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import run_here

from citychain import checkpoint, election, record
from citychain.client.actions import Candidacy, Data
from citychain.client.city import CityClient
from citychain.client.elections import ElectionRule, check_election, read_election
from citychain.client.transactions import sign_transaction
from citychain.consensus._round_rules import RoundRules
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, NotFound, VerificationError
from citychain.genesis import Genesis
from citychain.ports import StoredRound
from citychain.testing.server import CityServer, CityServerFactory
from citychain.types import ObjectWrite, Seat

KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
IDS = [key_id(key.public_key) for key in KEYS]
OPTIONS = {"epoch_rounds": 5, "seed_rounds": 2, "seed_hashes": 50, "seats": 2}
TOKYO = {
    "consensus": "poh-pop",
    "consensus_options": OPTIONS,
    "num_hashes": 10,
    "balances": {"stake": {key.hex(): 100 for key in IDS}},
}


async def fill(client: CityClient, genesis: Genesis, rounds: int) -> None:
    """Have three people stand, and so many rounds certified."""
    for number in range(rounds):
        action = Candidacy("stake", 10 * number) if 0 < number < 4 else Data(b"x")
        signed = sign_transaction(
            KEYS[number % 4], genesis=genesis.id, action=action, with_public_key=True
        )
        await client.submit([signed])
        await client.wait([signed.tx_id])


async def known(client: CityClient) -> Genesis:
    return Genesis.from_bytes((await client.info()).genesis_file)


async def test_an_election_is_shown_and_computed_again(city_server: CityServerFactory) -> None:
    async with city_server({"tokyo": TOKYO}) as server, server.client("tokyo") as client:
        genesis = await known(client)
        early = await read_election(client, genesis, 0)
        assert (early.decided, early.candidates, early.seed) == (False, (), None)
        with pytest.raises(NotFound):
            await check_election(client, genesis, 0)
        await fill(client, genesis, 5)
        shown = await read_election(client, genesis, 0)
        assert shown == await check_election(client, genesis, 0)
        # The fourth round was after the closing: its candidate waits.
        assert {it.key_id: it.stake for it in shown.candidates} == {IDS[1]: 10, IDS[2]: 20}
        assert shown.named == tuple(sorted([Seat(IDS[1], 10), Seat(IDS[2], 20)]))
        assert shown.committee == genesis.seats
        assert shown.seed is not None


async def test_where_nobody_stands_that_is_computed_too(city_server: CityServerFactory) -> None:
    tokyo = TOKYO | {"balances": {}}
    async with city_server({"tokyo": tokyo}) as server, server.client("tokyo") as client:
        genesis = await known(client)
        await fill(client, genesis, 5)
        found = await check_election(client, genesis, 0)
        assert (found.candidates, found.seed, found.named) == ((), None, None)
        assert found.decided


async def test_who_was_not_elected_is_found_out(
    city_server: CityServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequencer and representatives together give all seats to one candidate."""
    elected = RoundRules._elected

    def favour(*args: Any) -> Any:
        return elected(*args) and (Seat(IDS[1], 10),)

    monkeypatch.setattr(RoundRules, "_elected", favour)
    async with city_server({"tokyo": TOKYO}) as server, server.client("tokyo") as client:
        genesis = await known(client)
        await fill(client, genesis, 5)
        with pytest.raises(VerificationError, match=r"round 5 names .* give .*"):
            await check_election(client, genesis, 0)
        ran = await asyncio.to_thread(show, server, "--epoch", "0", "--recompute")
        assert ran.code == 1
        assert IDS[1].hex()[:16] in ran.message


def other_record(stored: StoredRound) -> StoredRound:
    """Another candidate in the closing round's record."""
    decided = record.decode(stored.record)
    snapshot = election.Snapshot(3, (election.Candidate(IDS[3], 1, 1),))
    writes = [
        ObjectWrite(it.object, it.version, election.encode_snapshot(snapshot))
        if it.object == "$election/0"
        else it
        for it in decided.writes
    ]
    body = record.body_bytes(
        genesis=decided.genesis,
        round=decided.round,
        time_ms=decided.time_ms,
        epoch=decided.epoch,
        tx_ids=decided.tx_ids,
        verdicts=decided.verdicts,
        held=decided.held,
        held_places=decided.held_places,
        writes=writes,
    )
    return replace(stored, record=record.with_poh(body, decided.poh))


def other_poh(stored: StoredRound) -> StoredRound:
    entry = checkpoint.decode(stored.checkpoint).poh
    body = checkpoint.without_poh(stored.checkpoint)
    bent = checkpoint.with_poh(body, entry._replace(hash=bytes(32)))
    return replace(stored, checkpoint=bent)


def other_votes(stored: StoredRound) -> StoredRound:
    assert stored.certificate is not None
    votes = tuple(vote._replace(signature=bytes(4_627)) for vote in stored.certificate.votes)
    return replace(stored, certificate=replace(stored.certificate, votes=votes))


def no_votes(stored: StoredRound) -> StoredRound:
    assert stored.certificate is not None
    return replace(stored, certificate=replace(stored.certificate, votes=()))


@pytest.mark.parametrize(
    ("round", "bend", "said"),
    [
        (3, other_record, "record of round 3 is not the certified one"),
        (3, other_poh, "round 4 does not follow round 3"),
        (4, other_poh, "round 5 does not follow round 4"),
        (5, other_poh, "the certificate is for another one"),
        (5, other_votes, "the vote of .* does not hold"),
        (5, no_votes, "stake 0 of 1 signed"),
    ],
)
async def test_a_server_that_tells_something_else_is_found_out(
    city_server: CityServerFactory,
    round: int,
    bend: Callable[[StoredRound], StoredRound],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with city_server({"tokyo": TOKYO}) as server, server.client("tokyo") as client:
        genesis = await known(client)
        await fill(client, genesis, 5)
        rounds = client.rounds

        async def bent(first: int = 1, limit: int = 10) -> list[StoredRound]:
            return [bend(it) if it.round == round else it for it in await rounds(first, limit)]

        monkeypatch.setattr(client, "rounds", bent)
        with pytest.raises(VerificationError, match=said):
            await check_election(client, genesis, 0)


def test_a_city_without_elections_says_so() -> None:
    operator = KEYS[0].public_key.hex()
    genesis = Genesis(
        network="test",
        city="tokyo",
        rule="sealed-rounds/1",
        consensus="solo/1",
        operator=operator,
        committee=[{"public_key": operator}],
    )
    with pytest.raises(ConfigurationError, match="solo/1, has no elections"):
        ElectionRule.of(genesis)


# --- the command


def show(server: CityServer, *options: str | Path) -> Any:
    env = {"CITYCHAIN_ADDRESS": server.address}
    return run_here("election", "show", "--city", "tokyo", *options, cwd=Path.cwd(), env=env)


async def test_the_command_shows_it(city_server: CityServerFactory, tmp_path: Path) -> None:
    async with city_server({"tokyo": TOKYO}) as server, server.client("tokyo") as client:
        genesis = await known(client)
        waiting = await asyncio.to_thread(show, server)
        assert waiting.code == 0
        assert "not decided yet" in waiting.out
        await fill(client, genesis, 5)
        (tmp_path / "genesis.json").write_bytes(genesis.file)
        trusted = ("--recompute", "-g", tmp_path / "genesis.json")
        ran = await asyncio.to_thread(show, server, *trusted)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[-1] == "computed again: the same"
        for key in IDS[1:3]:
            assert key.hex() in ran.out
        told = (await asyncio.to_thread(show, server, *trusted, "--json")).record
        assert [it["stake"] for it in told["candidates"]] in ([10, 20], [20, 10])
        assert told["recomputed"] is True
        (tmp_path / "other.json").write_bytes(genesis.file + b" ")
        other = await asyncio.to_thread(show, server, "-g", tmp_path / "other.json")
        assert (other.code, other.message.endswith("has another genesis")) == (1, True)
        (tmp_path / "other.json").write_bytes(b"{}")
        none = await asyncio.to_thread(show, server, "-g", tmp_path / "other.json")
        assert (none.code, "other.json: is no genesis file: " in none.message) == (2, True)
        later = await asyncio.to_thread(show, server, "--epoch", "1", "--recompute")
        plain = await asyncio.to_thread(show, server, "--epoch", "1")
        assert (later.code, later.out, later.err) == (0, plain.out, plain.err)
        assert "not decided yet" in later.out
        assert json.dumps(told)
