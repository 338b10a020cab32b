"""``poh-pop`` in a whole city: submitted bytes, rounds, votes, receipts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from consensus.model_city import CLAIMED, HERE, PEOPLE, STAKE, id_of

from citychain import checkpoint
from citychain.city.directory import CityDirectory
from citychain.client.actions import Action, Candidacy, Data
from citychain.client.keys import create_key, load_key
from citychain.client.transactions import sign_transaction
from citychain.config import Settings
from citychain.consensus.poh_pop import REJECTION_CODES
from citychain.containers import CoreContainer, open_directory
from citychain.crypto.signatures import SigningKey
from citychain.handler import CityHandler, Received
from citychain.receipt import ReceiptVerifier
from citychain.types import Presence, Seat, State

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
OpenCity = Callable[..., AbstractAsyncContextManager[CityHandler]]


@pytest.fixture
def open_city(tmp_path: Path) -> OpenCity:
    """Opens a city of ``poh-pop`` with these options; it remembers."""
    key = tmp_path / "operator.key"
    create_key(key)

    @asynccontextmanager
    async def opened(
        members: Sequence[Path] = (), absent: int = 0, **options: Any
    ) -> AsyncIterator[CityHandler]:
        keys = [load_key(member) for member in members]
        tokyo = {
            "consensus": "poh-pop",
            "consensus_options": options,
            "committee": [{"public_key": key.public_key.hex()} for key in keys],
            "representatives": members[absent:],
            "num_hashes": 10,
            "balances": {STAKE: {id_of(key).hex(): 100 for key in (*PEOPLE, *keys)}},
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
    async with asyncio.timeout(120):
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


async def test_three_members_inside_the_server_and_then_the_elected(
    open_city: OpenCity, tmp_path: Path
) -> None:
    members = [tmp_path / f"{number}.key" for number in range(3)]
    keys = [create_key(member) for member in members]
    options = {"epoch_rounds": 3, "seed_rounds": 1, "seed_hashes": 10, "seats": 2}
    # Two of three are two thirds.
    async with open_city(members, absent=1, **options) as city:
        tx_ids = []
        for key in (keys[1], keys[2], keys[2], keys[2], keys[0]):
            tx_id, code = await send(city, key, Candidacy(STAKE, 10))
            assert code == ""
            tx_ids.append(tx_id)
        named = [checkpoint.decode(it.checkpoint) for it in await city.storage.rounds(3, 2)]
        elected = tuple(sorted([Seat(id_of(keys[1]), 10), Seat(id_of(keys[2]), 10)]))
        assert named[0].next_committee == elected
        assert named[1].committee == elected
        receipts = await city.receipts(tx_ids)
        assert len(receipts) == 5
        for receipt in receipts.values():
            ReceiptVerifier(city.genesis).verify(receipt)
        assert [len(receipts[tx_id].handovers) for tx_id in tx_ids] == [0, 0, 0, 1, 1]


async def test_who_shows_where_they_are_is_heard(open_city: OpenCity) -> None:
    async with open_city(**CLAIMED) as city:
        assert (await send(city, PEOPLE[0], Data(b"x")))[1] == "NO_PRESENCE"
        head = await city.head()
        here = Presence(*HERE, 10, head.round, head.round + 5, head.checkpoint_hash, ())
        tx_id, code = await send(city, PEOPLE[0], here)
        assert code == ""
        assert (await send(city, PEOPLE[0], Data(b"x")))[1] == ""
        assert (await send(city, PEOPLE[0], here._replace(latitude_e7=0)))[1] == "OUTSIDE_REGION"
        receipts = await city.receipts([tx_id])
        ReceiptVerifier(city.genesis).verify(receipts[tx_id])
        assert receipts[tx_id].pop is not None


def test_the_documentation_has_every_code() -> None:
    _, _, section = DOCS.read_text().partition("\n## Rejections\n")
    section, _, _ = section.partition("\n## ")
    assert re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE) == list(REJECTION_CODES)
