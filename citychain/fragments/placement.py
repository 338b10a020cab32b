"""Which store gets which fragment: weighted rendezvous hashing, spread over failure domains.

Pure: the same object and stores give the same places everywhere, so nobody has to remember them.
The score of a store for an object is ``-weight / ln(u)``, where ``u``, between 0 and 1, comes from
SHA-256(object id, name). Of all objects each store is thus the best for a share like its weight,
and a store that comes or goes moves only what it gets or had.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

__all__ = ["Place", "chosen", "placed", "ranked", "seated"]


class Place(NamedTuple):
    """A store, as far as it matters here."""

    name: str
    """Unique among the stores."""
    weight: float
    """How much it gets, compared with others; 0 for nothing."""
    domain: str
    """What fails together with it: stores of one disk, machine or house have the same."""


def ranked(object_id: bytes, stores: Collection[Place]) -> list[Place]:
    """The stores with a weight, best first."""
    return sorted(
        (store for store in stores if store.weight > 0),
        key=lambda store: (-_score(object_id, store), store.name),
    )


def _score(object_id: bytes, store: Place) -> float:
    digest = sha256(object_id + store.name.encode()).digest()
    # 52 bits and a half: never 0 nor 1, and exactly a float.
    u = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52
    return -store.weight / math.log(u)


def chosen(
    object_id: bytes,
    stores: Collection[Place],
    count: int,
    room: Mapping[str, int] | None = None,
) -> list[Place]:
    """The stores of ``count`` fragments, best first.

    No store has two fragments while another has none; of those that have equally many, one comes
    first whose domain has fewest; of these, the best.

    Args:
        room: By name, how many fragments a store has room for; any number if it is not named.
            Fewer than ``count`` are given where there is no more.

    Raises:
        ValueError: no store has a weight.
    """
    rest = ranked(object_id, stores)
    if not rest:
        raise ValueError("no store has a weight above 0")
    in_store: Counter[str] = Counter()
    in_domain: Counter[str] = Counter()
    found = []
    for _ in range(count):
        free = [it for it in rest if in_store[it.name] < (room or {}).get(it.name, count)]
        if not free:
            break
        # The first of equals is the best one.
        best = min(free, key=lambda it: (in_store[it.name], in_domain[it.domain]))
        in_store[best.name] += 1
        in_domain[best.domain] += 1
        found.append(best)
    return found


def placed(
    object_id: bytes,
    stores: Collection[Place],
    count: int,
    there: Mapping[int, Collection[str]] | None = None,
) -> list[str]:
    """The name of a store for each of ``count`` fragments, by index.

    Args:
        there: By index, the stores that have the fragment already. As many as can stay, stay; of
            those that cannot all, the ones that come first.
    """
    names = seated(object_id, stores, count, there or {})
    return [names[index] for index in range(count)]


def seated(
    object_id: bytes,
    stores: Collection[Place],
    count: int,
    there: Mapping[int, Collection[str]],
    room: Mapping[str, int] | None = None,
) -> dict[int, str]:
    """As `placed`, by index, where there may be no room for all: then those have a store that can
    stay, and next those that are nowhere.

    Raises:
        ValueError: no store has a weight.
    """
    seats = [store.name for store in chosen(object_id, stores, count, room)]
    stay = _stay(seats, count, there)
    taken = set(stay.values())
    free = [seat for seat in range(len(seats)) if seat not in taken]
    others = sorted(
        set(range(count)) - set(stay), key=lambda index: (bool(there.get(index)), index)
    )
    numbers = {**stay, **dict(zip(others, free, strict=False))}
    return {index: seats[number] for index, number in sorted(numbers.items())}


def _stay(seats: Sequence[str], count: int, there: Mapping[int, Collection[str]]) -> dict[int, int]:
    """A seat for as many fragments as possible where they are: a greatest matching."""
    holder: dict[int, int] = {}

    def seat(index: int, tried: set[int]) -> bool:
        for number, name in enumerate(seats):
            if number not in tried and name in there.get(index, ()):
                tried.add(number)
                if number not in holder or seat(holder[number], tried):
                    holder[number] = index
                    return True
        return False

    for index in there:
        if index < count:
            seat(index, set())
    return {index: number for number, index in holder.items()}
