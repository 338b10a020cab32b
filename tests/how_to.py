"""Pages of docs/how-to whose Python blocks are modules: a part, or the test of one."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["Page"]

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "how-to"


class Page:
    """One page; each of its Python blocks begins with the name of its file."""

    def __init__(self, name: str) -> None:
        self._path = FOLDER / name
        self.text = self._path.read_text()
        [self._settings] = re.findall(r"```toml\n(.*?)```", self.text, re.DOTALL)
        self.blocks = {
            name: block
            for block in re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)
            for name in re.findall(r"\A# (\w+)\.py\n", block)
        }
        """Source by the name of its module."""
        assert len(self.blocks) == self.text.count("```python"), "a block does not name its file"

    @property
    def tests(self) -> list[str]:
        """Modules with tests."""
        return [name for name in self.blocks if name.startswith("test_")]

    def parts(self) -> dict[str, ModuleType]:
        """The other modules, imported, by name."""
        names = [name for name in self.blocks if name not in self.tests]
        return {name: self._imported(name) for name in names}

    def _imported(self, name: str) -> ModuleType:
        module = sys.modules[name] = ModuleType(name)
        exec(compile(self.blocks[name], f"{self._path}:{name}", "exec"), vars(module))
        return module

    def run(self, pytester: pytest.Pytester, test: str, few: str) -> dict[str, int]:
        """Outcomes of those tests of a module that pytest's ``-k`` chooses."""
        pytester.makepyprojecttoml(self._settings)
        pytester.makepyfile(**self.blocks)
        ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", f"{test}.py", "-k", few)
        return {name: count for name, count in ran.parseoutcomes().items() if name != "deselected"}

    def check_tests_of(self, suite: type) -> None:
        """Fail unless the page's tables name every standard test of a suite, and no other."""
        named = re.findall(r"^\| `(test_\w+)` \|", self.text, re.MULTILINE)
        standard = [name for name, _ in inspect.getmembers(suite) if name.startswith("test_")]
        assert sorted(named) == sorted(standard)
