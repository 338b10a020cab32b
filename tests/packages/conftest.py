"""The packages, built once for all tests of this folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from building import BUILD_OPTIONS, LIBRARY, TREE, run, shared


@pytest.fixture(scope="session")
def littered_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as git sees it, with what earlier builds may have left in it."""
    tree = tmp_path_factory.mktemp("tree")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TREE)
    assert listed.returncode == 0, listed.stderr
    for name in listed.stdout.splitlines():
        if (TREE / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / name, tree / name)
    for left in (
        f"citychain/{LIBRARY}",
        f"citychain/{LIBRARY}~",
        "citychain/_native.cpython-310-x86_64-linux-gnu.so",
        "citychain/__pycache__/ghost.cpython-311.pyc",
        f"build/lib.linux-x86_64-cpython-3{sys.version_info.minor}/citychain/ghost.py",
        f"build/lib.linux-x86_64-cpython-3{sys.version_info.minor}/citychain/{LIBRARY}",
        "native/target/release/ghost.rs",
    ):
        (tree / left).parent.mkdir(parents=True, exist_ok=True)
        (tree / left).write_bytes(b"stale")
    return tree


@pytest.fixture(scope="session")
def packages(littered_tree: Path) -> Mapping[str, Path]:
    """The sdist, the wheel built from it, and a wheel built from the tree."""
    for arguments in (("--outdir=dist",), ("--wheel", "--outdir=direct")):
        built = run(sys.executable, "-m", "build", *arguments, cwd=littered_tree, **shared())
        assert built.returncode == 0, built.stdout + built.stderr
        assert set((built.stdout + built.stderr).split()) >= BUILD_OPTIONS
    return {
        "sdist": next(littered_tree.glob("dist/*.tar.gz")),
        "wheel": next(littered_tree.glob("dist/*.whl")),
        "direct wheel": next(littered_tree.glob("direct/*.whl")),
    }
