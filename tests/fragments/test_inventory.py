"""Every object is found once, whatever the pages, and stores that fail are told."""

from collections.abc import Sequence
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shelves import Shelf, shelves

from citychain.compute import Executor
from citychain.errors import StoreUnavailable
from citychain.fragments import inventory
from citychain.fragments.inventory import every_object
from citychain.fragments.sources import ROOTS_MAX, Fault
from citychain.ports import FragmentKey

COMPUTE = Executor(1)

keys = st.builds(
    FragmentKey,
    st.sampled_from([bytes([number]) * 32 for number in range(6)]),
    st.sampled_from([bytes([number]) * 32 for number in range(2)]),
    st.integers(0, 4),
)


async def listed(
    stores: dict[str, Shelf],
) -> tuple[list[list[tuple[str, FragmentKey]]], list[Fault]]:
    faults: list[Fault] = []
    found = [
        [(source.name, source.key) for source in sources]
        async for sources in every_object(stores, COMPUTE, faults.append)
    ]
    return found, faults


@given(st.lists(st.sets(keys), max_size=4), st.integers(1, 5))
async def test_every_fragment_comes_once_with_its_object(
    held: list[set[FragmentKey]], page: int
) -> None:
    stores = shelves(len(held))
    for shelf, some in zip(stores.values(), held, strict=True):
        shelf.content.update(dict.fromkeys(some, b""))
    with patch.object(inventory, "PAGE_KEYS", page):
        found, faults = await listed(stores)
    assert faults == []
    objects = sorted({key.object_id for some in held for key in some})
    assert [{key.object_id for _, key in some} for some in found] == [{it} for it in objects]
    everything = [
        (name, key) for name, some in zip(stores, held, strict=True) for key in sorted(some)
    ]
    assert sorted(it for some in found for it in some) == sorted(everything)


@given(st.lists(st.sets(keys), max_size=3), st.integers(0, 6), st.integers(1, 5))
async def test_after_an_object_come_those_after_it(
    held: list[set[FragmentKey]], number: int, page: int
) -> None:
    stores = shelves(len(held))
    for shelf, some in zip(stores.values(), held, strict=True):
        shelf.content.update(dict.fromkeys(some, b""))
    after = bytes([number]) * 32
    with patch.object(inventory, "PAGE_KEYS", page):
        every = [it async for it in every_object(stores, COMPUTE, lambda fault: None)]
        rest = [it async for it in every_object(stores, COMPUTE, lambda fault: None, after)]
    expected = [[it.key for it in some] for some in every if some[0].key.object_id > after]
    assert [[it.key for it in some] for some in rest] == expected


class Endless(Shelf):
    """Names manifests of its first object without end; and another object."""

    asked = 0

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        self.asked += 1
        assert self.asked < 100, "it would go on for ever"
        if after is not None and after.object_id == bytes([2]) * 32:
            return []
        if after is not None and after.root == bytes([255]) * 32:
            return [FragmentKey(bytes([2]) * 32, bytes(32), 0)]
        first = 0 if after is None else int.from_bytes(after.root, "big") + 1
        roots = (number.to_bytes(32, "big") for number in range(first, first + limit))
        return [FragmentKey(bytes([1]) * 32, root, 7) for root in roots]


@pytest.mark.parametrize("page", [1, 2, 10, 1_000])
async def test_what_is_named_without_end_hides_no_other_object(page: int) -> None:
    stores: dict[str, Shelf] = {"endless": Endless(), **shelves(1)}
    stores["shelf-0"].content[FragmentKey(bytes([1]) * 32, bytes(32), 3)] = b""
    with patch.object(inventory, "PAGE_KEYS", page):
        found, faults = await listed(stores)
    assert faults == []
    assert [{key.object_id[0] for _, key in some} for some in found] == [{1}, {2}]
    assert len(found[0]) == ROOTS_MAX + 1


class Failing(Shelf):
    """Gives a page, and no other."""

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        if after is not None:
            raise StoreUnavailable("it is switched off")
        return await super().keys(after, limit)


class Circling(Shelf):
    """Begins again and again."""

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        return await super().keys(None, limit)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [(Failing, "it is switched off"), (Circling, "it lists its fragments in a wrong order")],
)
async def test_a_store_that_cannot_be_listed_is_told_and_the_others_go_on(
    kind: type[Shelf], detail: str
) -> None:
    stores = {"good": Shelf(), "bad": kind()}
    held = [FragmentKey(bytes([number]) * 32, bytes(32), 0) for number in range(5)]
    for shelf in stores.values():
        shelf.content.update(dict.fromkeys(held, b""))
    with patch.object(inventory, "PAGE_KEYS", 2):
        found, faults = await listed(stores)
    assert faults == [Fault("bad", None, detail)]
    assert [key for some in found for name, key in some if name == "good"] == held
    assert [key for some in found for name, key in some if name == "bad"] == held[:2]


async def test_a_page_of_what_no_fragment_has_hides_nothing() -> None:
    shelf = Shelf()
    good = FragmentKey(bytes([1]) * 32, bytes(32), 0)
    strange = [FragmentKey(bytes(32), bytes(32), index) for index in (-1, 255, 300)]
    shelf.content.update(dict.fromkeys([*strange, good], b""))
    with patch.object(inventory, "PAGE_KEYS", 2):
        found, faults = await listed({"shelf": shelf})
    assert (found, faults) == ([[("shelf", good)]], [])
