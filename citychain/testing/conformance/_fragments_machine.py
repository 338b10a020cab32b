"""Fragment store tests: any sequence of calls, compared with a dict after each."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from citychain.errors import FragmentMissing, StorageError
from citychain.ports import FragmentKey, FragmentStore
from citychain.testing.conformance._fragments_session import (
    StoreSession,
    check,
    content,
    key,
    parts,
    put,
)

__all__ = ["FragmentsMachine"]

keys = st.builds(key, st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))


class FragmentsMachine(RuleBasedStateMachine):
    def session(self) -> StoreSession:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._session = self.session()
        self._runner.run(self._session.open())
        self._expected: dict[FragmentKey, bytes] = {}

    @property
    def _store(self) -> FragmentStore:
        return self._session.store

    @initialize()
    def find_nothing_of_another(self) -> None:
        """What an example before this one left is deleted."""

        async def clear() -> None:
            while left := await self._store.keys(None, 100):
                for known in left:
                    await self._store.delete(known)

        self._runner.run(clear())

    @rule(known=keys, number=st.integers(0, 1 << 20), size=st.integers(1, 20_000))
    def put(self, known: FragmentKey, number: int, size: int) -> None:
        self._runner.run(put(self._store, known, content(number, size)))
        self._expected.setdefault(known, content(number, size))

    @rule(known=st.lists(keys, unique=True, max_size=4))
    def put_at_once(self, known: list[FragmentKey]) -> None:
        async def gathered() -> None:
            await asyncio.gather(*(put(self._store, it, bytes(it.index + 1)) for it in known))

        self._runner.run(gathered())
        for it in known:
            self._expected.setdefault(it, bytes(it.index + 1))

    @rule(known=keys, size=st.integers(1, 5_000), more=st.sampled_from([-1, 1]))
    def put_what_has_another_size(self, known: FragmentKey, size: int, more: int) -> None:
        if known not in self._expected:
            with pytest.raises(StorageError):
                self._runner.run(
                    self._store.put(known, size + 1, parts(content(1, size + 1 + more)))
                )

    @rule(known=keys)
    def delete(self, known: FragmentKey) -> None:
        was_there = self._expected.pop(known, None) is not None
        assert self._runner.run(self._store.delete(known)) is was_there, (
            "delete() says whether the fragment was there"
        )

    @rule(known=keys, offset=st.integers(0, 20_000), length=st.integers(1, 20_000))
    def read(self, known: FragmentKey, offset: int, length: int) -> None:
        meant = self._expected.get(known)
        if meant is None or offset + length > len(meant):
            with pytest.raises(FragmentMissing):
                self._runner.run(self._store.read(known, offset, length))
            return
        read = self._runner.run(self._store.read(known, offset, length))
        assert read == meant[offset : offset + length], "read() gives the bytes of the range"

    @rule(after=st.none() | keys, limit=st.integers(1, 5))
    def list_a_page(self, after: FragmentKey | None, limit: int) -> None:
        page = self._runner.run(self._store.keys(after, limit))
        later = sorted(known for known in self._expected if after is None or known > after)
        assert list(page) == later[:limit], "keys() gives so many, from behind a key on"

    @rule()
    def reopen(self) -> None:
        self._runner.run(self._session.reopen())

    @invariant()
    def the_store_agrees(self) -> None:
        self._runner.run(check(self._store, self._expected))

    def teardown(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()
