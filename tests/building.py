"""Commands that build and install, run with little more of the environment than they need."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

__all__ = ["BUILD_OPTIONS", "LIBRARY", "TREE", "run", "rust_variables", "shared"]

TREE = Path(__file__).resolve().parents[1]
LIBRARY = "_native.abi3.so"
BUILD_OPTIONS = {"--release", "--locked"}


def run(
    *command: str | Path, cwd: Path, path: Path | str | None = None, **variables: str
) -> CompletedProcess[str]:
    """Run a command with little more of the environment than PATH, and return what it printed."""
    environment = {"PATH": str(path or os.environ["PATH"]), "TMPDIR": str(cwd), **variables}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def rust_variables() -> dict[str, str]:
    """What cargo needs of this environment; also the target folder, so that it is shared."""
    kept = ("HOME", "PIP_", "CARGO", "RUST", "PYO3_", "PYENV_", "SSL_", "HTTP", "LANG")
    return {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}


def shared() -> dict[str, str]:
    """The same, with the target folder of this tree, so that dependencies are compiled once."""
    return {"CARGO_TARGET_DIR": str(TREE / "native" / "target"), **rust_variables()}
