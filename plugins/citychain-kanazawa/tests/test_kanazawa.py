"""What is recorded in Kanazawa names a district."""

from __future__ import annotations

import json

import pytest
from citychain_kanazawa.districts import BRACKETS_MAX, DistrictOptions, Districts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import citychain.consensus.builtin
import citychain.dag.builtin
import citychain.storage.builtin
from citychain import CityContext, Genesis, State
from citychain.city.plan import plan_city
from citychain.client import Transfer
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.config import load_settings
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Representative
from citychain.hooks.registry import Registry, load_plugins
from citychain.receipt import ReceiptVerifier
from citychain.testing.server import CityClientFactory, TransactionFactory

KEY = SigningKey(b"k" * 32)
CITY = CityContext(
    slug="kanazawa",
    genesis=Genesis(
        network="test",
        city="kanazawa",
        rule="kanazawa-districts/1",
        consensus="solo/1",
        operator=KEY.public_key.hex(),
        committee=(Representative(public_key=KEY.public_key.hex()),),
    ),
    compute=Executor(1),
    clock=SystemClock(),
    operator=KEY,
)
RULE = Districts(DistrictOptions(), CITY)


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
    assert RULE.judge(json.dumps(content).encode()) is None


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
    rejection = RULE.judge(content)
    assert rejection is not None
    assert rejection.code == "RULE"
    assert reason in rejection.reason


@pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000, "1e999999", "NaN"])
def test_long_numbers_are_no_matter(number: str) -> None:
    assert RULE.judge(f'{{"district": "katamachi", "number": {number}}}'.encode()) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # The machine may be busy.
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_makes_the_rule_fail(content: bytes) -> None:
    rejection = RULE.judge(content)
    assert rejection is not None
    assert len(rejection.reason.encode()) <= 255


def test_the_districts_are_an_option() -> None:
    rule = Districts(DistrictOptions(districts=("shibuya",)), CITY)
    assert rule.judge(b'{"district": "shibuya"}') is None
    assert rule.judge(b'{"district": "katamachi"}') is not None


@pytest.mark.asyncio
async def test_residents_are_held_to_the_rule_and_can_prove_the_outcome(
    city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    async with city_client("kanazawa") as city:
        [good] = await signed_transactions(city, data=b'{"district": "nagamachi"}')
        [bad] = await signed_transactions(city, data=b"snow")
        [pay] = await signed_transactions(city, data=None, transfer=Transfer("gold", bytes(32), 1))
        await city.submit([good, bad, pay])
        events = await city.wait([good.tx_id, bad.tx_id, pay.tx_id])
        assert events[good.tx_id].state is State.APPROVED
        assert events[bad.tx_id].code == "RULE"
        # Not the rule's verdict: it lets transfers pass, and then there is no gold to pay with.
        assert events[pay.tx_id].code not in ("", "RULE")
        verifier = ReceiptVerifier(Genesis.from_bytes((await city.info()).genesis_file))
        for receipt in (await city.receipts([good.tx_id, bad.tx_id])).values():
            verifier.verify(receipt)


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
