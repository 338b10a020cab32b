"""What keys are due, against the same computed another way."""

from __future__ import annotations

import random as random_module
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.cli.shown_rewards import told
from citychain.rewards.calculation import Role, Service, distribute
from citychain.rewards.comparing import PaymentState, compare
from citychain.rewards.counting import Payment
from citychain.rewards.paying import in_order, needed
from citychain.statements import Rewards

KEYS = [bytes((number,)) * 32 for number in range(6)]
PLENTY = (1 << 53) - 1


def parameters(
    base: int = 10_000,
    full: int = 1_500,
    light: int = 1_000,
    absent: int = 500,
    budget: int = PLENTY,
) -> Rewards:
    return Rewards(
        epoch=4,
        first=401,
        last=500,
        asset="coin",
        base=base,
        full=full,
        light=light,
        absent=absent,
        budget=budget,
        votes="00" * 32,
    )


def amounts(parameters: Rewards, *services: Service) -> list[int]:
    return [due.amount for due in distribute(parameters, services).dues]


@pytest.mark.parametrize(
    ("service", "amount"),
    [
        (Service(KEYS[0], Role.FULL, 100, 100, True), 15_000),
        (Service(KEYS[0], Role.FULL, 100, 100, False), 7_500),
        (Service(KEYS[0], Role.LIGHT, 3, 3, True), 10_000),
        (Service(KEYS[0], Role.LIGHT, 2, 3, False), 3_333),
        (Service(KEYS[0], Role.FULL, 0, 100, True), 0),
        (Service(KEYS[0], Role.LIGHT, 3, 3, True, Fraction(1, 8)), 1_250),
    ],
)
def test_one_key_gets_base_times_rate_times_score_times_presence(
    service: Service, amount: int
) -> None:
    assert amounts(parameters(), service) == [amount]


def test_what_is_left_over_goes_to_the_largest_fractions_then_to_smaller_keys() -> None:
    thirds = [Service(key, Role.LIGHT, 1, 3, True) for key in KEYS[:3]]
    # 3,333 1/3 each: a whole 10,000, of which one unit is left.
    assert amounts(parameters(), *reversed(thirds)) == [3_334, 3_333, 3_333]
    sixth = Service(KEYS[5], Role.LIGHT, 1, 6, True)
    # 1,666 2/3: the larger fraction. 11,666 2/3 in all.
    assert amounts(parameters(), *thirds, sixth) == [3_333, 3_333, 3_333, 1_667]


def test_past_the_budget_all_get_less_in_the_same_proportion() -> None:
    services = [
        Service(KEYS[0], Role.FULL, 1, 1, True),
        Service(KEYS[1], Role.LIGHT, 1, 1, True),
        Service(KEYS[2], Role.LIGHT, 1, 2, True),
    ]
    found = distribute(parameters(budget=6_000), services)
    assert [due.amount for due in found.dues] == [3_000, 2_000, 1_000]
    assert found.scale == Fraction(1, 5)
    assert amounts(parameters(budget=0), *services) == [0, 0, 0]
    assert amounts(parameters(budget=30_000), *services) == [15_000, 10_000, 5_000]


def test_nobody_and_nothing_are_no_faults() -> None:
    assert distribute(parameters(), []).dues == []
    assert amounts(parameters(base=0), Service(KEYS[0], Role.FULL, 1, 1, True)) == [0]


def by_fractions(parameters: Rewards, services: Sequence[Service]) -> dict[bytes, int]:
    """The same with fractions all the way, and units handed out one by one."""
    exact = {}
    for service in services:
        rate = {Role.FULL: parameters.full, Role.LIGHT: parameters.light}[service.role]
        presence = Fraction(1) if service.present else Fraction(parameters.absent, 1_000)
        score = Fraction(service.done, service.of)
        exact[service.key_id] = parameters.base * Fraction(rate, 1_000) * score * presence
    total = sum(exact.values(), Fraction())
    if total > parameters.budget:
        exact = {key: value * parameters.budget / total for key, value in exact.items()}
    paid = {key: int(value) for key, value in exact.items()}
    while sum(paid.values()) + 1 <= sum(exact.values()):
        last = min(paid, key=lambda key: (paid[key] - exact[key], key))
        paid[last] += 1
    return paid


@st.composite
def scores(draw: st.DrawFn) -> tuple[int, int]:
    of = draw(st.sampled_from([1, 2, 3, 7, 100, 86_400]))
    return draw(st.integers(0, of)), of


SERVICES = st.lists(
    st.builds(
        lambda key, role, score, present: Service(key, role, *score, present),
        st.sampled_from(KEYS),
        st.sampled_from(Role),
        scores(),
        st.booleans(),
    ),
    unique_by=lambda service: service.key_id,
)
PARAMETERS = st.builds(
    parameters,
    base=st.sampled_from([0, 1, 7, 10_000, PLENTY]),
    full=st.integers(0, 3_000),
    light=st.integers(0, 3_000),
    absent=st.integers(0, 1_000),
    budget=st.sampled_from([0, 1, 5, 9_999, 20_000, PLENTY]),
)


@given(PARAMETERS, SERVICES, st.randoms(use_true_random=False))
def test_it_comes_to_the_same_another_way_and_in_any_order(
    parameters: Rewards, services: list[Service], random: random_module.Random
) -> None:
    found = distribute(parameters, services)
    assert {it.service.key_id: it.amount for it in found.dues} == by_fractions(parameters, services)
    random.shuffle(services)
    assert distribute(parameters, services) == found
    # Nobody is a unit or more from the exact amount, and together they get all there is.
    exact = [due.exact * found.scale for due in found.dues]
    assert all(abs(due.amount - it) < 1 for due, it in zip(found.dues, exact, strict=True))
    assert found.amount == int(sum(exact))
    assert found.amount <= parameters.budget


def test_many_keys_of_many_denominators_take_no_time_and_can_be_told() -> None:
    services = [
        Service(number.to_bytes(32, "big"), Role.LIGHT, 7 * number % 5_000, 5_000 + number, True)
        for number in range(3_000)
    ]
    found = distribute(parameters(budget=1_000_003), services)
    assert found.amount == 1_000_003
    assert len(told(found.scale)) < 40
    assert told(Fraction(16, 25)) == "16/25"


def test_what_was_paid_is_compared_to_the_last_unit() -> None:
    services = [Service(key, Role.LIGHT, key[0] % 2, 1, True) for key in KEYS[:4]]
    found = distribute(parameters(), services)
    paid = {
        KEYS[1]: Payment(bytes(32), 501, "coin", 10_000),
        KEYS[2]: Payment(bytes(32), 501, "coin", 1),
        KEYS[5]: Payment(bytes(32), 501, "coin", 10_000),
    }
    states = {line.key_id: line.state for line in compare(found, paid)}
    assert states == {
        KEYS[0]: PaymentState.NOTHING,
        KEYS[1]: PaymentState.PAID,
        KEYS[2]: PaymentState.WRONG,
        KEYS[3]: PaymentState.DUE,
        KEYS[5]: PaymentState.WRONG,
    }
    for payment in (
        Payment(bytes(32), 501, "coin", 9_999),
        Payment(bytes(32), 501, "rice", 10_000),
    ):
        [line] = [it for it in compare(found, {KEYS[1]: payment}) if it.key_id == KEYS[1]]
        assert line.state is PaymentState.WRONG


def test_the_operators_own_payment_comes_first_and_needs_what_others_leave_there() -> None:
    services = [Service(key, Role.LIGHT, 1, 1, True) for key in KEYS[:3]]
    dues = distribute(parameters(), services).dues
    operator = KEYS[1]
    assert [due.service.key_id for due in in_order(dues, operator)] == [operator, KEYS[0], KEYS[2]]
    assert needed(dues, operator) == 20_000
    assert needed(dues[:2], operator) == needed(dues[1:2], operator) == 10_000
    assert needed(dues, KEYS[5]) == 30_000
