"""docs/tutorial.md is true: its commands and its files, in order, in an environment of its own.

The environment has what this one has, and pip installs into it without asking an index. What a
command prints is shown in a block of ``text``; ``…`` stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from docs.markdown import DOCS, blocks

from docs import edits

PAGE = DOCS / "tutorial.md"
BLOCKS = [block for block in blocks() if block.page == PAGE]
LINES_MAX = 150
"""Of a file that the reader writes."""
SECONDS_MAX = 1_200

SERVE = (
    r"citychain serve --listen 127.0.0.1:0 --ready-file ready &"
    "\nwhile [ ! -e ready ]; do sleep 0.05; done"
    "\nCITYCHAIN_ADDRESS=$(cat ready); export CITYCHAIN_ADDRESS; rm ready"
)
"""The one change to the commands: a free port instead of the default one, which may be in use."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a shell in which the reader's environment is active."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})
    here = sysconfig.get_path("purelib")
    (Path(site) / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for module in ("citychain", "mypy", "pip", "pytest"):
        command = venv / "bin" / module
        command.write_text(f'#!/bin/sh\nexec "{python}" -m {module} "$@"\n')
        command.chmod(0o755)
    (venv / "bin" / "ruff").symlink_to(Path(sysconfig.get_path("scripts")) / "ruff")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CITYCHAIN_", "PYTEST_", "PIP_", "VIRTUAL_ENV"))
    }
    return kept | {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "false",  # By its name, and by pip: it is not isolated.
        "PIP_NO_INDEX": "1",
    }


def script(place: Path) -> str:
    """All blocks as one script of bash; what the commands of each print goes to a file."""
    parts = ["set -eu", "end() { kill $(jobs -p) && wait; } 2>/dev/null", "trap end EXIT"]
    for number, block in enumerate(BLOCKS):
        if block.language == "sh":
            commands = re.sub(r"^citychain serve &$", SERVE, block.text, flags=re.MULTILINE)
            parts.append(f"{{ {commands.rstrip()}\n}} >{place}/{number} 2>&1")
        elif block.language != "text":
            (place / f"{number}.block").write_text(block.text)
            command = f"{sys.executable} {edits.__file__} {block.language}"
            parts.append(f"{command} <{place}/{number}.block >{place}/{number} 2>&1")
    return "\n".join(parts)


def missing(shown: str, printed: str) -> list[str]:
    """Lines of a block of text that were not printed."""
    patterns = {
        line: ".*".join(map(re.escape, line.split("…"))) for line in shown.splitlines() if line
    }
    return [line for line, pattern in patterns.items() if not re.search(pattern, printed)]


def test_everything_on_the_page_works_in_order(tmp_path: Path, environment: dict[str, str]) -> None:
    place = tmp_path / "printed"
    place.mkdir()
    reader = tmp_path / "reader"
    reader.mkdir()
    done = subprocess.run(
        ["bash", "-c", script(place)],
        cwd=reader,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    printed = {int(path.name): path.read_text() for path in place.glob("*[0-9]")}
    assert done.returncode == 0, f"{BLOCKS[max(printed)]}: {done.stderr}{printed[max(printed)]}"
    for number, block in enumerate(BLOCKS):
        if block.language == "text":
            above = printed[number - 1]
            assert missing(block.text, above) == [], f"{block}: printed was\n{above}"
    for path in reader.glob("citychain-harbour/src/*/*.py"):
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name


# --- the test above sees what is wrong


def test_what_was_not_printed_is_seen() -> None:
    assert missing("a … c\n\nd\n", "xx\na b c\nd") == []
    assert missing("a … c\n", "a b\nc") == ["a … c"]


def test_a_block_that_does_not_fit_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    edits.edit("python", "# a.py\ndef f():\n    return 1\n\n\ndef g():\n    return 1\n")
    edits.edit("python", "# in a.py\nreturn 1\n")
    edits.edit("diff", "# a.py\n def f():\n-    return 1\n+    return 2\n@@\n \n+\n def g():\n")
    assert Path("a.py").read_text() == "def f():\n    return 2\n\n\n\ndef g():\n    return 1\n"
    for language, block in (
        ("python", "# in a.py\nreturn 3\n"),
        ("python", "x = 1\n"),
        ("diff", "# a.py\n-    return 3\n"),
        ("diff", "# a.py\n \n+x = 1\n"),
    ):
        with pytest.raises(ValueError, match=r"does not|places"):
            edits.edit(language, block)
