"""A backend that several servers share, in the memory of one process, passes the suite.

It shows that the tests for such backends can be passed without a server.
"""

from __future__ import annotations

import pytest

from citychain.hooks.definitions import StorageDefinition
from citychain.testing import SharedMemory
from citychain.testing.conformance import StorageSuite


class TestSharedStorage(StorageSuite):
    @pytest.fixture
    def definition(self) -> StorageDefinition:
        return SharedMemory().definition
