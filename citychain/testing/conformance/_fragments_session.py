"""What the tests of fragment stores have in common: an open store, keys, contents, a model."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Final, TypeAlias

import pytest

from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.ports import FragmentKey, FragmentStore

__all__ = ["Factory", "StoreSession", "check", "content", "key", "parts", "put", "whole"]

Factory: TypeAlias = Callable[[], FragmentStore]

PAGE: Final = 7
"""Keys that are listed at a time: few, so that there are several pages."""


class StoreSession:
    """An entered store, and the way to leave it and enter the next."""

    def __init__(self, factory: Factory, definition: FragmentStoreDefinition) -> None:
        self._factory = factory
        self._definition = definition
        self.durable = definition.durable

    async def open(self) -> None:
        # What is entered need not be what that gives, such as of an `asynccontextmanager`.
        self._manager = self._factory()
        self.store = await self._manager.__aenter__()

    async def close(self) -> None:
        await self._manager.__aexit__(None, None, None)

    async def reopen(self) -> FragmentStore:
        """Leave the store and enter a new one; a store that forgets stays as it is."""
        if self.durable:
            await self.close()
            await self.open()
        return self.store

    def need_durable(self) -> None:
        """Skip the test if what the store keeps goes with it."""
        if not self.durable:
            pytest.skip(f"the fragment store {self._definition.name!r} says durable=False")


def key(number: int, index: int = 0, root: int = 0) -> FragmentKey:
    """A key by numbers. Equal ones give equal parts, and others others, in no order."""
    return FragmentKey(
        sha256(b"object %d" % number).digest(), sha256(b"root %d" % root).digest(), index
    )


def content(number: int, size: int = 10_000) -> bytes:
    """Something to put, which compresses to nothing less."""
    return random.Random(number).randbytes(size)


async def parts(content: bytes, size: int = 3_000) -> AsyncIterator[bytes]:
    """The content in parts, an empty one among them."""
    for at in range(0, len(content), size):
        yield content[at : at + size]
        if at == 0:
            yield b""


async def put(store: FragmentStore, key: FragmentKey, content: bytes, size: int = 3_000) -> None:
    """Put a content in parts of a size."""
    await store.put(key, len(content), parts(content, size))


async def whole(store: FragmentStore, key: FragmentKey) -> bytes | None:
    """All of a fragment; ``None`` where it is not."""
    size = await store.size(key)
    return None if size is None else await store.read(key, 0, size)


async def check(store: FragmentStore, expected: Mapping[FragmentKey, bytes]) -> None:
    """Compare all that a store says with what it must have."""
    listed: list[FragmentKey] = []
    while True:
        page = list(await store.keys(listed[-1] if listed else None, PAGE))
        assert len(page) <= PAGE, "keys() gives at most so many as it is asked for"
        listed += page
        assert all(a < b for a, b in pairwise(listed)), (
            "keys() go on after the last one, in order, each once"
        )
        if len(page) < PAGE:
            break
    assert listed == sorted(expected), "keys() are those of the fragments that were put"
    for object_id in {key.object_id for key in expected}:
        found = sorted(key for key in expected if key.object_id == object_id)
        assert list(await store.find(object_id)) == found, (
            "find() gives the keys of all fragments of an object, sorted"
        )
    for known, meant in expected.items():
        assert await whole(store, known) == meant, "a fragment must come back byte by byte"
    used = (await store.space()).used
    assert used == sum(map(len, expected.values())), "space() counts the bytes of the fragments"
