"""What is recorded in Kanazawa names a district."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from citychain_kanazawa.districts import BRACKETS_MAX, DistrictOptions, Districts
from hypothesis import given
from hypothesis import strategies as st

import citychain.consensus.builtin
import citychain.dag.builtin
import citychain.storage.builtin
from citychain import CityContext, Genesis, Rejection, RoundContext, StorageContext, Transaction
from citychain._native.transactions import decode_batch
from citychain.city.plan import plan_city
from citychain.client.transactions import Transfer, sign_transaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import load_settings
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Representative
from citychain.hooks.registry import Registry, load_plugins
from citychain.storage.memory import MemoryBackend

KEY = SigningKey(b"k" * 32)
GENESIS = Genesis(
    network="test",
    city="kanazawa",
    rule="kanazawa-districts/1",
    consensus="solo/1",
    committee=(Representative(public_key=KEY.public_key.hex()),),
)
ROUND = RoundContext(
    genesis=GENESIS.id, round=1, time_ms=0, previous_root=bytes(32), previous_poh=GENESIS.id
)
CITY = CityContext(
    slug="kanazawa", genesis=GENESIS, compute=Executor(1), clock=SystemClock(), operator=KEY
)
HANDLER = Districts(DistrictOptions(), CITY)


def transactions(*contents: bytes) -> list[Transaction]:
    return decode_batch(
        [sign_transaction(KEY, genesis=GENESIS.id, data=data).envelope for data in contents]
    )


def verdict(content: bytes, handler: Districts = HANDLER) -> Rejection | None:
    (transaction,) = transactions(content)
    return handler.validate(transaction, ROUND)


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The built-in parts and this plugin, as installed."""
    return load_plugins(
        builtin=[citychain.dag.builtin, citychain.storage.builtin, citychain.consensus.builtin],
        allow=["citychain-kanazawa"],
    )


@pytest.mark.parametrize("district", DistrictOptions().districts)
def test_data_with_a_district_passes(district: str) -> None:
    content = {"district": district, "text": "雪", "amounts": [1, 2.5]}
    assert verdict(json.dumps(content).encode()) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"snow", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"district": "katamachi"', "not JSON"),
        ('{"district": "katamachi"}'.encode("utf-16"), "not JSON"),
        (b"[]", 'no JSON object with a "district"'),
        (b'"katamachi"', 'no JSON object with a "district"'),
        (b'{"place": "katamachi"}', 'no JSON object with a "district"'),
        (b'{"district": "shibuya"}', "not one of Kanazawa"),
        (b'{"district": "Katamachi"}', "not one of Kanazawa"),
        (b'{"district": 5}', "not one of Kanazawa"),
        (b'{"district": null}', "not one of Kanazawa"),
        (b'{"district": ["katamachi"]}', "not one of Kanazawa"),
        (b'{"district": {"katamachi": 1}}', "not one of Kanazawa"),
        (b"[" * (BRACKETS_MAX + 1), "brackets"),
        (b'{"a":' * 60_000, "brackets"),
    ],
)
def test_other_data_is_rejected(content: bytes, reason: str) -> None:
    rejection = verdict(content)
    assert rejection is not None
    assert rejection.code == "RULE"
    assert reason in rejection.reason


@pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000, "1e999999", "NaN"])
def test_long_numbers_are_no_matter(number: str) -> None:
    assert verdict(f'{{"district": "katamachi", "number": {number}}}'.encode()) is None


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_makes_the_rule_fail(content: bytes) -> None:
    rejection = verdict(content)
    assert rejection is not None
    assert len(rejection.reason.encode()) <= 255


def test_transfers_pass() -> None:
    envelope = sign_transaction(
        KEY, genesis=GENESIS.id, transfer=Transfer(asset="gold", to=b"p" * 32, amount=1)
    ).envelope
    (transaction,) = decode_batch([envelope])
    assert HANDLER.validate(transaction, ROUND) is None


def test_the_districts_are_an_option() -> None:
    handler = Districts(DistrictOptions(districts=("shibuya",)), CITY)
    assert verdict(b'{"district": "shibuya"}', handler) is None
    assert verdict(b'{"district": "katamachi"}', handler) is not None


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(1) as executor:
        yield executor


async def test_a_round_approves_some_and_rejects_others(compute: Executor, tmp_path: Path) -> None:
    clock = SystemClock()
    city = CityContext("kanazawa", GENESIS, compute, clock, KEY)
    candidates = transactions(b'{"district": "nagamachi"}', b"snow", b'{"district": "musashi"}')
    async with MemoryBackend(StorageContext(tmp_path, compute, clock)) as backend:
        state = await backend.city(GENESIS.id, GENESIS.file, ())
        decision = await Districts(DistrictOptions(), city).decide(
            ROUND, candidates, [0, 0, 0], {}, state
        )
    assert list(decision.order) == candidates
    assert [verdict and verdict.code for verdict in decision.verdicts] == [None, "RULE", None]
    assert [bool(parents) for parents in decision.parents] == [True, False, True]


def test_the_plugin_is_active_and_its_city_uses_its_rule(registry: Registry) -> None:
    (record,) = [record for record in registry.records if record.name == "kanazawa"]
    assert (record.status, record.reason) == ("active", "")
    plan = plan_city("kanazawa", load_settings(environment={}), registry)
    assert plan.source == "citychain-kanazawa"
    assert plan.dag.definition.rule == "kanazawa-districts/1"
    assert plan.dag.options == DistrictOptions()
    assert isinstance(plan.dag.definition.factory(plan.dag.options, CITY), Districts)


def test_another_city_can_use_the_rule(registry: Registry) -> None:
    table = {"dag": "kanazawa-districts", "dag_options": {"districts": ["shibuya"]}}
    settings = load_settings(environment={}, cities={"tokyo": table})
    plan = plan_city("tokyo", settings, registry)
    assert plan.dag.options == DistrictOptions(districts=("shibuya",))
