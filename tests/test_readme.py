"""The README is true: its commands run, its plugin loads, its test passes."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from docs.running import run_commands

pytest_plugins = ["pytester"]

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The README's code block of a language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    [found] = [text for text in blocks if containing in text]
    return found


@pytest.fixture
def installed_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The README's plugin, installed as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "citychain_nara.py").write_text(block("python", "class NoEmptyNotes"))
    project = tomllib.loads(block("toml", "[project.entry-points.citychain]"))
    [(entry, module)] = project["project"]["entry-points"]["citychain"].items()
    info = site / "citychain_nara-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: citychain-nara\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[citychain]\n{entry} = {module}\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


PLUGIN_TEST = """
import pytest

@pytest.mark.asyncio
async def test_the_plugin(city_client, signed_transactions):
    async with city_client("奈良", plugins={"allow": ["citychain-nara"]}) as city:
        assert (await city.info()).rule == "no-empty-notes/1"
        [full] = await signed_transactions(city)
        [empty] = await signed_transactions(city, data=b"")
        await city.submit([full, empty])
        events = await city.wait([full.tx_id, empty.tx_id])
        assert [events[t.tx_id].code for t in (full, empty)] == ["", "RULE"]
"""


def test_the_plugin_is_a_city_with_its_own_rule(
    pytester: pytest.Pytester, installed_plugin: Path
) -> None:
    _passes(pytester, PLUGIN_TEST)


def test_the_mock_handler_test_passes(pytester: pytest.Pytester) -> None:
    _passes(pytester, block("python", "class Asleep"))


def _passes(pytester: pytest.Pytester, test: str) -> None:
    # No settings: as in an empty folder.
    pytester.makepyfile(test)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_server_commands_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_python = block("python", "ChannelFactory").replace(
        '"127.0.0.1:50051"', 'os.environ["CITYCHAIN_ADDRESS"]'
    )
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("FROM_PYTHON", "import os\n" + from_python)
    commands = block("sh", "citychain init mycity") + '"$PYTHON" -c "$FROM_PYTHON"\n'
    assert "APPROVED" in run_commands(commands, tmp_path, monkeypatch).upper()


def test_the_commands_for_representatives_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run_commands(block("sh", "citychain representative"), tmp_path, monkeypatch)
    assert "APPROVED" in told.upper()
    assert "HOLDS  1 round, " in told


def test_the_commands_for_stores_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run_commands(block("sh", "citychain restore"), tmp_path, monkeypatch)
    assert (tmp_path / "shelf" / "copy.txt").read_text() == "a deed\n"
    assert told.count("MADE") == 2


def test_every_document_it_names_exists() -> None:
    root = Path(__file__).parent.parent
    named = re.findall(r"(?:\]\(|`)((?:docs|plugins)/[\w./-]*)[)`]", README)
    assert len(named) >= 5
    assert [name for name in named if not (root / name).exists()] == []
