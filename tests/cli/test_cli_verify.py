"""``citychain verify`` and cities that changed their committee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proven import Proven

from citychain.client.receipts import save_receipt


@pytest.fixture(scope="module")
def proven() -> Proven:
    return Proven()


@pytest.fixture
def files(proven: Proven, tmp_path: Path) -> list[Path]:
    """The genesis, then the receipts of rounds 1 to 5; the operator replaced in round 4."""
    files = [tmp_path / "genesis.json"]
    files[0].write_bytes(proven.history.genesis.file)
    for receipt in proven.receipts:
        files.append(tmp_path / f"{receipt.round}.json")
        save_receipt(files[-1], receipt)
    return files


def test_a_committee_that_the_operator_replaced_is_told_of(
    citychain: Any, files: list[Path], tmp_path: Path
) -> None:
    genesis, *receipts = files
    ran = citychain("verify", *receipts, "-g", genesis, cwd=tmp_path)
    assert ran.code == 0
    told = "         the committee was replaced by the operator in round 4"
    lines = ran.out.splitlines()
    assert [line.startswith("valid") for line in lines[:4]] == [True] * 4
    assert lines[4] == lines[6] == told
    assert len(lines) == 7


def test_programs_are_told_as_well(citychain: Any, files: list[Path], tmp_path: Path) -> None:
    genesis, *receipts = files
    ran = citychain("verify", *receipts, "-g", genesis, "--json", cwd=tmp_path)
    assert [record.get("committee_replaced") for record in ran.records] == [
        None, None, None, [4], [4],
    ]  # fmt: skip
    # An order of files in which the later ones come first says the same of each.
    ran = citychain("verify", *receipts[::-1], "-g", genesis, "--json", cwd=tmp_path)
    assert [record.get("committee_replaced") for record in ran.records] == [
        [4], [4], None, None, None,
    ]  # fmt: skip
