"""All objects of which some store has a fragment, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from typing import Final

from citychain.crypto.erasure import FRAGMENTS_MAX
from citychain.fragments.patience import Patient, Readable
from citychain.fragments.sources import ROOTS_MAX, Fault, Source, all_of, is_possible, told
from citychain.ports import Compute, FragmentKey

__all__ = ["every_object"]

PAGE_KEYS: Final = 1_000
"""Asked of a store at a time."""
LAST_ROOT: Final = b"\xff" * 32


async def every_object(
    stores: Mapping[str, Readable],
    compute: Compute,
    failed: Callable[[Fault], None],
    after: bytes | None = None,
) -> AsyncIterator[list[Source]]:
    """The fragments of each object in all stores, by object id.

    Args:
        after: The id of an object: only what comes after it.
        failed: Told of a store that cannot be listed any more: from there on nothing of it comes.
    """
    listings = [_Listing(name, Patient(store), failed, after) for name, store in stores.items()]
    while True:
        await all_of(listing.fill() for listing in listings)
        heads = [listing.keys[0].object_id for listing in listings if listing.keys]
        if not heads:
            return
        object_id = min(heads)
        yield [
            Source(listing.name, listing.store, key, compute)
            for listing in listings
            for key in await listing.take(object_id)
        ]


class _Listing:
    """The keys of one store, a page at a time."""

    def __init__(
        self, name: str, store: Readable, failed: Callable[[Fault], None], after: bytes | None
    ) -> None:
        self.name = name
        self.store = store
        self.keys: deque[FragmentKey] = deque()
        """Those that come next; without any after `fill`, there are none any more."""
        self._failed = failed
        self._after = None if after is None else _last(after)
        self._is_over = False

    async def fill(self) -> None:
        """Get the next page, if there is no key left of the last one."""
        while not self.keys and not self._is_over:
            await self._fill()

    async def _fill(self) -> None:
        try:
            page = await self.store.keys(self._after, PAGE_KEYS)
        except Exception as error:
            self._end(told(error))
            return
        before = () if self._after is None else (self._after,)
        if not all(first < second for first, second in pairwise((*before, *page))):
            # It might go round for ever.
            self._end("it lists its fragments in a wrong order")
            return
        self._is_over = len(page) < PAGE_KEYS
        self.keys.extend(key for key in page if is_possible(key, key.object_id))
        if page:
            self._after = page[-1]

    def _end(self, detail: str) -> None:
        self._is_over = True
        self._failed(Fault(self.name, None, detail))

    async def take(self, object_id: bytes) -> list[FragmentKey]:
        """The keys of an object, which are the next ones if there are any: those of some
        manifests. A store may name any number of them, without end."""
        taken: list[FragmentKey] = []
        roots: set[bytes] = set()
        while self.keys and self.keys[0].object_id == object_id:
            key = self.keys.popleft()
            roots.add(key.root)
            if len(roots) > ROOTS_MAX:
                self._skip(object_id)
            else:
                taken.append(key)
            await self.fill()
        return taken

    def _skip(self, object_id: bytes) -> None:
        """Go on after an object."""
        while self.keys and self.keys[0].object_id == object_id:
            self.keys.popleft()
        if not self.keys:
            self._after = _last(object_id)


def _last(object_id: bytes) -> FragmentKey:
    """One that no other key of an object comes after."""
    return FragmentKey(object_id, LAST_ROOT, FRAGMENTS_MAX - 1)
