"""The page for operators is true: its commands run as they stand, and do what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.markdown import DOCS, blocks
from docs.running import run_commands

LOSS = "kill $(jobs -p); wait; rm -r data\n"
"""What the page is for."""


def block(containing: str) -> str:
    found = [it.text for it in blocks("sh") if it.page == DOCS / "operations.md"]
    [text] = [it for it in found if containing in it]
    return text


def test_a_city_is_backed_up_a_restore_rehearsed_and_the_city_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "citychain get $(cat ../last.id) --city hometown\n"
    told = run_commands(
        block("citychain init")
        + block("citychain receipt")
        + block("rehearsal")
        + block("citychain --version")
        + LOSS
        + block("citychain restore-city --city hometown --from ../backups/hometown --receipt")
        + asked,
        tmp_path,
        monkeypatch,
    )
    assert told.count("BACKED UP") == 2
    assert told.count("RESTORED  hometown") == 2
    assert told.count("HOLDS") == 2
    assert "APPROVED" in told.rpartition("HOLDS")[2]
    assert not (tmp_path / "town" / "rehearsal").exists()
