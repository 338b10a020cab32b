"""Finds a city's segments in the fragment stores, by the first bytes of every object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from citychain.archive.segment import Header, decode_header
from citychain.fragments.inventory import every_object
from citychain.fragments.sources import Fault, Group, NotEnough, grouped
from citychain.ports import Compute, FragmentStore

__all__ = ["Candidate", "Findings", "find_segments"]


class Candidate(NamedTuple):
    """An object that begins as a segment of the city does. The rest may be anything."""

    object_id: bytes
    header: Header


class Findings(NamedTuple):
    """What was found."""

    segments: list[Candidate]
    unreadable: int
    """Objects of which not even the beginning can be read."""


async def find_segments(
    genesis: bytes,
    stores: Mapping[str, FragmentStore],
    compute: Compute,
    failed: Callable[[Fault], None],
) -> Findings:
    """All objects that begin as segments of a city do.

    Args:
        genesis: The city's id.
        failed: Told of each store that cannot be listed.
    """
    found = Findings([], 0)
    async for sources in every_object(stores, compute, failed):
        groups, unknown = await grouped(sources, compute)
        begins = [await _beginning(group) for group in groups]
        if not any(begin is not None for begin in begins):
            found = found._replace(unreadable=found.unreadable + bool(groups or unknown))
            continue
        headers = {decode_header(begin) for begin in begins if begin is not None}
        found.segments.extend(
            Candidate(sources[0].key.object_id, header)
            for header in headers
            if header is not None and header.genesis == genesis
        )
    return found


async def _beginning(group: Group) -> bytes | None:
    """The first bytes of an object; ``None`` if they cannot be read."""
    layout = group.manifest.layout
    run = next(layout.runs(), None)
    if run is None:
        return b""
    run = run._replace(stripes=1, length=min(run.length, layout.shape.stripe))
    try:
        return await group.read(run)
    except NotEnough:
        # Fragment 0 begins as the object does: so it is known what is lost.
        for source in group.sources:
            found = await source.chunks(group.manifest, run) if source.key.index == 0 else None
            if found is not None and found.good[0]:
                return found.chunks
    return None
