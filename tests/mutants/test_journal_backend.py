"""The durable backend that ``citychain new-plugin`` writes, and what is wrong with its file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journal_backend import storage

from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.errors import StorageError
from citychain.ports import StorageContext
from citychain.testing.conformance.ledger import Ledger, pending

Open = Callable[[], Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    async with Executor(1) as compute:
        context = StorageContext(tmp_path, compute, SystemClock())
        yield lambda: storage.STORAGE.factory(None, context)


async def _written(opened: Open, ledger: Ledger) -> None:
    """Three lines: the city, two transactions, and one."""
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        for count in (2, 1):
            batch = ledger.transactions(count)
            await city.append(batch, {})
            ledger.receive(batch)


@pytest.mark.parametrize("line", [1, 2, 3])
async def test_a_damaged_line_is_told(opened: Open, tmp_path: Path, line: int) -> None:
    ledger = Ledger(1)
    await _written(opened, ledger)
    journal = tmp_path / "journal"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    at = len(lines[line - 1]) // 2
    lines[line - 1] = lines[line - 1][:at] + b"?" + lines[line - 1][at + 1 :]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(StorageError, match=f"journal: line {line} is damaged: bring back a copy"):
        async with opened():
            pass
    assert journal.read_bytes() == b"".join(lines)
    journal.write_bytes(whole)
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        assert await pending(city, 10) == ledger.pending


@pytest.mark.parametrize("missing", [1, 2, 50])
async def test_a_last_line_that_was_not_finished_is_cut_off(
    opened: Open, tmp_path: Path, missing: int
) -> None:
    ledger = Ledger(2)
    await _written(opened, ledger)
    journal = tmp_path / "journal"
    journal.write_bytes(journal.read_bytes()[:-missing])
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        assert await pending(city, 10) == ledger.pending[:2]
        await city.append(ledger.pending[2:], {})
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        assert await pending(city, 10) == ledger.pending


async def test_only_the_last_line_may_be_refused(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(3)
    await _written(opened, ledger)
    with monkeypatch.context() as patched:
        patched.setattr(storage.Journal, "take_back", lambda journal: None)
        async with opened() as backend:
            city = await backend.city(ledger.genesis, b"", ())
            with pytest.raises(ValueError, match="zip"):
                await city.commit(replace(ledger.round(ledger.pending), node_ids=[]))
    whole = (tmp_path / "journal").read_bytes()
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        await city.keep({"note": b"1"})
    async with opened() as backend:
        city = await backend.city(ledger.genesis, b"", ())
        assert await city.notes("") == {"note": b"1"}
        assert await pending(city, 10) == ledger.pending
    (tmp_path / "journal").write_bytes(whole + whole.splitlines(keepends=True)[1])
    with pytest.raises(StorageError, match="journal: line 4: zip"):
        async with opened():
            pass
