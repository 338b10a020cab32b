"""A plugin as ``citychain new-plugin`` writes it, installed without pip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

__all__ = ["Generated"]

SECONDS_MAX = 300


class Generated:
    """One distribution, and an environment in which it is installed and no other plugin is.

    Args:
        folder: Of the distribution.
        site: Is made, for what pip would write.
    """

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        self.project = tomllib.loads((folder / "pyproject.toml").read_text())
        about = self.project["project"]
        info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
            + "".join(f"Requires-Dist: {requirement}\n" for requirement in about["dependencies"])
        )
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
                for group, entries in about["entry-points"].items()
            )
        )
        path = [str(folder / "src"), str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            "PYTHONPATH": os.pathsep.join(path),
            "CITYCHAIN_PLUGINS__ALLOW": json.dumps([about["name"]]),
        }

    def run(self, *module: str) -> str:
        """Run a module of Python in the folder; returns what it said, and fails if it failed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=self.folder,
            env=kept | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def pytest(self, *options: str) -> None:
        """Run its tests: all must pass, or say why they do not apply."""
        self.run("pytest", "-p", "no:cacheprovider", "--quiet", *options)
