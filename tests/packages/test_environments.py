"""The wheels of citychain and of each plugin, in a fresh environment with the oldest of all that
`pyproject.toml` allows. The newest are what an ordinary environment has.

Nothing of the tree is on the path there but copies of tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest
from building import TREE, run, rust_variables, shared

pytestmark = pytest.mark.slow

PLUGINS = sorted(path.parent.name for path in (TREE / "plugins").glob("*/pyproject.toml"))

OWN_TESTS = (
    "access",
    "client",
    "compat",
    "explorer",
    "hooks",
    "metrics",
    "rpc",
    "storage",
    "testing",
)
"""Folders of tests that touch each library that citychain stands on; plugins run the suites."""
HANG_SECONDS = 120

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
pythonpath = tests docs
markers =
    slow
    mongodb
"""


@pytest.fixture(scope="session")
def wheels(packages: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All wheels, citychain's first."""
    place = tmp_path_factory.mktemp("wheels")
    for plugin in PLUGINS:
        source = place / "sources" / plugin
        left = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
        shutil.copytree(TREE / "plugins" / plugin, source, ignore=left)
        built = run(
            *(sys.executable, "-m", "build", "--wheel", f"--outdir={place}", source),
            cwd=place,
            **shared(),
        )
        assert built.returncode == 0, built.stdout + built.stderr
    return [packages["wheel"], *sorted(place.glob("*.whl"))]


@pytest.fixture(scope="session")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment ``venv`` that has the wheels, and copies of the tests."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv resolves the lowest versions: pip install --group packages"
    place = tmp_path_factory.mktemp("oldest")
    shutil.copytree(TREE / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TREE / "docs", place / "docs")
    of_the_tree = shutil.ignore_patterns("__pycache__", "test_build_*.py")
    for plugin in PLUGINS:
        tests = TREE / "plugins" / plugin / "tests"
        shutil.copytree(tests, place / "plugins" / plugin, ignore=of_the_tree)
    (place / "pytest.ini").write_text(SETTINGS)
    commands = (
        # Not of the wheels: what these require would count as indirect, and be the newest.
        f"pip compile --quiet --python {sys.executable} --resolution lowest-direct "
        f"--group test pyproject.toml -o {place}/versions.txt",
        f"venv --python {sys.executable} {place}/venv",
        f"pip install --python {place}/venv -r {place}/versions.txt {' '.join(map(str, wheels))}",
    )
    for command in commands:
        # The certificates that pip trusts.
        ran = run(uv, "--system-certs", *command.split(), cwd=TREE, **rust_variables())
        assert ran.returncode == 0, ran.stderr
    return place


def passes(environment: Path, *tests: str) -> None:
    ran = run(
        environment / "venv" / "bin" / "python",
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "-m", "not slow"),
        # The page that a browser shows is the same whatever serves it.
        "--ignore-glob=tests/*/browser",
        *tests,
        cwd=environment,
        **rust_variables(),
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_passes_its_tests_as_a_wheel(environment: Path, plugin: str) -> None:
    passes(environment, f"plugins/{plugin}")


@pytest.mark.parametrize("folder", OWN_TESTS)
def test_citychain_passes_its_tests_as_a_wheel(environment: Path, folder: str) -> None:
    passes(environment, f"tests/{folder}")


def test_plugins_of_wheels_are_all_active(environment: Path) -> None:
    command = environment / "venv" / "bin" / "citychain"
    ran = run(command, "plugins", "--strict", cwd=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(plugin in ran.stdout for plugin in PLUGINS)


def test_the_page_of_a_wheel_is_served(environment: Path, tmp_path: Path) -> None:
    command = environment / "venv" / "bin" / "citychain"
    ready, end = tmp_path / "ready", time.monotonic() + HANG_SECONDS
    options = ("--listen", "127.0.0.1:0", "--ready-file", ready)
    explorer = subprocess.Popen([command, "explorer", *options], cwd=tmp_path)
    try:
        while not ready.exists():
            assert explorer.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        address = ready.read_text().strip()
        page = got(address, "/").decode()
        named = re.findall(r'(?:src|href)="(assets/[^"]+)"', page)
        assert {Path(name).suffix for name in named} == {".js", ".css"}
        assert all(got(address, f"/{name}") for name in named)
    finally:
        explorer.terminate()
        explorer.wait(HANG_SECONDS)


def got(address: str, path: str) -> bytes:
    """What is served there."""
    connection = HTTPConnection(address, timeout=HANG_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, path
        return answer.read()
    finally:
        connection.close()
