"""Adds the index of places to the build; everything else stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))

from build_index import BuildWithIndex

setup(cmdclass={"build_py": BuildWithIndex})
