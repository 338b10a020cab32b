"""Conformance suites: what every part of a kind must do, as tests to inherit.

A part passes when its tests do::

    class TestMyStorage(StorageSuite):
        @pytest.fixture
        def storage_backend_factory(self, storage_context):
            return lambda: MyBackend(MyOptions(), storage_context)

================================================ =================================
`citychain.testing.conformance.storage`          storage backends
`citychain.testing.conformance.ledger`           plausible ledgers to fill them with
================================================ =================================

The suites need pytest, pytest-asyncio (``asyncio_mode = "auto"``) and hypothesis.
"""

import pytest

__all__: list[str] = []

# Before the modules are imported, so that their failures show values.
pytest.register_assert_rewrite(
    f"{__name__}.ledger",
    f"{__name__}._storage_intake",
    f"{__name__}._storage_machine",
    f"{__name__}._storage_rounds",
    f"{__name__}._storage_whole",
)
