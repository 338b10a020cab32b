"""The store behind a storage server passes the suite; what is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from storage_host import StorageHost, running_host

from citychain.client.builtin import citychain_fragment_stores
from citychain.hooks.definitions import FragmentStoreDefinition
from citychain.testing.conformance import FragmentStoreSuite
from citychain.testing.conformance._elsewhere import Elsewhere


@pytest.fixture(scope="module")
def host() -> Iterator[StorageHost]:
    with running_host() as host:
        yield host


class TestRemoteStore(FragmentStoreSuite):
    big_mib = 32
    examples = 6
    kills = 1

    @pytest.fixture
    def definition(self) -> FragmentStoreDefinition:
        [remote] = citychain_fragment_stores()
        return remote

    @pytest.fixture
    def options(
        self, request: pytest.FixtureRequest, store_directory: Path, elsewhere: Elsewhere
    ) -> Mapping[str, Any]:
        """Of one server, also in the process that is killed."""
        place = store_directory.with_name("endpoint")
        if elsewhere.place is None:
            host: StorageHost = request.getfixturevalue("host")
            place.write_text(host.serve(store_directory.with_name("served")))
        return {"endpoint": place.read_text()}

    @pytest.fixture
    def limited_options(self, host: StorageHost, tmp_path: Path) -> Mapping[str, Any]:
        return {"endpoint": host.serve(tmp_path / "limited", limit=1 << 20)}
