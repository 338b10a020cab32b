"""Throwaway distributions, installed for one test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import interrupts, start, start_server
from throwaway import CITY, Reason, Site

__all__ = ["interrupts", "reason", "site", "start", "start_server"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty `Site` on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name in [name for name in sys.modules if name.startswith("throwaway_")]:
        del sys.modules[name]


@pytest.fixture
def reason(site: Site) -> Reason:
    """Installs a broken plugin beside a sound one; returns why it was left out."""

    def why(source: str, status: str = "failed", **options: object) -> str:
        site.install("broken", source, **options)  # type: ignore[arg-type]
        site.install("sound", CITY.format(slug="sound"))
        registry = site.load()
        broken, sound = registry.records
        assert (broken.name, broken.status) == ("broken", status)
        assert (sound.name, sound.status, sound.reason) == ("sound", "active", "")
        assert list(registry.cities) == ["sound"]
        return broken.reason

    return why
