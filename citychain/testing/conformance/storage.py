"""What every storage backend must do: inherit `StorageSuite` and name the backend.

::

    import pytest
    from citychain.testing.conformance import StorageSuite
    from citychain_harbour.storage import STORAGE

    class TestStorage(StorageSuite):
        @pytest.fixture
        def definition(self):
            return STORAGE

docs/how-to/storage.md says what each group of checks means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import BaseModel

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.hooks.definitions import StorageDefinition
from citychain.hooks.versions import adapted
from citychain.ports import StorageContext
from citychain.testing.conformance._elsewhere import Elsewhere
from citychain.testing.conformance._storage_cut import FailingCompute
from citychain.testing.conformance._storage_intake import IntakeTests
from citychain.testing.conformance._storage_interrupted import InterruptedTests
from citychain.testing.conformance._storage_killed import KilledTests
from citychain.testing.conformance._storage_loops import LoopTests
from citychain.testing.conformance._storage_machine import StorageMachine
from citychain.testing.conformance._storage_names import NameTests
from citychain.testing.conformance._storage_notes import NoteTests
from citychain.testing.conformance._storage_retention import RetentionTests
from citychain.testing.conformance._storage_rounds import RoundTests
from citychain.testing.conformance._storage_servers import ServersTests
from citychain.testing.conformance._storage_session import Factory, Session
from citychain.testing.conformance._storage_shared import SharedTests
from citychain.testing.conformance._storage_views import ViewTests
from citychain.testing.conformance._storage_whole import WholeTests
from citychain.testing.conformance._suite import Suite

__all__ = ["StorageSuite"]


class StorageSuite(
    IntakeTests,
    RoundTests,
    NoteTests,
    NameTests,
    ViewTests,
    WholeTests,
    RetentionTests,
    InterruptedTests,
    LoopTests,
    SharedTests,
    ServersTests,
    KilledTests,
    Suite,
):
    """Inherit it as ``Test...`` and override the fixture `definition`; tests are never overridden.

    What the definition says decides which tests apply. One that does not is skipped, with the
    reason: a backend that is not ``durable`` is not reopened, one that is not ``shared`` is not
    opened by two servers.

    ===================== ==============================================================
    fixture               override it
    ===================== ==============================================================
    ``definition``        always: returns the backend's `StorageDefinition`
    ``options``           for a backend that needs some: a mapping as in citychain.toml
    ``storage_directory`` never; make the options from it where data is kept elsewhere
    ===================== ==============================================================

    Tests use new cities of their own, so storage may be shared by all tests, and runs. The class
    attributes below change sizes. A standard test that the backend cannot pass is shown as a gap::

        @pytest.mark.xfail(reason="notes are 64 KiB at most")
        async def test_a_note_may_be_as_large_as_is_allowed(self, session):
            await super().test_a_note_may_be_as_large_as_is_allowed(session)

    pytest needs ``asyncio_mode = "auto"`` in its settings.
    """

    big_batch: ClassVar[int] = 10_000
    """Transactions of the largest append and round."""
    kills: ClassVar[int] = 3
    """Processes that are killed while they write; each takes a second or two to start."""
    examples: ClassVar[int] = 30
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    def storage_directory(self, tmp_path: Path, elsewhere: Elsewhere) -> Path:
        """The directory that the framework gives to the backend.

        A backend that keeps its data elsewhere (in a database server, say) is given `options`
        that are made from this path: a test that kills a process opens what that left.
        """
        folder = tmp_path if elsewhere.place is None else elsewhere.place.parent
        return folder / "storage"

    @pytest.fixture
    async def storage_compute(self) -> AsyncIterator[FailingCompute]:
        """The framework's executor."""
        async with Executor(4) as compute:
            yield FailingCompute(compute)

    @pytest.fixture
    def storage_context(
        self, storage_directory: Path, storage_compute: FailingCompute
    ) -> StorageContext:
        """What the framework gives to a backend's factory."""
        return StorageContext(storage_directory, storage_compute, SystemClock())

    @pytest.fixture
    def backends(
        self,
        definition: StorageDefinition,
        validated_options: BaseModel,
        storage_context: StorageContext,
    ) -> Factory:
        """Makes backends, not entered yet, over one storage, as citychain does."""
        present = adapted(definition)
        return lambda: present.factory(validated_options, storage_context)

    @pytest.fixture
    async def session(
        self, definition: StorageDefinition, backends: Factory
    ) -> AsyncIterator[Session]:
        session = Session(backends, definition)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    def test_any_sequence_of_calls(self, definition: StorageDefinition, backends: Factory) -> None:
        """A state machine makes calls, and compares with the ledger after each."""

        class Machine(StorageMachine):
            def session(self) -> Session:
                return Session(backends, definition)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
