"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: dict[str, Any], home: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``globals()``; a name that was used is kept there.
        home: Module by name, relative to ``citychain``.
    """

    def get(name: str) -> Any:
        if (module := home.get(name)) is None:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        package[name] = getattr(import_module(f"citychain.{module}"), name)
        return package[name]

    return get, lambda: sorted({*package, *home})
