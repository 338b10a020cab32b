"""Rebalancing on stores in memory, and what becomes of an object meanwhile."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence

from shelves import SMALL, Shelf, noise, store

from citychain.clock import SystemClock
from citychain.fragments.checking import State, check_object
from citychain.fragments.inventory import every_object
from citychain.fragments.layout import Shape
from citychain.fragments.manifest import Manifest
from citychain.fragments.pacing import Pace
from citychain.fragments.placement import Place, placed
from citychain.fragments.rebalancing import rebalance_objects
from citychain.fragments.relocating import Means, Outcome
from citychain.fragments.sources import find_sources
from citychain.fragments.storing import store_object
from citychain.ports import Compute, FragmentKey

CONTENT = noise(5 * SMALL + 77)
OBJECT_ID = hashlib.sha256(CONTENT).digest()
SHAPE = Shape(2, 2, SMALL)
FOUR = ("shelf-0", "shelf-1", "shelf-2", "shelf-3")


def places(names: Collection[str], **weights: float) -> list[Place]:
    return [Place(name, weights.get(name.replace("-", "_"), 1.0), name) for name in names]


async def rebalance(
    stores: Mapping[str, Shelf],
    compute: Compute,
    where: Sequence[Place] | None = None,
    *,
    check: bool = False,
    dry_run: bool = False,
    unproven: Collection[tuple[str, FragmentKey]] = (),
    moves: bool = True,
    failed: dict[str, str] | None = None,
) -> list[Outcome]:
    """Of all objects, as the command does it; those that are told."""
    away: set[str] = set()
    answer = {name: shelf for name, shelf in stores.items() if not shelf.is_down}
    means = Means(
        answer,
        where or places(stores),
        away,
        compute,
        Pace(SystemClock()),
        dry_run=dry_run,
        unproven=unproven,
        moves=moves,
        failed={} if failed is None else failed,
    )
    objects = every_object(answer, compute, lambda fault: away.add(fault.store))
    outcomes = [it async for it in rebalance_objects(objects, means, check=check)]
    return [it for it in outcomes if it.is_changed or not it.is_settled]


async def are_whole(
    stores: Mapping[str, Shelf], compute: Compute, where: Sequence[Place] | None = None
) -> None:
    """Every fragment has every byte, once, where placement has it."""
    sources, _ = await find_sources(OBJECT_ID, stores, compute)
    [checked] = await check_object(sources, compute)
    assert checked.state is State.WHOLE, checked
    assert checked.manifest is not None
    found = sorted((source.key.index, source.name) for source in sources)
    names = placed(OBJECT_ID, where or places(stores), len(checked.manifest.roots))
    assert [index for index, _ in found] == list(range(len(names)))
    assert sorted(name for _, name in found) == sorted(names)


async def put(
    stores: Mapping[str, Shelf],
    compute: Compute,
    where: Sequence[Place] | None = None,
    shape: Shape = SHAPE,
    content: bytes = CONTENT,
) -> Manifest:
    stored = await store_object(
        io.BytesIO(content), shape, stores, where or places(stores), compute
    )
    assert not stored.missing
    return stored.manifest


class Unlosing(Shelf):
    """Sees to it that nothing is deleted whose good chunks are needed."""

    all: Sequence[Shelf] = ()

    async def delete(self, key: FragmentKey) -> bool:
        deleted = await super().delete(key)
        assert can_be_restored(self.all), "too little is left of it"
        return deleted


def can_be_restored(stores: Sequence[Shelf], content: bytes = CONTENT) -> bool:
    """By chunks alone, which are compared with those that there should be."""
    for begin in range(0, len(content), SHAPE.stripe):
        stripe = content[begin : begin + SHAPE.stripe]
        at, width = begin // SHAPE.data, -(-len(stripe) // SHAPE.data)
        width += width % 2
        good = {
            key.index
            for shelf in stores
            for key, held in shelf.content.items()
            if held[at : at + width] == TRUTH[key.index][at : at + width]
        }
        if len(good) < SHAPE.data:
            return False
    return True


TRUTH: dict[int, bytes] = {}
"""The fragments of `CONTENT`, by index."""


async def learn_the_truth(compute: Compute) -> None:
    """Fill `TRUTH`."""
    if not TRUTH:
        shelf = Shelf()
        await store(CONTENT, SHAPE, [shelf] * 4, compute)
        TRUTH.update({key.index: content for key, content in shelf.content.items()})


def damaged(content: bytes, how: str, at: int) -> bytes:
    spoilt = bytearray(content)
    match how:
        case "nick":
            spoilt[at * SMALL + 9] ^= 1
        case "spoilt":
            for place in range(7, len(spoilt), SMALL // 2):
                spoilt[place] ^= 1
    return bytes(spoilt)
