"""The durable backend that ``citychain new-plugin`` writes, as modules, for others to break.

``journal`` is its file, ``storage`` the backend and its definition. They are made anew in each
process from what the command writes.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

from citychain.cli.new_plugin.files import Kind, plugin_files

__all__ = ["journal", "storage"]

PACKAGE: Final = "citychain_journal_of_mutants"


def _module(name: str, text: str) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module


def _made() -> list[ModuleType]:
    files = plugin_files(PACKAGE.removeprefix("citychain_").replace("_", "-"), [Kind.STORAGE])
    sys.modules[PACKAGE] = ModuleType(PACKAGE)
    return [
        _module(f"{PACKAGE}.{stem}", files[f"src/{PACKAGE}/{stem}.py"])
        for stem in ("journal", "storage")
    ]


journal, storage = _made()
