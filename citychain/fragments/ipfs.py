"""A fragment store among the files of an IPFS node: of kubo, by its RPC API.

::

    PATH/<3>/<object>-<root>-<index>     a whole fragment, below the first digits of its name

Content is given to the node, which pins it, and then gets its name; the node refuses a name that is
taken. With a name it is kept, and the pin is taken back. A pin of who was killed in between has a
name that tells its age: whoever opens the store a day later removes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from citychain.errors import FragmentMissing, StoreUnavailable
from citychain.fragments._ipfs_node import Missing, Node, Refused
from citychain.fragments._ipfs_options import IpfsOptions
from citychain.fragments._names import SHARD, SHARD_DIGITS, is_name, key_of, name_of
from citychain.fragments._parts import exactly
from citychain.fragments._room import Claim, Room
from citychain.fragments._settled import settled
from citychain.ports import FragmentKey, Space

if TYPE_CHECKING:
    from citychain.ports import StorageContext

__all__ = ["IpfsOptions", "IpfsStore"]

TAKEN: Final = "already has entry by that name"
LEFT_MS: Final = 24 * 60 * 60 * 1_000
"""After so long nobody is still at it."""


class IpfsStore:
    """A `FragmentStore` of a node, which several processes may use."""

    def __init__(self, options: IpfsOptions, context: StorageContext) -> None:
        self._options = options
        self._root = options.path
        self._clock = context.clock
        self._where = f"fragment store in {options.path} of the IPFS node at {options.endpoint}"
        self._room = Room(self._where, options.limit_mib)

    async def __aenter__(self) -> IpfsStore:
        options = self._options
        self._node = Node(options.endpoint, options.bearer(), options.timeout_seconds, self._where)
        try:
            with self._errors():
                await self._node.call("files/mkdir", self._root, parents="true")
                await self._remove_left()
            if self._room.limit is not None:
                self._room.used = await self._counted()
        except BaseException:
            await settled(self._node.close())
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await settled(self._node.close())

    # Fragments

    async def put(self, key: FragmentKey, size: int, parts: AsyncIterator[bytes]) -> None:
        """See `FragmentStore.put`."""
        path = self._path(key)
        if await self._size(path) is not None:
            return
        with self._room.claim(size) as claim, self._errors():
            options = {"cid-version": "1", "raw-leaves": "true", "pin": "true"}
            options["pin-name"] = self._pin_name()
            cid = await self._node.add(exactly(size, parts, self._where), **options)
            await settled(self._give_name(cid, path, claim))

    async def _give_name(self, cid: str, path: str, claim: Claim) -> None:
        try:
            await self._node.call("files/cp", f"/ipfs/{cid}", path, parents="true")
            claim.keep()
        except Refused as refused:
            if TAKEN not in str(refused):
                raise
        finally:
            with suppress(Refused):  # Who puts the same has taken it back.
                await self._node.call("pin/rm", cid)

    async def read(self, key: FragmentKey, offset: int, length: int) -> bytes:
        """See `FragmentStore.read`."""
        path = self._path(key)
        try:
            got = await self._node.call(
                "files/read", path, most=length, offset=offset, count=length
            )
        except Refused as refused:
            if isinstance(refused, Missing):
                await self._be_there()
            elif "past end of file" not in str(refused):
                raise self._node.told(refused) from None
            raise FragmentMissing(f"{self._where}: {refused}") from None
        if len(got) != length:
            raise FragmentMissing(f"{self._where}: {path} ends at byte {offset + len(got)}")
        return got

    async def size(self, key: FragmentKey) -> int | None:
        """See `FragmentStore.size`."""
        size = await self._size(self._path(key))
        if size is None:
            await self._be_there()
        return size

    async def find(self, object_id: bytes) -> Sequence[FragmentKey]:
        """See `FragmentStore.find`."""
        prefix = object_id.hex()
        names = await self._names(prefix[:SHARD_DIGITS])
        await self._be_there()
        return [key_of(name) for name in names if name.startswith(prefix)]

    async def keys(self, after: FragmentKey | None, limit: int) -> Sequence[FragmentKey]:
        """See `FragmentStore.keys`."""
        last = "" if after is None else name_of(after)
        found: list[str] = []
        for shard in await self._shards():
            if shard >= last[:SHARD_DIGITS]:
                found += (name for name in await self._names(shard) if name > last)
                if len(found) >= limit:
                    break
        await self._be_there()
        return [key_of(name) for name in found[:limit]]

    async def delete(self, key: FragmentKey) -> bool:
        """See `FragmentStore.delete`. The node frees the room when it collects its garbage."""
        return await settled(self._delete(self._path(key)))

    async def _delete(self, path: str) -> bool:
        size = await self._size(path)
        with self._errors():
            # That there is no such file it says without refusing.
            said = b"" if size is None else await self._node.call("files/rm", path)
        if size is None or b"file does not exist" in said:
            await self._be_there()
            return False
        self._room.give_back(size)
        return True

    async def space(self) -> Space:
        """See `FragmentStore.space`; without a limit everything is counted now."""
        used = self._room.used if self._room.limit is not None else await self._counted()
        await self._be_there()
        return Space(used, self._room.limit)

    # Calls

    def _path(self, key: FragmentKey) -> str:
        name = name_of(key)
        return f"{self._root}/{name[:SHARD_DIGITS]}/{name}"

    async def _size(self, path: str) -> int | None:
        """``None`` also where there is no folder."""
        with self._errors():
            try:
                return int((await self._node.json("files/stat", path))["Size"])
            except Missing:
                return None

    async def _be_there(self) -> None:
        """Raises `StoreUnavailable` if the folder is gone: then nothing is known of what was in
        it."""
        if await self._size(self._root) is None:
            raise StoreUnavailable(
                f"{self._where}: the folder is gone; see what became of the node"
            )

    async def _entries(self, path: str, *, sizes: bool = False) -> list[dict[str, Any]]:
        with self._errors():
            try:
                said = await self._node.json("files/ls", path, long=str(sizes).lower(), U="true")
            except Missing:
                return []
        return said["Entries"] or []

    async def _shards(self) -> list[str]:
        names = [str(entry["Name"]) for entry in await self._entries(self._root)]
        return sorted(filter(SHARD.fullmatch, names))

    async def _names(self, shard: str) -> list[str]:
        entries = await self._entries(f"{self._root}/{shard}")
        return sorted(it["Name"] for it in entries if is_name(it["Name"], shard))

    async def _counted(self) -> int:
        used = 0
        for shard in await self._shards():
            entries = await self._entries(f"{self._root}/{shard}", sizes=True)
            used += sum(it["Size"] for it in entries if is_name(it["Name"], shard))
        return used

    # Pins

    @property
    def _pin_prefix(self) -> str:
        return f"citychain-new:{self._root}:"

    def _pin_name(self) -> str:
        return f"{self._pin_prefix}{self._clock.time_ms()}"

    async def _remove_left(self) -> None:
        """Take back the pins of who was killed before the content had its name."""
        options = {"type": "recursive", "names": "true", "name": self._pin_prefix}
        pins = (await self._node.json("pin/ls", **options)).get("Keys", {})
        for cid, pin in pins.items():
            name = pin.get("Name", "")
            since = name.removeprefix(self._pin_prefix)
            is_ours = since != name and since.isdecimal()
            if is_ours and self._clock.time_ms() - int(since) > LEFT_MS:
                with suppress(Refused):  # Another has just done it.
                    await self._node.call("pin/rm", cid)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            raise self._node.told(refused) from None
