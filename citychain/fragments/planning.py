"""What is to be done so that an object's fragments are where placement says: pure.

What is nowhere is made anew; what has no seat where it is moves; what is at its seat and elsewhere
too is a spare elsewhere. As many stay as can (`citychain.fragments.placement`), so nothing less
would do.

A store that does not answer may have what no other has. So of fragments that are nowhere it is
presumed to have as many as it has seats; where it has weight 0, what it has is to leave anyhow, and
nothing is presumed. Nor is it of a fragment that is said not to be in it any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from citychain.fragments.placement import Place, seated

__all__ = ["Move", "Plan", "plan_object"]


class Move(NamedTuple):
    """A fragment's way from a store to another."""

    origin: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for the fragments of one manifest, by index."""

    make: Mapping[int, str]
    """The stores of those to be made from others."""
    move: Mapping[int, Move]
    keep: Mapping[int, str]
    """Of those that are where they belong, their stores."""
    spare: Mapping[int, Collection[str]]
    """Of those, the stores that have another copy, sorted."""
    presumed: Mapping[int, str]
    """The stores that do not answer, of those that are nowhere else."""
    waiting: Mapping[int, str]
    """The stores that do not answer, of those that would come there."""
    nowhere: Collection[int]
    """Those that are to be made, and that no store that answers has room for."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.make or self.move or self.spare)


def plan_object(
    object_id: bytes,
    places: Collection[Place],
    count: int,
    there: Mapping[int, Collection[str]],
    silent: Collection[str] = (),
    closed: Collection[str] = (),
    known: Collection[int] = (),
    gone: Collection[tuple[int, str]] = (),
) -> Plan:
    """Plan for an object of ``count`` fragments.

    Args:
        places: All stores that there should be, also those that do not answer.
        there: By index, stores that answer and have the fragment.
        silent: Stores that do not answer.
        closed: Stores that get nothing more; what they have may stay.
        known: Fragments of which a store that answers has a copy that does not count: no other is
            presumed to have it.
        gone: Fragments, each with a store that does not answer and is not presumed to have it.
    """
    weighty = [place for place in places if place.weight > 0]
    may_have = [place.name for place in weighty if place.name in silent]
    presumed = {
        index: there.get(index)
        or [name for name in may_have if index not in known and (index, name) not in gone]
        for index in range(count)
    }
    seats = _seats(object_id, weighty, count, presumed, closed)
    make: dict[int, str] = {}
    move: dict[int, Move] = {}
    keep: dict[int, str] = {}
    absent: dict[int, str] = {}
    waiting: dict[int, str] = {}
    for index, seat in seats.items():
        names = there.get(index, ())
        if seat in names:
            keep[index] = seat
        elif seat in silent:
            (absent if seat in presumed[index] else waiting)[index] = seat
        elif names:
            move[index] = Move(min(names), seat)
        else:
            make[index] = seat
    return Plan(
        make=make,
        move=move,
        keep=keep,
        spare={i: sorted({*there[i]} - {seat}) for i, seat in keep.items() if len(there[i]) > 1},
        presumed=absent,
        waiting=waiting,
        nowhere=[
            index
            for index in range(count)
            if not there.get(index) and (index not in seats or index in waiting)
        ],
    )


def _seats(
    object_id: bytes,
    places: Collection[Place],
    count: int,
    there: Mapping[int, Collection[str]],
    closed: Collection[str],
) -> dict[int, str]:
    if not places:
        return {}
    has = Counter(name for names in there.values() for name in names)
    room = {name: has[name] for name in closed}
    while True:
        seats = seated(object_id, places, count, there, room)
        new = Counter(name for index, name in seats.items() if name not in there[index])
        if not any(new[name] for name in room):
            return seats
        # One that it has is as well elsewhere, and its seat would go to another.
        room = {name: room[name] - new[name] for name in room}
