"""Set-up, build and packages: what stands between a clone and a running citychain.

Building packages, and installing them where there is no Rust, is in tests/packages.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from textwrap import dedent

import pytest
from building import LIBRARY, TREE, run, rust_variables

from citychain import _native

POSIX_TOOLS = ("sh", "cat", "cksum", "date", "mktemp", "rm", "sed")


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.unlink(missing_ok=True)
    path.write_text("#!/bin/sh\n" + dedent(text))
    path.chmod(0o755)


def python_with(statements: str) -> str:
    """A shell script: this Python, but `statements` run before what -c is given."""
    return f"""exec '{sys.executable}' -c "{statements}
    $2" "$@"
    """.replace("\n    ", "\n")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs, to be the PATH: what citychain needs, of the lowest versions."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for tool in (*POSIX_TOOLS, "cc", "as", "ld"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    rust = lowest_rust()
    script(folder / "python3", f"exec '{sys.executable}' \"$@\"")
    script(folder / "rustc", f"echo 'rustc {rust}.0 (0123456789 2025-06-23)'")
    script(folder / "cargo", f"echo 'cargo {rust}.0 (0123456789 2025-06-23)'")
    return folder


def lowest_rust() -> str:
    manifest = tomllib.loads((TREE / "native" / "Cargo.toml").read_text())
    return str(manifest["workspace"]["package"]["rust-version"])


def test_the_readme_names_the_lowest_versions() -> None:
    asked = f"Python 3.11 or newer, a C compiler and Rust {lowest_rust()} or newer"
    assert asked in " ".join((TREE / "README.md").read_text().split())


def prerequisites(programs: Path, **variables: str) -> CompletedProcess[str]:
    return run(
        programs / "sh",
        TREE / ".ci" / "prerequisites",
        cwd=programs.parent,
        path=programs,
        **variables,
    )


def test_prerequisites_print_the_python_to_use(programs: Path) -> None:
    result = prerequisites(programs)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{sys.executable}\n"


def test_a_python_that_refuses_to_run_is_passed_over(programs: Path) -> None:
    script(programs / "python3.13", "echo 'it exists in these versions: 3.13.0' >&2; exit 127")
    assert prerequisites(programs).stdout == f"{sys.executable}\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("python3", None, "Python 3.11 or newer on PATH"),
        ("python3", python_with("import sys; sys.version_info = (3, 10, 14)"), "Python 3.11 or"),
        ("python3", python_with("import sys; sys.modules['venv'] = None"), "the venv module of"),
        ("python3", python_with("import sys; sys.modules['ensurepip'] = None"), "apt-get install"),
        ("cc", None, "a C11 compiler that works as 'cc': GCC"),
        ("cc", "exit 1", "a C11 compiler that works as 'cc': GCC"),
        ("rustc", None, f"Rust {lowest_rust()} or newer: no working rustc"),
        ("cargo", None, f"Rust {lowest_rust()} or newer: no working cargo"),
        ("cargo", "exit 1", f"Rust {lowest_rust()} or newer: no working cargo"),
        (
            "cargo",
            "echo 'cargo 1.9.0 (e 2026-01-01)'",
            f"Rust {lowest_rust()} or newer: cargo is 1.9",
        ),
        ("rustc", "echo 'rustc 1.87.0 (e 2025-05-09)'", "newer: rustc is 1.87.0"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    programs: Path, name: str, text: str | None, said: str
) -> None:
    (programs / name).unlink()
    if text is not None:
        script(programs / name, text)
    result = prerequisites(programs)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("citychain needs ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_named_python_is_the_only_one_tried(programs: Path) -> None:
    result = prerequisites(programs, PYTHON="/nowhere/python3")
    assert result.returncode == 1
    assert result.stderr == (
        "citychain needs Python 3.11 or newer: PYTHON=/nowhere/python3 is not that\n"
    )


def test_a_compiler_named_by_cc_must_work_too(programs: Path) -> None:
    result = prerequisites(programs, CC="nowhere-cc")
    assert result.returncode == 1
    assert "a C11 compiler that works as 'nowhere-cc'" in result.stderr


@pytest.fixture
def set_up(programs: Path, tmp_path: Path) -> Callable[[], list[str]]:
    """Runs .ci/setup in a small tree and returns the commands of Python that it took."""
    tree = tmp_path / "tree"
    (tree / "native").mkdir(parents=True)
    (tree / "plugins" / "small").mkdir(parents=True)
    shutil.copytree(TREE / ".ci", tree / ".ci")
    page = "citychain/explorer/page/build.py"
    (tree / page).parent.mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "native/Cargo.toml", page):
        shutil.copy(TREE / name, tree / name)
    (tree / "plugins" / "small" / "pyproject.toml").write_text("[project]\n")
    script(
        programs / "python3",
        f"""
        case "$1 $2" in
            -c*|-V*|*/build.py*) exec '{sys.executable}' "$@" ;;
        esac
        echo "$*" >>'{tree}/commands'
        case "$1 $2" in
            '-m venv') mkdir -p .venv/bin && ln -s "$0" .venv/bin/python ;;
            '-m pip')
                '{sys.executable}' '{tree}/as_if_built.py'
                [ ! -e broken ] || {{ echo 'the disk is full'; exit 1; }} ;;
        esac
        """,
    )
    (tree / "as_if_built.py").write_text(
        f"import runpy; page = runpy.run_path({page!r}); page['BUILT'].mkdir(exist_ok=True); "
        "page['MADE_FROM'].write_text(page['digest'](*page['sources']()))"
    )
    # What prerequisites prints is what set-up then runs.
    (tree / ".ci" / "prerequisites").write_text(f"echo '{programs}/python3'\n")
    for tool in ("mkdir", "ln", "touch"):
        (programs / tool).symlink_to(str(shutil.which(tool)))

    def set_up() -> list[str]:
        (tree / "commands").write_text("")
        result = run(programs / "sh", ".ci/setup", ".venv", cwd=tree, path=programs)
        commands = (tree / "commands").read_text().splitlines()
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        assert bool(result.stdout) == bool(commands)
        return commands

    return set_up


INSTALL = "-m pip install --group test --editable . --editable plugins/small"


def test_set_up_makes_the_environment_once(set_up: Callable[[], list[str]]) -> None:
    assert set_up() == ["-m venv --clear .venv", "-m pip install pip>=25.1", INSTALL]
    assert set_up() == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "setup.py", "plugins/small/pyproject.toml"])
def test_set_up_follows_what_the_environment_is_made_from(
    set_up: Callable[[], list[str]], tmp_path: Path, changed: str
) -> None:
    set_up()
    with (tmp_path / "tree" / changed).open("a") as file:
        file.write("\n# changed\n")
    assert set_up() == [INSTALL]


def test_set_up_builds_no_more_than_the_extension_where_that_is_all_that_changed(
    set_up: Callable[[], list[str]], tmp_path: Path
) -> None:
    set_up()
    stale = tmp_path / "tree" / "citychain" / "__init__.py"
    stale.touch()
    # It stays stale, since nothing is really built here.
    with pytest.raises(RuntimeError, match=r"No module named 'citychain\._native'"):
        set_up()
    assert (tmp_path / "tree" / "commands").read_text() == (
        "-m pip install --no-deps --editable .\n"
    )
    stale.unlink()
    assert set_up() == []


def test_set_up_builds_the_page_again_where_its_sources_changed(
    set_up: Callable[[], list[str]], tmp_path: Path
) -> None:
    set_up()
    explorer = tmp_path / "tree" / "citychain" / "explorer"
    (explorer / "page" / "node_modules").mkdir()
    (explorer / "page" / "node_modules" / "new.js").touch()
    assert set_up() == []
    (explorer / "page" / "new.ts").touch()
    assert set_up() == ["-m pip install --no-deps --editable ."]
    shutil.rmtree(explorer / "static")
    assert set_up() == ["-m pip install --no-deps --editable ."]
    assert set_up() == []


def test_a_failed_set_up_shows_why_and_is_tried_again(
    set_up: Callable[[], list[str]], tmp_path: Path
) -> None:
    broken = tmp_path / "tree" / "broken"
    broken.touch()
    with pytest.raises(RuntimeError, match="the disk is full"):
        set_up()
    broken.unlink()
    assert INSTALL in set_up()


def test_no_dependency_needs_a_newer_rust_than_we_ask_for() -> None:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--manifest-path"]
    host = run("rustc", "--version", "--verbose", cwd=TREE, **rust_variables()).stdout
    platform = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
    result = run(
        *command,
        "native/Cargo.toml",
        f"--filter-platform={platform}",
        cwd=TREE,
        **rust_variables(),
    )
    assert result.returncode == 0, result.stderr
    packages = json.loads(result.stdout)["packages"]
    asked = version_of(lowest_rust())
    newer = {
        f"{package['name']} {package['version']}": package["rust_version"]
        for package in packages
        if package["rust_version"] and version_of(package["rust_version"]) > asked
    }
    assert len(packages) > 10
    assert newer == {}


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))[:2]


@pytest.fixture
def tree_with_library(tmp_path: Path) -> Path:
    """A source tree with the extension that is loaded here, which was built from these sources."""
    package = tmp_path / "citychain"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(str(_native.__file__), package / LIBRARY)
    shutil.copytree(
        TREE / "native", tmp_path / "native", ignore=shutil.ignore_patterns("target", "fuzz")
    )
    return tmp_path


def load_extension(tree: Path) -> CompletedProcess[str]:
    return run(sys.executable, "-c", "from citychain._native import signatures", cwd=tree)


def test_an_extension_loads_beside_its_sources(tree_with_library: Path) -> None:
    assert load_extension(tree_with_library).stderr == ""


@pytest.mark.parametrize("changed", ["Cargo.lock", "src/lib.rs", "core/src/new.rs"])
def test_an_extension_refuses_to_load_beside_other_sources(
    tree_with_library: Path, changed: str
) -> None:
    with (tree_with_library / "native" / changed).open("a") as file:
        file.write("// changed\n")
    stderr = load_extension(tree_with_library).stderr
    assert "ImportError" in stderr
    assert "make ready" in stderr


def test_a_missing_source_counts_as_a_change(tree_with_library: Path) -> None:
    (tree_with_library / "native" / "core" / "src" / "pool.rs").unlink()
    assert "ImportError" in load_extension(tree_with_library).stderr


def test_tests_and_fuzz_targets_are_no_sources_of_the_extension(tree_with_library: Path) -> None:
    for folder in ("core/tests", "fuzz", "target/release"):
        (tree_with_library / "native" / folder).mkdir(parents=True, exist_ok=True)
        (tree_with_library / "native" / folder / "new.rs").touch()
    assert load_extension(tree_with_library).stderr == ""


def test_an_installed_extension_has_no_sources_to_compare(tree_with_library: Path) -> None:
    (tree_with_library / "native" / "Cargo.toml").write_text('[package]\nname = "somebody-elses"\n')
    assert load_extension(tree_with_library).stderr == ""
    shutil.rmtree(tree_with_library / "native")
    assert load_extension(tree_with_library).stderr == ""
