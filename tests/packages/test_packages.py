"""The sdist and the wheel: what is in them, and that they work where there is no Rust."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Mapping
from email.parser import HeaderParser
from pathlib import Path

import pytest
from building import BUILD_OPTIONS, LIBRARY, TREE, run, rust_variables, shared


@pytest.mark.slow
@pytest.mark.parametrize("which", ["wheel", "direct wheel"])
def test_a_wheel_holds_the_package_and_nothing_that_was_left_in_the_tree(
    packages: Mapping[str, Path], littered_tree: Path, which: str
) -> None:
    assert "-cp311-abi3-" in packages[which].name
    with zipfile.ZipFile(packages[which]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        library = wheel.read(f"citychain/{LIBRARY}")
        metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(wheel.read(metadata).decode())
        assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
    sources = {
        path.relative_to(littered_tree).as_posix()
        for path in (littered_tree / "citychain").rglob("*")
        if path.is_file()
        and path.suffix not in {".so", ".so~", ".pyc"}
        # Of the page what was built, and what it was built from only in the sdist.
        and "page" not in path.parts
        and path.name != "made-from"
    }
    assert "citychain/explorer/static/index.html" in names
    assert names == sources | {f"citychain/{LIBRARY}"}
    assert {"citychain/py.typed", "citychain/_native/signatures.pyi"} <= names
    assert library.startswith(b"\x7fELF") or sys.platform != "linux"
    assert headers["License-Expression"] == "Apache-2.0"


@pytest.mark.slow
def test_the_sdist_holds_what_a_build_needs(packages: Mapping[str, Path]) -> None:
    with tarfile.open(packages["sdist"]) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
    assert {
        "native/Cargo.lock",
        "native/build.rs",
        "native/core/src/lib.rs",
        "proto/buf.yaml",
        "citychain/explorer/page/package-lock.json",
        "citychain/explorer/page/src/main.tsx",
        "citychain/explorer/static/index.html",
        "LICENSE",
        "setup.py",
    } <= names
    left = [name for name in names if "ghost" in name or name.endswith((".so", ".so~", ".pyc"))]
    left += [name for name in names if "node_modules" in name]
    assert left == []
    assert not any(name.startswith(("tests", "native/fuzz", "native/target")) for name in names)


@pytest.mark.slow
def test_an_editable_install_replaces_a_library_that_was_left(
    littered_tree: Path, tmp_path: Path
) -> None:
    assert run(sys.executable, "-m", "venv", "venv", cwd=tmp_path).returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    pip = ("-m", "pip", "install", "-v", "--no-deps", "--editable", littered_tree)
    installed = run(python, *pip, cwd=tmp_path, **shared())
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert set((installed.stdout + installed.stderr).split()) >= BUILD_OPTIONS
    located = "from citychain import _native; print(_native.__file__)"
    loaded = run(python, "-c", located, cwd=tmp_path)
    assert loaded.stdout == f"{littered_tree}/citychain/{LIBRARY}\n", loaded.stderr


SIGNS = """
from citychain import _native
from citychain.crypto.signatures import SigningKey, verify
assert "site-packages" in _native.__file__, _native.__file__
key = SigningKey(bytes(32))
verify(key.public_key, b"message", b"context", key.sign(b"message", b"context"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_the_wheel_works_without_rust(
    packages: Mapping[str, Path], tmp_path: Path, version: str
) -> None:
    found = run("sh", TREE / ".ci" / "pythons", cwd=tmp_path, **rust_variables()).stdout
    pythons = dict(line.split(" ", 1) for line in found.splitlines())
    if version not in pythons:
        pytest.skip(f"there is no Python {version} here")
    assert run(pythons[version], "-m", "venv", "venv", cwd=tmp_path).returncode == 0
    programs = tmp_path / "venv" / "bin"
    pip = ("-m", "pip", "install", "--only-binary=:all:", packages["wheel"])
    installed = run(programs / "python", *pip, cwd=tmp_path, path=programs, **rust_variables())
    assert installed.returncode == 0, installed.stdout + installed.stderr
    result = run(programs / "python", "-c", SIGNS, cwd=tmp_path, path=programs)
    assert result.returncode == 0, result.stderr
    helped = run(programs / "citychain", "--help", cwd=tmp_path, path=programs)
    assert helped.returncode == 0, helped.stderr
    assert "demo" in helped.stdout
