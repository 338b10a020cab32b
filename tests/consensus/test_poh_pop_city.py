"""``poh-pop`` in a whole city: submitted bytes, rounds, votes, receipts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from consensus.model_city import PEOPLE, STAKE, id_of

from citychain import checkpoint
from citychain.city.directory import CityDirectory
from citychain.client.actions import Action, Candidacy, Data
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.config import Settings
from citychain.consensus.poh_pop import REJECTION_CODES
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.handler import CityHandler, Received
from citychain.types import State

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
OpenCity = Callable[..., AbstractAsyncContextManager[CityHandler]]


@pytest.fixture
def open_city(tmp_path: Path) -> OpenCity:
    """Opens a city of ``poh-pop`` with these options; it remembers."""
    key = tmp_path / "operator.key"
    create_key(key)

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[CityHandler]:
        tokyo = {
            "consensus": "poh-pop",
            "consensus_options": options,
            "num_hashes": 10,
            "balances": {STAKE: {id_of(key).hex(): 100 for key in PEOPLE}},
        }
        core = CoreContainer(
            settings=Settings(
                data_dir=tmp_path / "data",
                operator_key=key,
                pacer={"min_seconds": 0.01, "max_seconds": 0.02},
                cities={"tokyo": tokyo},
                plugins={"allow": ()},
            )
        )
        directory: CityDirectory
        async with open_directory(core) as directory:
            yield await directory.handler("tokyo")

    return opened


async def send(city: CityHandler, key: SigningKey, action: Action) -> tuple[bytes, str]:
    """Submit and wait for the final state: the id, and the code of a rejection."""
    signed = sign_transaction(key, genesis=city.genesis.id, action=action, with_public_key=True)
    [received] = await city.submit([signed.envelope])
    assert isinstance(received, Received), received
    async with asyncio.timeout(20):
        async for batch in city.watch_transactions([received.tx_id], State.APPROVED):
            return received.tx_id, batch.events[0].code
    raise AssertionError("it never became final")


async def test_the_name_alone_makes_a_city_and_it_goes_on_after_a_restart(
    open_city: OpenCity,
) -> None:
    for number in range(2):
        async with open_city() as city:
            assert (await send(city, PEOPLE[number], Data(b"x")))[1] == ""
            head = await city.head()
            assert head.certified_round == head.round == number + 1
            assert city.genesis.consensus == "poh-pop/1"
            assert city.genesis.consensus_options["policy"] == "none"


async def test_a_candidate_is_elected_by_the_rounds_that_people_fill(open_city: OpenCity) -> None:
    options = {"epoch_rounds": 4, "seed_rounds": 1, "seed_hashes": 100, "seats": 1}
    async with open_city(**options) as city:
        assert (await send(city, PEOPLE[0], Candidacy(STAKE, 40)))[1] == ""
        assert (await send(city, PEOPLE[0], Candidacy("coin", 40)))[1] == "WRONG_ASSET"
        await send(city, PEOPLE[1], Data(b"x"))
        await send(city, PEOPLE[1], Data(b"x"))
        rounds = await city.storage.rounds(1, 4)
        named = [checkpoint.decode(stored.checkpoint).next_committee for stored in rounds]
        assert [next_committee is not None for next_committee in named] == [False] * 3 + [True]


async def test_a_candidacy_without_enough_says_so_in_the_receipt(open_city: OpenCity) -> None:
    async with open_city(stake_min=50) as city:
        tx_id, code = await send(city, PEOPLE[0], Candidacy(STAKE, 49))
        assert code == "STAKE_TOO_SMALL"
        receipt = (await city.receipts([tx_id]))[tx_id]
        assert receipt.rejection is not None
        assert receipt.rejection.reason == "49 in all; at least 50 is asked"


def test_the_documentation_has_every_code() -> None:
    _, _, section = DOCS.read_text().partition("\n## Rejections\n")
    assert re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE) == list(REJECTION_CODES)
