"""The plan of the demonstration: it must be what its own rules say, whatever the seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.cli.demo.plan import BALANCE, CITIES, SHARE_MIN, CityPlan, Transfer, plan

FEWEST = SHARE_MIN * len(CITIES)
transactions = st.integers(FEWEST, 1_000)
seeds = st.integers(0, 1 << 32)


def chunk_of(city: CityPlan) -> dict[int, int]:
    return {step.number: index for index, chunk in enumerate(city.chunks) for step in chunk}


@settings(max_examples=30, deadline=None)
@given(transactions, seeds)
def test_every_transaction_is_planned_once(count: int, seed: int) -> None:
    cities = plan(count, seed)
    assert sum(len(city.steps) for city in cities) == count
    for city in cities:
        assert [step.number for step in city.steps] == list(range(len(city.steps)))


@settings(max_examples=30, deadline=None)
@given(transactions, seeds)
def test_the_same_seed_makes_the_same_plan(count: int, seed: int) -> None:
    assert plan(count, seed) == plan(count, seed)


@settings(max_examples=30, deadline=None)
@given(transactions, seeds)
def test_what_a_step_refers_to_is_settled_before_it(count: int, seed: int) -> None:
    for city in plan(count, seed):
        chunk = chunk_of(city)
        steps = city.steps
        for step in steps:
            if step.repeats is not None:
                assert chunk[step.repeats] < chunk[step.number]
                assert steps[step.repeats].repeats is None
            for parent in step.depends_on:
                assert parent < step.number
                held_for = chunk[parent] - chunk[step.number]
                assert held_for <= 1
                if held_for == 1:
                    assert city.middle not in (chunk[parent], chunk[step.number])


@settings(max_examples=30, deadline=None)
@given(transactions, seeds)
def test_outcomes_follow_from_the_order_of_the_chunks(count: int, seed: int) -> None:
    """A model of the ledger's rules, applied chunk by chunk, gives the planned outcomes."""
    for city in plan(count, seed):
        outcome: dict[int, str] = {}
        version: Counter[str] = Counter()
        spent: Counter[int] = Counter()
        waiting = []
        for chunk in city.chunks:
            waiting += [step for step in chunk if step.repeats is None]
            progress = True
            while progress:
                progress = False
                for step in list(waiting):
                    if any(parent not in outcome for parent in step.depends_on):
                        continue
                    waiting.remove(step)
                    progress = True
                    outcome[step.number] = "APPROVED"
                    if step.altered:
                        outcome[step.number] = "REFUSED BAD_SIGNATURE"
                    elif step.action == city.city.breach:
                        outcome[step.number] = "REJECTED RULE"
                    elif any(outcome[parent] != "APPROVED" for parent in step.depends_on):
                        outcome[step.number] = "REJECTED DEPENDENCY_REJECTED"
                    elif any(version[name] != seen for name, seen in step.writes):
                        outcome[step.number] = "REJECTED CONFLICT"
                    elif isinstance(step.action, Transfer):
                        if spent[step.author] + step.action.amount > BALANCE:
                            outcome[step.number] = "REJECTED OVERDRAFT"
                        else:
                            spent[step.author] += step.action.amount
                    if outcome[step.number] == "APPROVED":
                        version.update(name for name, _ in step.writes)
        assert not waiting
        assert outcome == {s.number: s.outcome for s in city.steps if s.repeats is None}


@pytest.mark.parametrize("count", [FEWEST, 2_000])
def test_each_fault_is_in_each_city(count: int) -> None:
    faults = {
        "REFUSED BAD_SIGNATURE",
        "REJECTED CONFLICT",
        "REJECTED OVERDRAFT",
        "REJECTED DEPENDENCY_REJECTED",
        "DUPLICATE",
    }
    for city in plan(count, 1):
        own = {"REJECTED RULE"} if city.city.breach else set()
        assert city.expected.keys() == {"APPROVED", *faults, *own}
        assert city.chunks[city.middle]
