"""The step: what every consensus step must do, who must sign, and who writes the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from citychain_otsu.step import STEP

from citychain import ConsensusDefinition, State, Transaction
from citychain.client import Data
from citychain.client.keys import create_key
from citychain.crypto.signatures import SigningKey
from citychain.errors import CityUnavailable
from citychain.testing.conformance import ConsensusSuite
from citychain.testing.conformance.consensus import AUTHORS, MEMBERS, Rounds, every_action
from citychain.testing.server import CityClientFactory, TransactionFactory


class TestStep(ConsensusSuite):
    @pytest.fixture
    def definition(self) -> ConsensusDefinition:
        return STEP

    @pytest.fixture
    def committee(self) -> Sequence[tuple[SigningKey, int]]:
        return [(member, stake) for member, stake in zip(MEMBERS, (2, 1, 1, 1), strict=True)]

    @pytest.fixture
    def codes(self) -> set[str]:
        return {"NOT_LIBRARIAN"}


class TestStepWhoseClerksChange(TestStep):
    """With changes of the committee in the rounds that the suite lives through."""

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"epoch_rounds": 4}

    @pytest.fixture
    def batches(self) -> Callable[[Rounds], Iterator[list[Transaction]]]:
        """What the suite has anyway, and catalogue entries by everybody."""

        def everything(rounds: Rounds) -> Iterator[list[Transaction]]:
            for number, some in enumerate(every_action(rounds)):
                writes = {f"catalogue-{number}": 0}
                yield [*some, *(rounds.sign(a, Data(b"novel"), writes=writes) for a in AUTHORS)]

        return everything


def table_of(directory: Path, present: Sequence[str], stake: int = 2) -> dict[str, Any]:
    """A city of a librarian and three clerks, of whom some vote."""
    names = ("librarian", "clerk1", "clerk2", "clerk3")
    keys = [create_key(directory / name).public_key.hex() for name in names]
    stakes = (stake, 1, 1, 1)
    return {
        "consensus": STEP.name,
        "committee": [
            {"public_key": key, "stake": stake} for key, stake in zip(keys, stakes, strict=True)
        ],
        "representatives": [directory / name for name in present],
    }


@pytest.mark.parametrize(
    ("present", "approved"),
    [
        (["clerk1", "clerk2", "clerk3"], False),
        (["librarian", "clerk1"], False),
        (["librarian", "clerk1", "clerk2"], True),
    ],
)
async def test_nothing_is_approved_without_the_librarian(
    city_client: CityClientFactory,
    signed_transactions: TransactionFactory,
    tmp_path: Path,
    present: list[str],
    approved: bool,
) -> None:
    table = table_of(tmp_path, present)
    async with city_client("testtown", cities={"testtown": table}) as city:
        [note] = await signed_transactions(city)
        await city.submit([note])
        await city.wait([note.tx_id], State.APPROVED if approved else State.SEALED)
        receipts = await city.receipts([note.tx_id])
        assert bool(receipts) == approved


async def test_a_librarian_without_a_veto_is_none(
    city_client: CityClientFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(tmp_path, ["librarian"], stake=1)
    async with city_client("testtown", cities={"testtown": table}) as city:
        with pytest.raises(CityUnavailable):
            await city.info()
    assert "a stake of 2 or more: others have 3" in caplog.text


async def test_the_librarian_alone_writes_the_catalogue(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    librarian = signed_transactions.key(7)
    table = {"consensus": STEP.name}
    async with city_client("testtown", cities={"testtown": table}, operator=librarian) as city:
        codes = []
        for key in (1, 7):
            [entry] = await signed_transactions(city, key=key, writes={"catalogue-novels": 0})
            await city.submit([entry])
            codes.append((await city.wait([entry.tx_id]))[entry.tx_id].code)
        assert codes == ["NOT_LIBRARIAN", ""]
