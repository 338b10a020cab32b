"""Three cities of one server with three consensus steps, for one and the same client."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import run_process

from citychain.client import ChannelFactory, CityClient, create_key, sign_transaction
from citychain.client.keys import save_public_key
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis
from citychain.receipt import ReceiptVerifier
from citychain.types import State

COUNCIL = Path(__file__).parents[2] / "plugins" / "citychain-council" / "src"
STAND_IN = f"""
import sys
sys.path.insert(0, {str(COUNCIL)!r})
from citychain_council import citychain_consensus_steps
"""
"""Offers the council, so that these tests need no other package installed."""

CONFIG = """
operator_key = "operator.key"
[pacer]
min_seconds = 0.01
max_seconds = 0.05
[cities.lone]
num_hashes = 10
consensus = "solo"
[cities.elected]
num_hashes = 10
consensus = "poh-pop"
[cities.nara]
num_hashes = 10
consensus = "council"
committee = [{ key = "rep0.pub" }, { key = "rep1.pub" }, { key = "rep2.pub" }]
"""
STEPS = {"lone": "solo/1", "elected": "poh-pop/1", "nara": "council/1"}
QUORUMS = {"lone": "two-thirds", "elected": "two-thirds", "nara": "majority"}
REPRESENTATIVES = 2
"""Of three; a majority."""


async def use(address: str, city: str, seed: int) -> tuple[Genesis, list[bytes]]:
    """What any application does: submit, wait, fetch receipts and verify them with the genesis."""
    channels = ChannelFactory([address])
    async with CityClient(city, channels, timeout=timedelta(seconds=300)) as client:
        info = await client.info()
        genesis = Genesis.from_bytes(info.genesis_file)
        sent = [
            sign_transaction(
                SigningKey(bytes([seed, number]) * 16),
                genesis=info.genesis,
                data=f"{city} {number}".encode(),
                with_public_key=True,
            )
            for number in range(5)
        ]
        await client.submit(sent)
        ids = [transaction.tx_id for transaction in sent]
        events = await client.wait(ids)
        assert {event.state for event in events.values()} == {State.APPROVED}
        receipts = await client.receipts(ids)
    verifier = ReceiptVerifier(genesis)
    for tx_id in ids:
        verifier.verify(receipts[tx_id])
    return genesis, ids


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the keys."""
    if not COUNCIL.exists():
        pytest.skip(f"the plugin citychain-council is not in this tree: {COUNCIL}")
    place = tmp_path / "place"
    place.mkdir()
    create_key(place / "operator.key")
    for number in range(3):
        key = create_key(place / f"rep{number}.key")
        save_public_key(place / f"rep{number}.pub", key.public_key)
    (place / "citychain.toml").write_text(CONFIG)
    return place


def test_one_client_one_server_three_steps(
    start_server: Callable[..., Any],
    start: Callable[..., Any],
    install: Callable[..., dict[str, str]],
    place: Path,
) -> None:
    plugins = install("council_stand_in", STAND_IN)
    server = start_server(place, env=plugins)
    asked = {**plugins, **server.env}
    running = [
        start(
            *("representative", "--city", "nara", "--key", f"rep{number}.key"),
            *("--state-dir", f"state{number}"),
            cwd=place,
            env=asked,
        )
        for number in range(REPRESENTATIVES)
    ]
    for city, step in STEPS.items():
        genesis, ids = asyncio.run(use(server.address, city, 1))
        assert (genesis.consensus, genesis.quorum) == (step, QUORUMS[city])
        (place / f"{city}.json").write_bytes(genesis.file)
        ran = run_process(
            *("audit", "--city", city, "--genesis", f"{city}.json", "--json"), cwd=place, env=asked
        )
        assert ran.code == 0, ran.err
        assert ran.record["holds"]
        assert ran.record["approved"] == len(ids)
        assert ran.record["certified_round"] == ran.record["rounds"] > 0
    for each in running:
        each.send_signal(signal.SIGTERM)
        _, err = each.communicate(timeout=300)
        assert each.returncode == 0, err
        assert "Traceback" not in err
    assert server.end().code == 0


def test_a_step_is_a_line_of_the_configuration_until_there_is_a_history(
    start_server: Callable[..., Any], install: Callable[..., dict[str, str]], place: Path
) -> None:
    plugins = install("council_stand_in", STAND_IN)
    config = place / "citychain.toml"
    server = start_server(place, env=plugins)
    before, ids = asyncio.run(use(server.address, "lone", 1))
    assert server.end().code == 0

    # A new city takes any step.
    another = '[cities.other]\nnum_hashes = 10\nconsensus = "poh-pop"\n'
    config.write_text(CONFIG.replace('consensus = "solo"', 'consensus = "council"') + another)
    server = start_server(place, env=plugins)
    other, _ = asyncio.run(use(server.address, "other", 1))
    assert other.consensus == "poh-pop/1"
    assert other.id != before.id

    # One with a history keeps its own, and says how.
    ran = server.run("cities", "lone", "--timeout", "5")
    assert ran.code == 3
    assert "city lone is unavailable (error id " in ran.message
    error_id = ran.message.partition("(error id ")[2].partition(")")[0]
    asyncio.run(use(server.address, "other", 2))
    ended = server.end()
    assert ended.code == 0
    [line] = [line for line in ended.err.splitlines() if error_id in line]
    assert "consensus is configured as 'council/1', but" in line
    assert "says 'solo/1'; a city with a history keeps what it began with: " in line
    assert 'change the line back to consensus = "solo", or found a new city' in line
    assert "Traceback" not in ended.err

    # Changed back, it goes on.
    config.write_text(CONFIG + another)
    server = start_server(place, env=plugins)
    after, _ = asyncio.run(use(server.address, "lone", 2))
    assert after.id == before.id
    shown = server.run("get", "--city", "lone", ids[0].hex(), "--json")
    assert shown.record["state"] == "APPROVED"
    assert server.end().code == 0
