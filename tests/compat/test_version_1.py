"""A plugin of the first api_version goes on working, as it was written."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from citychain.crypto import merkle
from citychain.errors import NotFound
from citychain.genesis import Genesis
from citychain.hooks import API_VERSION, StorageDefinition
from citychain.hooks.registry import Registry, load_plugins
from citychain.ports import StorageContext
from citychain.receipt import ReceiptVerifier
from citychain.testing.conformance import StorageSuite
from citychain.testing.server import CityClientFactory, TransactionFactory
from citychain.types import State

FROZEN = Path(__file__).parent / "version_1"
MODULES = {
    "old_plugin.py": "f6dac717eccd1674f9e72b8d5b6104febe2a63817d2d47bb7f33ee421e3d1517",
    "old_storage.py": "8e678a26e0c6d2c67b348cfc2814d09b74421a2ad7ad7230967f62bbce948c46",
}
"""SHA-256 of what must never be edited: old plugins cannot be either."""

ENTRY_POINTS = "[citychain]\notaru = old_plugin\n"
METADATA = "Metadata-Version: 2.1\nName: citychain-otaru\nVersion: 1.0\nRequires-Dist: citychain\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The frozen plugin, installed as pip would leave it."""
    for name in MODULES:
        shutil.copy(FROZEN / name, tmp_path)
    info = tmp_path / "citychain_otaru-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


class TestItsStorage(StorageSuite):
    @pytest.fixture
    def definition(self, installed: None) -> StorageDefinition:
        from old_plugin import citychain_storage_backends

        [found] = citychain_storage_backends()
        return found


class TestStorageThatIsAContextManager(StorageSuite):
    """What is entered is not what that gives, and has to be left."""

    @pytest.fixture
    def definition(self, installed: None) -> Iterator[StorageDefinition]:
        from old_storage import DictBackend

        entered: list[str] = []

        @asynccontextmanager
        async def factory(options: object, context: StorageContext) -> AsyncIterator[object]:
            entered.append("in")
            yield DictBackend(context)
            entered.append("out")

        yield StorageDefinition("managed", factory, durable=False, api_version=1)
        assert entered.count("in") == entered.count("out")


@pytest.mark.parametrize("name", MODULES)
def test_it_is_as_it_was_written(name: str) -> None:
    digest = hashlib.sha256((FROZEN / name).read_bytes()).hexdigest()
    assert digest == MODULES[name], "restore the file: it stands for plugins nobody can edit"


@pytest.fixture
def registry(installed: None) -> Registry:
    return load_plugins(allow=["citychain-otaru"])


def test_it_is_active_and_its_parts_are_of_the_present_version(registry: Registry) -> None:
    [record] = [record for record in registry.records if record.name == "otaru"]
    assert (record.status, record.reason) == ("active", "")
    parts = (
        registry.storage_backend("dict"),
        registry.dag_handler("chain"),
        registry.consensus_step("stamp"),
    )
    assert [part.api_version for part in parts] == [API_VERSION] * 3


async def test_its_city_works(
    installed: None, city_client: CityClientFactory, signed_transactions: TransactionFactory
) -> None:
    table = {"otaru": {"storage": "dict"}}
    async with city_client("小樽", cities=table, plugins={"allow": ["citychain-otaru"]}) as city:
        info = await city.info()
        assert (info.rule, info.consensus) == ("chain/1", "stamp/1")
        verifier = ReceiptVerifier(Genesis.from_bytes(info.genesis_file))
        for _ in range(4):
            good = await signed_transactions(city, 3)
            [empty] = await signed_transactions(city, data=b"")
            await city.submit([*good, empty])
            events = await city.wait([note.tx_id for note in (*good, empty)])
            assert events[empty.tx_id].code == "RULE"
            assert {events[note.tx_id].state for note in good} == {State.APPROVED}
            receipts = await city.receipts(list(events))
            for receipt in receipts.values():
                verifier.verify(receipt)
        rounds = await city.rounds(1, 100)
        # What version 2 asks of storage, from one that never heard of it.
        for older in rounds:
            old, new, proof = await city.consistency_proof(older.size, rounds[-1].size)
            merkle.verify_consistency(older.size, rounds[-1].size, proof, old, new)
        with pytest.raises(NotFound):
            await city.consistency_proof(rounds[-1].size + 1, rounds[-1].size + 2)
