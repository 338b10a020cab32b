"""What is planned brings everything where it belongs, and nothing less would."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from test_placement import FOUR, object_id, object_ids, places, spread

from citychain.fragments.placement import Place, chosen, placed
from citychain.fragments.planning import Move, Plan, plan_object

There = dict[int, set[str]]


def holds(there: There, plan: Plan) -> There:
    """What stores have once it is done."""
    after = {index: set(names) for index, names in there.items()}
    for index, name in plan.make.items():
        assert not after[index], "it is there"
        after[index] = {name}
    for index, (origin, target) in plan.move.items():
        assert target not in after[index]
        after[index] = {*after[index] - {origin}, target}
    for index, names in plan.spare.items():
        assert plan.keep[index] in after[index]
        after[index] -= set(names)
    return after


@st.composite
def states(draw: st.DrawFn, most: int = 5) -> tuple[bytes, list[Place], There]:
    stores = draw(places)
    count = draw(st.integers(1, most))
    names = st.sets(st.sampled_from([store.name for store in stores]), max_size=2)
    return draw(object_ids), stores, {index: draw(names) for index in range(count)}


@given(states())
def test_all_is_where_it_belongs_when_it_is_done(state: tuple[bytes, list[Place], There]) -> None:
    object_id, stores, there = state
    after = there
    for _ in range(2):  # Copies of what has moved are spare the next time.
        after = holds(after, plan_object(object_id, stores, len(there), after))
    assert plan_object(object_id, stores, len(there), after).is_done
    seats = [store.name for store in chosen(object_id, stores, len(there))]
    assert Counter(name for names in after.values() for name in names) == Counter(seats)
    assert all(len(names) == 1 for names in after.values())


@given(states())
def test_no_order_of_the_stores_needs_fewer_writes(state: tuple[bytes, list[Place], There]) -> None:
    object_id, stores, there = state
    plan = plan_object(object_id, stores, len(there), there)
    seats = [store.name for store in chosen(object_id, stores, len(there))]
    least = min(
        sum(name not in there[index] for index, name in enumerate(order))
        for order in itertools.permutations(seats)
    )
    assert len(plan.make) + len(plan.move) == least
    assert set(plan.make) == {index for index, names in there.items() if not names}


def test_a_new_store_gets_its_share_and_nothing_else_moves() -> None:
    more = [*FOUR, Place("e", 1.0, "e")]
    moved = 0
    for number in range(500):
        plan = plan_object(object_id(number), more, 4, spread(number, FOUR))
        assert {move.target for move in plan.move.values()} <= {"e"}
        assert (plan.make, plan.spare) == ({}, {})
        moved += len(plan.move)
    # Of 5 stores, 4 have a fragment of an object; six standard deviations are 54.
    assert abs(moved - 400) < 54


def test_of_a_lost_store_that_is_made_which_it_had() -> None:
    five = [*FOUR, Place("e", 1.0, "e")]
    for number, lost in itertools.product(range(100), five):
        before = spread(number, five)
        there = {index: set(names) - {lost.name} for index, names in before.items()}
        rest = [store for store in five if store != lost]
        plan = plan_object(object_id(number), rest, 4, there)
        assert set(plan.make) == {index for index, names in there.items() if not names}
        assert (plan.move, plan.spare) == ({}, {})
        # One that is only empty gets back what it had.
        empty = plan_object(object_id(number), five, 4, there)
        assert set(empty.make.values()) <= {lost.name}
        assert set(empty.make) == set(plan.make)


def test_what_a_silent_store_may_have_is_left_to_it() -> None:
    for number, (index, name) in itertools.product(range(50), enumerate("abcd")):
        there = {at: set(names) for at, names in spread(number, FOUR).items()}
        [index] = [at for at, names in there.items() if name in names]
        there[index].clear()
        plan = plan_object(object_id(number), FOUR, 4, there, silent={name})
        assert plan.is_done
        assert plan.presumed == {index: name}
        # It cannot have both.
        other = (index + 1) % 4
        there[other].clear()
        plan = plan_object(object_id(number), FOUR, 4, there, silent={name})
        assert len(plan.presumed) == 1
        assert len(plan.make) == 1
        assert {*plan.presumed, *plan.make} == {index, other}


def test_what_moves_meanwhile_does_not_take_the_seat_of_what_a_silent_store_has() -> None:
    five = [*FOUR, Place("e", 1.0, "e")]
    for number, (silent, retired) in itertools.product(
        range(20), itertools.permutations("abcd", 2)
    ):
        there = {index: set(names) - {silent} for index, names in spread(number, FOUR).items()}
        left = [Place(it.name, it.weight * (it.name != retired), it.domain) for it in five]
        plan = plan_object(object_id(number), left, 4, there, silent={silent})
        assert plan.make == {}
        assert list(plan.presumed.values()) == [silent]
        assert {(move.origin, move.target) for move in plan.move.values()} == {(retired, "e")}


def test_what_is_known_to_be_wrong_is_not_presumed_in_a_silent_store() -> None:
    for number, (silent, wrong) in itertools.product(range(20), itertools.permutations("abcd", 2)):
        before = spread(number, FOUR)
        there = {index: set(names) - {silent, wrong} for index, names in before.items()}
        [index] = [index for index, names in before.items() if wrong in names]
        plan = plan_object(object_id(number), FOUR, 4, there, silent={silent}, known={index})
        assert plan.make == {index: wrong}
        assert list(plan.presumed.values()) == [silent]


def test_what_is_to_leave_a_store_is_not_waited_for() -> None:
    retired = [*FOUR[:3], Place("d", 0.0, "d")]
    there = {index: {name} - {"d"} for index, [name] in spread(1, FOUR).items()}
    plan = plan_object(object_id(1), retired, 4, there, silent={"d"})
    assert (plan.presumed, len(plan.make)) == ({}, 1)


def test_who_cannot_move_to_a_silent_store_stays() -> None:
    more = [*FOUR, Place("e", 1.0, "e")]
    there = next(
        spread(number, FOUR) for number in range(50) if "e" in placed(object_id(number), more, 4)
    )
    number = next(n for n in range(50) if spread(n, FOUR) == there)
    plan = plan_object(object_id(number), more, 4, there, silent={"e"})
    assert plan.is_done
    assert list(plan.waiting.values()) == ["e"]


@given(states(), st.data())
def test_a_closed_store_gets_nothing(
    state: tuple[bytes, list[Place], There], data: st.DataObject
) -> None:
    object_id, stores, there = state
    names = [store.name for store in stores]
    closed = data.draw(st.sets(st.sampled_from(names)))
    plan = plan_object(object_id, stores, len(there), there, closed=closed)
    assert not {*plan.make.values(), *(move.target for move in plan.move.values())} & closed
    if closed < set(names):
        assert not plan.nowhere
    assert set(plan.nowhere) == {
        index for index, some in there.items() if not some and index not in plan.make
    }
    holds(there, plan)


@given(states(), st.data())
def test_a_store_that_is_away_is_not_presumed_to_have_what_is_gone(
    state: tuple[bytes, list[Place], There], data: st.DataObject
) -> None:
    object_id, stores, there = state
    away = data.draw(st.sampled_from([store.name for store in stores]))
    there = {index: names - {away} for index, names in there.items()}
    gone = {(index, away) for index in data.draw(st.sets(st.sampled_from(sorted(there))))}
    closed = {away} if gone else set()
    plan = plan_object(object_id, stores, len(there), there, [away], closed, gone=gone)
    assert not {(index, name) for index, name in plan.presumed.items()} & gone
    assert away not in plan.make.values()
    if not gone:
        assert plan == plan_object(object_id, stores, len(there), there, [away])
    # What is presumed there was nowhere else.
    assert not any(there[index] for index in plan.presumed)


def test_without_any_weight_nothing_is_moved() -> None:
    plan = plan_object(bytes(32), [Place("a", 0.0, "a")], 2, {0: {"a"}})
    assert (plan.is_done, plan.nowhere) == (True, [1])


def test_a_move_is_told_with_both_ends() -> None:
    plan = plan_object(bytes(32), [Place("a", 1.0, "a"), Place("b", 0.0, "b")], 1, {0: {"b"}})
    assert plan.move == {0: Move("b", "a")}
