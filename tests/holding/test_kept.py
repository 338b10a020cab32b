"""What a holder keeps of the recount is all that it needs to go on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from deeds import OPERATOR, City, holder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_recount_histories import WHO, History

from citychain.errors import ConfigurationError
from citychain.holding.kept import load_recount, save_recount
from citychain.holding.recount import Recount

GENESIS = b"g" * 32
ALICE = WHO[0]


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 1 << 32), rounds=st.integers(1, 40), stops=st.sets(st.integers(1, 40)))
def test_who_goes_on_counts_as_who_never_stopped(
    seed: int, rounds: int, stops: set[int], tmp_path: Path
) -> None:
    history, file = History(random.Random(seed)), tmp_path / "state"
    file.unlink(missing_ok=True)
    for _ in range(rounds):
        history.seal()
    all_, one = history.recount, Recount(OPERATOR, only=ALICE)
    for number, (told, taken) in enumerate(zip(history.rounds, history.taken, strict=True), 1):
        one.take(number, told.time_ms, told.checkpoint_hash, taken)
        if number in stops:
            save_recount(file, GENESIS, ALICE, one)
            one = load_recount(file, GENESIS, OPERATOR, ALICE)
    for first in (1, rounds // 2 + 1):
        assert one.tally(ALICE, first, rounds) == all_.tally(ALICE, first, rounds)
    for at_ms in (0, all_.time_ms):
        assert one.receipts(ALICE, at_ms) == all_.receipts(ALICE, at_ms)
        assert one.proven(ALICE, at_ms) == all_.proven(ALICE, at_ms)
        assert one.lapsed(ALICE, at_ms) == all_.lapsed(ALICE, at_ms)
    assert one.open(ALICE) == all_.open(ALICE)
    assert one.failed(ALICE) == all_.failed(ALICE)
    assert (one.rules, one.segments) == (all_.rules, all_.segments)
    assert {*one.fragments} == {*all_.fragments}
    assert (one.round, one.checkpoint_hash) == (rounds, history.rounds[-1].checkpoint_hash)
    assert one.holders == [who for who in all_.holders if who == ALICE]


def test_without_a_file_it_begins(tmp_path: Path) -> None:
    recount = load_recount(tmp_path / "none", GENESIS, OPERATOR, ALICE)
    assert (recount.round, recount.holders) == (0, [])


def test_a_file_of_another_key_or_city_is_refused(tmp_path: Path) -> None:
    city, file = City(), tmp_path / "state"
    city.hold(ALICE, city.keys)
    save_recount(file, GENESIS, ALICE, city.recount)
    for genesis, who in ((b"h" * 32, ALICE), (GENESIS, holder("bob"))):
        with pytest.raises(ConfigurationError, match="is of another key or another city: give"):
            load_recount(file, genesis, OPERATOR, who)
    content = file.read_bytes()
    known = json.loads(content)
    inconsistent = (
        {"receipts": [[[7, 0], 1, 2]]},
        {"segments": []},
        {"checkpoint_hash": "zz"},
    )
    for spoilt in (
        b"",
        content[:-1],
        content.replace(b'"round":2', b'"round":"2"'),
        *(json.dumps(known | each).encode() for each in inconsistent),
    ):
        file.write_bytes(spoilt)
        with pytest.raises(ConfigurationError, match="cannot be read as a holder's state"):
            load_recount(file, GENESIS, OPERATOR, ALICE)
