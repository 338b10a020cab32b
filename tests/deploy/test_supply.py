"""What is looked up about dependencies: a step that cannot run is a failure, and is named."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
from building import TREE, run

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install --group test")

WORKFLOWS = TREE / ".github" / "workflows"
PAGE = TREE / "citychain" / "explorer" / "page"
NPM = shutil.which("npm")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Stand-ins for every tool: each ends with 0, but for the one that the file `broken` names."""
    folder = tmp_path / "tools"
    folder.mkdir()
    script = (
        '#!/bin/sh\necho "${0##*/} $1"\n[ "${0##*/} $1" != "$(cat "${0%/*}/broken")" ] || exit 1\n'
    )
    for name in ("uv", "pip-audit", "cyclonedx-py", "npm", "cargo", "mv", "rm", "mkdir"):
        tool = folder / name
        tool.write_text(script)
        tool.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("none", "Nothing is known against"),
        ("pip-audit --path", "Known vulnerabilities of Python packages"),
        ("npm audit", "Known vulnerabilities of the page's packages"),
        ("npm sbom", "List of the page's packages"),
        ("cargo deny", "Advisories, licences and sources of crates"),
        ("uv pip", "Python packages"),
        ("cyclonedx-py environment", "List of Python packages"),
        ("cargo cyclonedx", "List of crates"),
    ],
)
def test_what_fails_or_cannot_run_fails_all_and_is_named(
    broken: str, said: str, tools: Path, tmp_path: Path
) -> None:
    (tools / "broken").write_text(broken)
    (tmp_path / "dist").mkdir()
    # A copy, in a tree of its own: the packages are those of no environment.
    script = tmp_path / ".ci" / "supply"
    script.parent.mkdir()
    script.write_text((TREE / ".ci" / "supply").read_text())
    python = tmp_path / "build" / "supply" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    done = run("sh", script, tools, cwd=tmp_path, path=f"{tools}:/usr/bin:/bin")
    told = done.stdout + done.stderr
    last = told[told.rindex("\n\n") :]
    assert f"\n{'' if broken == 'none' else '  '}{said}" in last, told
    assert (done.returncode == 0) is (broken == "none"), told
    # Each step runs, whatever became of those before.
    assert {"npm audit", "cargo deny", "cargo cyclonedx", "pip-audit --path"} <= set(
        told.splitlines()
    ), told


@pytest.mark.skipif(NPM is None, reason="needs npm")
def test_the_list_of_the_page_has_what_is_locked_and_given_to_browsers(
    tools: Path, tmp_path: Path
) -> None:
    (tools / "broken").write_text("none")
    real = f'#!/bin/sh\n[ "$1" != sbom ] || exec {NPM} "$@"\n'
    (tools / "npm").write_text(real)
    (tmp_path / "dist").mkdir()
    place = tmp_path / PAGE.relative_to(TREE)
    place.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (place / name).write_text((PAGE / name).read_text())
    script = tmp_path / ".ci" / "supply"
    script.parent.mkdir()
    script.write_text((TREE / ".ci" / "supply").read_text())
    path = f"{tools}:{os.environ['PATH']}"
    done = run("sh", script, tools, cwd=tmp_path, path=path, HOME=str(tmp_path))
    listed = json.loads((tmp_path / "dist" / "citychain-page.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX", done.stderr
    packages = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    own = packages.pop("")
    assert {(it["name"], it["version"]) for it in listed["components"]} == {
        (name.rpartition("node_modules/")[2], it["version"])
        for name, it in packages.items()
        if not it.get("dev") and not it.get("devOptional")
    }
    assert {"@noble/post-quantum", "preact"} <= {it["name"] for it in listed["components"]}
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    manifest = json.loads((PAGE / "package.json").read_text())
    assert own["version"] == manifest["version"] == project["version"]


def test_it_runs_weekly_and_for_each_version() -> None:
    weekly = yaml.safe_load((WORKFLOWS / "supply.yml").read_text())
    assert weekly[True]["schedule"]  # YAML 1.1 reads "on" as a truth.
    for path in weekly[True]["push"]["paths"]:
        assert [*TREE.glob(path)], path
    assert weekly["permissions"] == {"contents": "read"}
    wheels = yaml.safe_load((WORKFLOWS / "wheels.yml").read_text())
    for job in (weekly["jobs"]["supply"], wheels["jobs"]["materials"]):
        assert {"run": "make supply"} in job["steps"]
