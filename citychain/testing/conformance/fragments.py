"""What every fragment store must do: inherit `FragmentStoreSuite` and name the store.

::

    import pytest
    from citychain.testing.conformance import FragmentStoreSuite
    from citychain_harbour.shelf import SHELF

    class TestShelf(FragmentStoreSuite):
        @pytest.fixture
        def definition(self):
            return SHELF

docs/how-to/fragments.md says what each group of checks means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import BaseModel

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.hooks.definitions import FOLDER, FragmentStoreDefinition
from citychain.hooks.versions import adapted
from citychain.ports import StorageContext
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._fragments_cut import CutTests
from citychain.testing.conformance._fragments_killed import KilledTests
from citychain.testing.conformance._fragments_machine import FragmentsMachine
from citychain.testing.conformance._fragments_puts import PutTests
from citychain.testing.conformance._fragments_reads import ReadTests
from citychain.testing.conformance._fragments_session import Factory, StoreSession
from citychain.testing.conformance._storage_cut import FailingCompute
from citychain.testing.conformance._suite import Suite

__all__ = ["FragmentStoreSuite"]


class FragmentStoreSuite(ReadTests, PutTests, CutTests, KilledTests, Suite):
    """Inherit it as ``Test...`` and override the fixture `definition`; tests are never overridden.

    A store that is not ``durable`` is not reopened; what it cannot show is skipped, with the
    reason.

    =================== ================================================================
    fixture             override it
    =================== ================================================================
    ``definition``      always: returns the store's `FragmentStoreDefinition`
    ``options``         for a store that needs some: a mapping as in citychain.toml
    ``limited_options`` for a store that can be given a limit: the same, and a limit of
                        some 100 KiB to 10 MiB
    ``store_directory`` never; make the options from it where fragments are kept elsewhere
    =================== ================================================================

    Each test begins with an empty store: where fragments are kept elsewhere, make a bucket's name
    or a prefix from ``store_directory``, which is another path for each test.

    pytest needs ``asyncio_mode = "auto"`` in its settings.
    """

    big_mib: ClassVar[int] = 64
    """Size of the largest fragment."""
    kills: ClassVar[int] = 3
    """Processes that are killed while they put; each takes a second or two to start."""
    examples: ClassVar[int] = 30
    """Runs of the state machine."""

    @pytest.fixture
    def limited_options(self) -> Mapping[str, Any] | None:
        """Options with a limit; ``None`` for a store that has none."""
        return None

    @pytest.fixture
    def store_directory(self, tmp_path: Path, elsewhere: Elsewhere) -> Path:
        """The directory that the framework gives to the store."""
        folder = tmp_path if elsewhere.place is None else elsewhere.place.parent
        return folder / "store"

    @pytest.fixture
    async def store_compute(self) -> AsyncIterator[FailingCompute]:
        """The framework's executor."""
        async with Executor(4) as compute:
            yield FailingCompute(compute)

    @pytest.fixture
    def store_context(self, store_directory: Path, store_compute: FailingCompute) -> StorageContext:
        """What the framework gives to a store's factory."""
        return StorageContext(store_directory, store_compute, SystemClock())

    @pytest.fixture
    def stores(
        self,
        definition: FragmentStoreDefinition,
        validated_options: BaseModel,
        store_context: StorageContext,
    ) -> Factory:
        """Makes stores, not entered yet, over one place, as citychain does."""
        present = adapted(definition)
        return lambda: present.factory(validated_options, store_context)

    @pytest.fixture
    async def session(
        self, definition: FragmentStoreDefinition, stores: Factory
    ) -> AsyncIterator[StoreSession]:
        session = StoreSession(stores, definition)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    @pytest.fixture
    async def limited(
        self,
        definition: FragmentStoreDefinition,
        limited_options: Mapping[str, Any] | None,
        store_context: StorageContext,
        tmp_path: Path,
    ) -> AsyncIterator[StoreSession]:
        """An open store with a limit."""
        if limited_options is None:
            pytest.skip(f"the fragment store {definition.name!r} was given no limited_options")
        options = definition.options.model_validate(
            dict(limited_options), context={FOLDER: tmp_path}
        )
        present = adapted(definition)
        session = StoreSession(lambda: present.factory(options, store_context), definition)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    def test_any_sequence_of_calls(
        self, definition: FragmentStoreDefinition, stores: Factory
    ) -> None:
        """A state machine makes calls, and compares with a dict after each."""

        class Machine(FragmentsMachine):
            def session(self) -> StoreSession:
                return StoreSession(stores, definition)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
