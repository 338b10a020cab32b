"""Fragments are spread over domains, by weight, and move as little as can be."""

from __future__ import annotations

import itertools
from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citychain.fragments.placement import Place, chosen, placed, ranked

FOUR = [Place(name, 1.0, name) for name in ("a", "b", "c", "d")]

places = st.lists(
    st.builds(
        Place,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        weight=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
        domain=st.sampled_from(["x", "y", "z"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda place: place.name,
)
object_ids = st.binary(min_size=32, max_size=32)


def object_id(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def test_of_equal_weights_the_greatest_hash_is_first() -> None:
    """As the docstring has it, in every release: fragments are found where they were put."""
    for number in range(200):
        hashes = {name: sha256(object_id(number) + name.encode()).digest() for name in "abcd"}
        assert placed(object_id(number), FOUR, 4) == sorted(hashes, key=hashes.get, reverse=True)
    assert "".join(placed(object_id(0), FOUR, 4)) == "cbda"


@given(object_ids, places)
def test_the_order_of_the_stores_is_nothing(object_id: bytes, stores: list[Place]) -> None:
    assert ranked(object_id, stores) == ranked(object_id, stores[::-1])


@given(object_ids, places, st.integers(1, 20))
def test_no_store_or_domain_has_more_than_it_must(
    object_id: bytes, stores: list[Place], count: int
) -> None:
    found = chosen(object_id, stores, count)
    in_store = Counter(place.name for place in found)
    numbers = [in_store[place.name] for place in stores]
    assert sum(numbers) == count
    assert max(numbers) - min(numbers) <= 1
    domains = {place.domain for place in stores}
    used = {place.domain for place in found}
    assert len(used) == min(len(domains), count), "a domain is free, and another has two"


@given(object_ids, places)
def test_the_first_of_a_domain_is_its_best(object_id: bytes, stores: list[Place]) -> None:
    order = ranked(object_id, stores)
    domains = len({place.domain for place in stores})
    for place in chosen(object_id, stores, domains):
        assert place == next(it for it in order if it.domain == place.domain)


def test_shares_are_like_weights() -> None:
    stores = [Place("a", 1.0, "a"), Place("b", 1.0, "b"), Place("c", 2.0, "c")]
    first = Counter(ranked(object_id(number), stores)[0].name for number in range(8_000))
    # Six standard deviations of a fair draw are 233 and 269.
    assert abs(first["a"] - 2_000) < 233
    assert abs(first["b"] - 2_000) < 233
    assert abs(first["c"] - 4_000) < 269


def test_a_store_without_weight_gets_nothing() -> None:
    stores = [*FOUR, Place("empty", 0.0, "empty")]
    assert all(placed(object_id(n), stores, 4) == placed(object_id(n), FOUR, 4) for n in range(50))
    with pytest.raises(ValueError, match="weight above 0"):
        chosen(object_id(0), [Place("empty", 0.0, "empty")], 1)


def spread(number: int, stores: list[Place]) -> dict[int, list[str]]:
    return {index: [name] for index, name in enumerate(placed(object_id(number), stores, 4))}


def moves(before: dict[int, list[str]], after: list[str]) -> int:
    return sum(name not in before[index] for index, name in enumerate(after))


@pytest.mark.parametrize("weight", [0.3, 1.0, 3.0])
def test_a_new_store_takes_at_most_one_fragment_of_an_object(weight: float) -> None:
    more = [*FOUR, Place("e", weight, "e")]
    moved = 0
    for number in range(500):
        before = spread(number, FOUR)
        after = placed(object_id(number), more, 4, before)
        assert moves(before, after) == ("e" in after) <= 1
        moved += "e" in after
    assert 0 < moved < 500


def test_of_a_lost_store_only_its_own_fragments_move() -> None:
    stores = [*FOUR, Place("e", 1.0, "e")]
    for number, lost in itertools.product(range(200), stores):
        before = spread(number, stores)
        rest = [store for store in stores if store != lost]
        after = placed(object_id(number), rest, 4, before)
        assert moves(before, after) == sum(names == [lost.name] for names in before.values())


@given(object_ids, places, st.integers(1, 5), st.data())
def test_as_many_stay_as_can(
    object_id: bytes, stores: list[Place], count: int, data: st.DataObject
) -> None:
    names = st.sets(st.sampled_from([store.name for store in stores]))
    there = {index: data.draw(names) for index in range(count)}
    after = placed(object_id, stores, count, there)
    seats = [store.name for store in chosen(object_id, stores, count)]
    assert Counter(after) == Counter(seats)

    def stay(order: tuple[str, ...]) -> int:
        return sum(name in there[index] for index, name in enumerate(order))

    assert stay(tuple(after)) == max(map(stay, itertools.permutations(seats)))


@given(object_ids, places, st.integers(1, 8))
def test_what_is_where_it_belongs_stays_there(
    object_id: bytes, stores: list[Place], count: int
) -> None:
    first = placed(object_id, stores, count)
    there = {index: [name] for index, name in enumerate(first)}
    assert placed(object_id, stores, count, there) == first
