"""What every storage backend must do: inherit `StorageSuite` and supply a factory.

::

    import pytest
    from citychain.testing.conformance.storage import StorageSuite

    class TestMyStorage(StorageSuite):
        @pytest.fixture
        def storage_backend_factory(self, storage_context):
            return lambda: MyBackend(MyOptions(), storage_context)

Each call of the factory makes a backend, not entered yet, over the same storage;
the suite has one open at a time. Tests use cities of their own, so storage may
be shared by all tests of a run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.ports import StorageContext
from citychain.testing.conformance._storage_intake import IntakeTests
from citychain.testing.conformance._storage_machine import StorageMachine
from citychain.testing.conformance._storage_notes import NoteTests
from citychain.testing.conformance._storage_rounds import RoundTests
from citychain.testing.conformance._storage_session import Factory, Session
from citychain.testing.conformance._storage_whole import WholeTests
from citychain.testing.conformance._suite import Suite

__all__ = ["StorageSuite"]


class StorageSuite(IntakeTests, RoundTests, NoteTests, WholeTests, Suite):
    """Inherit it as ``Test...`` and override `storage_backend_factory`."""

    durable: ClassVar[bool] = True
    """False for a backend whose storage goes with it: it is not reopened."""
    big_batch: ClassVar[int] = 10_000
    """Transactions of the largest append and round."""
    examples: ClassVar[int] = 30
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    async def storage_context(self, tmp_path: Path) -> AsyncIterator[StorageContext]:
        """What the framework gives to a backend's factory."""
        async with Executor(4) as compute:
            yield StorageContext(tmp_path / "storage", compute, SystemClock())

    @pytest.fixture
    def storage_backend_factory(self, storage_context: StorageContext) -> Factory:
        """Override: returns a function that makes backends over one storage."""
        raise NotImplementedError("override the fixture storage_backend_factory")

    @pytest.fixture
    async def session(self, storage_backend_factory: Factory) -> AsyncIterator[Session]:
        session = Session(storage_backend_factory, self.durable)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    def test_any_sequence_of_calls(self, storage_backend_factory: Factory) -> None:
        """A state machine makes calls, and compares with the ledger after each."""
        durable = self.durable

        class Machine(StorageMachine):
            def session(self) -> Session:
                return Session(storage_backend_factory, durable)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
