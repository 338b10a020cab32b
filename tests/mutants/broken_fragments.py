"""Fragment stores with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from biting import Mutant
from pydantic import BaseModel

from citychain.errors import FragmentMissing, StorageError, StoreFull, StoreUnavailable
from citychain.fragments._settled import settled
from citychain.fragments.directory import DirectoryOptions, DirectoryStore
from citychain.fragments.memory import MemoryStore
from citychain.hooks.definitions import API_VERSION, FragmentStoreDefinition
from citychain.testing.conformance import FragmentStoreSuite

__all__ = ["MUTANTS", "Suite"]


class Suite(FragmentStoreSuite):
    """The suite, smaller."""

    big_mib = 32
    examples = 500
    kills = 1

    @pytest.fixture
    def limited_options(self, definition):
        if definition.options is DirectoryOptions:
            return {"limit_mib": 1}
        return {"limit": 200_000}


class Options(BaseModel):
    limit: int | None = None


MUTANTS: list[Mutant] = []


def caught_by(test: str, name: str) -> Callable[[type], type]:
    """Lists a class of stores as a mutant."""

    def listed(store: type[Any]) -> type[Any]:
        if issubclass(store, DirectoryStore):
            definition = FragmentStoreDefinition(
                "broken", store, DirectoryOptions, api_version=API_VERSION
            )
        else:
            definition = FragmentStoreDefinition(
                "broken",
                lambda options, context: store(options.limit),
                Options,
                durable=False,
                api_version=API_VERSION,
            )
        MUTANTS.append(Mutant(name, definition, test))
        return store

    return listed


async def joined(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


# --- reading


@caught_by("test_a_new_store_is_empty", "deletes what is not there")
class DeletesAlways(MemoryStore):
    """Like a database's DELETE, which says nothing."""

    async def delete(self, key):
        await super().delete(key)
        return True


@caught_by("test_a_new_store_is_empty", "has an empty fragment where there is none")
class EmptyForNone(MemoryStore):
    """A default where something is missing."""

    async def size(self, key):
        return len(self._fragments.get(key, b""))


@caught_by("test_what_was_put_is_read_back", "forgets a last part that is small")
class ForgetsTheLast(MemoryStore):
    """Writes by whole blocks, and not what is left."""

    async def put(self, key, size, parts):
        await super().put(key, size, parts)
        content = self._fragments[key]
        self._fragments[key] = content[: len(content) // 512 * 512]


@caught_by("test_what_was_put_is_read_back", "forgets its list when it is opened anew")
class ForgetsItsList(DirectoryStore):
    """Content on the disk, and the list of it in memory."""

    def __init__(self, options, context):
        super().__init__(options, context)
        self._listed = set()

    async def put(self, key, size, parts):
        await super().put(key, size, parts)
        self._listed.add(key)

    async def keys(self, after, limit):
        return sorted(key for key in self._listed if after is None or key > after)[:limit]

    async def delete(self, key):
        self._listed.discard(key)
        return await super().delete(key)


@caught_by("test_ranges_are_exact", "reads no more than a block")
class ReadsABlock(MemoryStore):
    """One call to the system, which may give less."""

    async def read(self, key, offset, length):
        return (await super().read(key, offset, length))[:65_536]


@caught_by("test_ranges_are_exact", "takes the length for the end")
class LengthIsEnd(MemoryStore):
    """As HTTP ranges are written."""

    async def read(self, key, offset, length):
        await super().read(key, offset, length)
        return self._fragments[key][offset:length]


@caught_by("test_bytes_behind_the_end_are_missing", "reads up to the end only")
class ReadsLess(MemoryStore):
    """A slice is never out of range."""

    async def read(self, key, offset, length):
        if key not in self._fragments:
            raise FragmentMissing("no such fragment")
        return self._fragments[key][offset : offset + length]


@caught_by("test_each_part_of_a_key_counts", "takes an index for a digit")
class OneDigit(MemoryStore):
    """Names end with the last digit of the index."""

    async def put(self, key, size, parts):
        await super().put(key._replace(index=key.index % 10), size, parts)


@caught_by("test_each_part_of_a_key_counts", "takes capitals for small letters")
class FoldsCase(MemoryStore):
    """As some file systems do."""

    async def put(self, key, size, parts):
        await super().put(key._replace(object_id=key.object_id.lower()), size, parts)


@caught_by("test_all_fragments_of_an_object_are_found", "lists fragments of one manifest only")
class OneRoot(MemoryStore):
    """Takes it for granted that there is one."""

    async def find(self, object_id):
        found = await super().find(object_id)
        return [key for key in found if key.root == found[0].root]


@caught_by("test_all_fragments_of_an_object_are_found", "lists them as they came")
class AsTheyCame(MemoryStore):
    """In the order of a dict."""

    async def find(self, object_id):
        return [key for key in self._fragments if key.object_id == object_id]


@caught_by("test_keys_come_in_order_page_by_page", "goes on from the key itself")
class FromTheKeyOn(MemoryStore):
    """``>=`` where ``>`` is meant."""

    async def keys(self, after, limit):
        return sorted(key for key in self._fragments if after is None or key >= after)[:limit]


@caught_by("test_keys_come_in_order_page_by_page", "goes on by number")
class GoesOnByNumber(MemoryStore):
    """Looks where the key stands in the list, which it may not any more."""

    async def keys(self, after, limit):
        keys = sorted(self._fragments)
        first = keys.index(after) + 1 if after in keys else 0
        return keys[first : first + limit]


@caught_by("test_keys_come_in_order_page_by_page", "sorts a page and not the whole")
class SortsAPage(MemoryStore):
    """The first that come, sorted."""

    async def keys(self, after, limit):
        later = [key for key in self._fragments if after is None or key > after]
        return sorted(later[:limit])


@caught_by("test_a_deleted_fragment_is_gone_and_may_come_back", "never takes back what it deleted")
class Tombstones(MemoryStore):
    """Remembers what was deleted, for ever."""

    def __init__(self, limit=None):
        super().__init__(limit)
        self._deleted = set()

    async def put(self, key, size, parts):
        if key not in self._deleted:
            await super().put(key, size, parts)

    async def delete(self, key):
        self._deleted.add(key)
        return await super().delete(key)


@caught_by("test_a_fragment_that_is_read_while_it_is_deleted_is_whole_or_missing", "reads halves")
class ReadsHalves(MemoryStore):
    """One half after the other, and what is gone is empty."""

    async def read(self, key, offset, length):
        await super().read(key, offset, length)
        half = self._fragments[key][offset : offset + length // 2]
        await asyncio.sleep(0)
        return half + self._fragments.get(key, b"")[offset + length // 2 : offset + length]


# --- putting


@caught_by("test_putting_again_leaves_what_is_there", "replaces what is there")
class Replaces(MemoryStore):
    """An upsert."""

    async def put(self, key, size, parts):
        self._fragments.pop(key, None)
        await super().put(key, size, parts)


@caught_by("test_many_puts_at_once", "has one buffer for all puts")
class OneBuffer(MemoryStore):
    """Made once, for speed."""

    def __init__(self, limit=None):
        super().__init__(limit)
        self._buffer = bytearray()

    async def put(self, key, size, parts):
        self._buffer.clear()
        async for part in parts:
            self._buffer += part
            await asyncio.sleep(0)
        await super().put(key, size, one(bytes(self._buffer)))


@caught_by("test_one_fragment_put_several_times_at_once_is_one", "counts each put")
class CountsEachPut(MemoryStore):
    """Adds up what was put, instead of what is there."""

    _sum = 0

    async def put(self, key, size, parts):
        if key not in self._fragments:
            content = await joined(parts)
            await asyncio.sleep(0)
            await super().put(key, size, one(content))
            self._sum += size

    async def space(self):
        return (await super().space())._replace(used=self._sum)


@caught_by("test_nobody_sees_a_fragment_before_it_is_whole", "writes where it is read")
class WritesInPlace(MemoryStore):
    """Takes it back if it was wrong."""

    async def put(self, key, size, parts):
        if key in self._fragments:
            return
        self._fragments[key] = b""
        try:
            async for part in parts:
                self._fragments[key] += part
            if len(self._fragments[key]) != size:
                raise StorageError("another size")
        except BaseException:
            del self._fragments[key]
            raise


@caught_by("test_parts_that_break_off_leave_nothing", "keeps what came before an error")
class KeepsABeginning(MemoryStore):
    """Closes its file in a ``finally``, as if all was well."""

    async def put(self, key, size, parts):
        content = b""
        try:
            async for part in parts:
                content += part
        finally:
            self._fragments.setdefault(key, content)


@caught_by("test_parts_that_break_off_leave_nothing", "stops at the size")
class StopsAtTheSize(MemoryStore):
    """Does not hear that the last part was wrong, since it does not ask for more."""

    async def put(self, key, size, parts):
        content = b""
        while len(content) < size:
            content += await anext(parts)
        await super().put(key, size, one(content))


@caught_by("test_parts_of_another_size_are_refused", "takes what comes")
class TakesWhatComes(MemoryStore):
    """The size is what was read."""

    async def put(self, key, size, parts):
        content = await joined(parts)
        await super().put(key, len(content), one(content))


@caught_by("test_a_large_fragment_does_not_fill_the_memory", "holds all of it")
class HoldsAll(DirectoryStore):
    """A library that wants bytes."""

    async def put(self, key, size, parts):
        await super().put(key, size, one(await joined(parts)))


# --- room


@caught_by("test_a_full_store_says_so_and_takes_more_when_there_is_room", "is never full")
class NeverFull(MemoryStore):
    """Knows its limit and does not keep it."""

    def _find_room(self, size):
        pass


@caught_by(
    "test_a_full_store_says_so_and_takes_more_when_there_is_room",
    "wants room for what it has",
)
class WantsRoomAgain(MemoryStore):
    """Looks at its room before it looks whether it has the fragment."""

    async def put(self, key, size, parts):
        self._find_room(size)
        await super().put(key, size, parts)


@caught_by("test_puts_at_once_do_not_share_the_last_room", "looks at its room once")
class LooksOnce(MemoryStore):
    """Before it reads, and others do so meanwhile."""

    async def put(self, key, size, parts):
        if key not in self._fragments:
            self._find_room(size)
            content = await joined(parts)
            await asyncio.sleep(0)
            self._fragments[key] = content


class Reserves(MemoryStore):
    """Reserves room before it reads."""

    gives_back: tuple[type[BaseException], ...] = ()

    def __init__(self, limit=None):
        super().__init__(limit)
        self._reserved = 0

    async def put(self, key, size, parts):
        if key in self._fragments:
            return
        if self._limit is not None and self._used + self._reserved + size > self._limit:
            raise StoreFull("no room")
        self._reserved += size
        try:
            content = b""
            async for part in parts:
                content += part
                await asyncio.sleep(0)
            await super().put(key, size, one(content))
        except self.gives_back:
            self._reserved -= size
            raise
        self._reserved -= size


@caught_by("test_room_that_was_not_used_is_given_back", "keeps what it reserved for what failed")
class KeepsRoom(Reserves):
    """Gives room back where all was well."""


@caught_by("test_a_cancelled_put_gives_its_room_back", "keeps room of who was cancelled")
class KeepsRoomOfTheCancelled(Reserves):
    """``except Exception`` does not see a cancellation."""

    gives_back = (Exception,)


@caught_by("test_a_full_disk_is_told_and_leaves_nothing", "says of a full disk that it is away")
class FullIsAway(DirectoryStore):
    """One error for all that the system says."""

    def _told(self, error):
        return StoreUnavailable(str(error))


# --- calls cut short


@caught_by("test_a_put_cancelled_at_any_await_is_whole_or_absent", "leaves a part when cancelled")
class LeavesAPart(DirectoryStore):
    """Has the fragment's name from the first part on."""

    async def put(self, key, size, parts):
        if await self.size(key) is not None:
            return
        place = self._folder.place(key)
        place.parent.mkdir(exist_ok=True)
        async for part in parts:
            with place.open("ab") as file:
                file.write(part)
            await asyncio.sleep(0)


@caught_by("test_a_put_cancelled_at_any_await_is_whole_or_absent", "swallows a cancellation")
class SwallowsCancellation(MemoryStore):
    """Tries again after whatever was raised."""

    async def put(self, key, size, parts):
        content = await joined(parts)
        try:
            await asyncio.sleep(0)
        except BaseException:
            await asyncio.sleep(0)
        await super().put(key, size, one(content))


@caught_by("test_a_delete_cancelled_at_any_await_happens_or_not", "deletes the half of it")
class DeletesHalves(MemoryStore):
    """The content, and then the name."""

    async def delete(self, key):
        if key not in self._fragments:
            return False
        self._fragments[key] = b""
        await asyncio.sleep(0)
        return await super().delete(key)


@caught_by("test_cancelled_calls_give_back_what_they_used", "loses connections of the cancelled")
class LosesConnections(MemoryStore):
    """Takes one from a pool, and gives it back where all was well."""

    _left = 5

    async def read(self, key, offset, length):
        if not self._left:
            raise StoreUnavailable("no connection is free")
        self._left -= 1
        await asyncio.sleep(0)
        self._left += 1
        return await super().read(key, offset, length)


@caught_by("test_a_put_that_fails_at_any_step_is_whole_or_absent", "leaves a part when it fails")
class LeavesAPartOfAFailure(DirectoryStore):
    """Has the fragment's name from the first part on, and takes it back when cancelled."""

    def __init__(self, options, context):
        super().__init__(options, context)
        self._compute = context.compute

    async def put(self, key, size, parts):
        if await self.size(key) is not None:
            return
        place = self._folder.place(key)
        place.parent.mkdir(exist_ok=True)
        async for part in parts:
            await settled(self._compute(self._append, place, part))

    def _append(self, place, part):
        with place.open("ab") as file:
            file.write(part)


OPEN: set[Any] = set()


@caught_by("test_an_opening_that_is_cut_short_keeps_nobody_out", "keeps its lock when cut short")
class KeepsItsLock(DirectoryStore):
    """Unlocks when it is left, which was never entered."""

    async def __aenter__(self):
        if self._folder.path in OPEN:
            raise StoreUnavailable("it is in use")
        OPEN.add(self._folder.path)
        return await super().__aenter__()

    async def __aexit__(self, *exc_info):
        OPEN.discard(self._folder.path)


# --- life


LOCK = asyncio.Lock()


@caught_by("test_a_new_event_loop_opens_what_another_left", "has a lock for all event loops")
class OneLock(MemoryStore):
    """A lock belongs to the loop in which somebody first waited for it."""

    async def put(self, key, size, parts):
        async with LOCK:
            await asyncio.sleep(0)
            await super().put(key, size, parts)


SEVERAL = 4
"""So many puts of the process that is to be killed are under way at a time."""


@caught_by("test_what_was_put_survives_a_kill", "has the name before the content")
class NameFirst(LeavesAPart):
    """What is killed leaves half a fragment: of several at once, one is never done with."""

    under_way = 0
    has_stuck = False

    async def put(self, key, size, parts):
        self.under_way += 1
        is_stuck = self.under_way == SEVERAL and not self.has_stuck
        self.has_stuck |= is_stuck

        async def slow():
            wait = 0.0
            async for part in parts:
                await asyncio.sleep(wait)
                wait = 3_600 if is_stuck else 0.005
                yield part

        try:
            await super().put(key, size, slow())
        finally:
            self.under_way -= 1


@caught_by("test_what_was_put_survives_a_kill", "writes when it has time")
class WritesLater(DirectoryStore):
    """Returns, and has it in memory."""

    def __init__(self, options, context):
        super().__init__(options, context)
        self._waiting = {}

    async def put(self, key, size, parts):
        self._waiting[key] = await joined(parts)
        await asyncio.sleep(0.001)

    async def __aexit__(self, *exc_info):
        for key, content in self._waiting.items():
            await super().put(key, len(content), one(content))


@caught_by("test_any_sequence_of_calls", "mixes up two of one root")
class SharesContent(MemoryStore):
    """Fragments of one manifest and index are the same, whatever object it says."""

    async def read(self, key, offset, length):
        same = (it for it in self._fragments if it[1:] == key[1:])
        return await super().read(next(same, key), offset, length)
