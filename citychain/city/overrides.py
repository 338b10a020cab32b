"""What a test puts in the place of a city's parts, by the part's name.

Each replacement is an object, or a function that is given the real part and returns
what stands in for it. What is given as an object is ready: nobody enters or closes it.
An object that can be called, as a mock can, is known by a method of the part.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from citychain.errors import ConfigurationError
from citychain.nearest import did_you_mean, unknown

__all__ = [
    "CITY_PARTS",
    "NOTHING_REPLACED",
    "Overrides",
    "Replacements",
    "check_cities",
    "check_names",
    "read_overrides",
]

CITY_PARTS: Final = {
    "storage": "append",
    "dag": "decide",
    "consensus": "judge",
    "backend": "city",
    "handler": "submit",
    "clock": "time_ms",
    "operator": "sign",
    "representatives": "__iter__",
}
"""What can be replaced in a city, with a method that each has: its three parts; the storage backend
that gives it its storage; its whole handler; its clock; the key that signs; the keys that vote
inside the server."""

MISSPELT: Final = 0.8
"""Share of letters in common that makes a slug a misspelling: one letter of five is wrong."""

Overrides = Mapping[str, Any]
"""For tests. By city a whole `CityHandler`, or replacements by the names of `CITY_PARTS`."""


class Replacements:
    """Those of one city.

    Args:
        objects: Stand in the place of a part, which is not built.
        functions: Are given the part.
    """

    def __init__(
        self, objects: Mapping[str, Any], functions: Mapping[str, Callable[[Any], Any]]
    ) -> None:
        self._objects = objects
        self._functions = functions

    def __contains__(self, part: str) -> bool:
        return part in self._objects or part in self._functions

    def wants(self, part: str) -> bool:
        """Whether the real part is needed."""
        return part not in self._objects

    def __call__(self, part: str, real: Any = None) -> Any:
        """What is used: a replacement, or the real part."""
        if part in self._objects:
            return self._objects[part]
        if part not in self._functions:
            return real
        built = self._functions[part](real)
        if inspect.isawaitable(built):
            if inspect.iscoroutine(built):
                built.close()
            raise ConfigurationError(
                f"override of {part}: the function returned an awaitable, which nobody awaits; "
                "make it a plain function that returns what stands in for the real one"
            )
        if built is None:
            raise ConfigurationError(
                f"override of {part}: the function returned nothing; return what stands in "
                "for the real one"
            )
        return built


NOTHING_REPLACED: Final = Replacements({}, {})


def read_overrides(overrides: Overrides) -> dict[str, Replacements]:
    """Replacements by city.

    Raises:
        ConfigurationError: an override names no part.
    """
    return {slug: _replacements(slug, override) for slug, override in overrides.items()}


def check_names(slug: str, names: Iterable[str], known: Collection[str]) -> None:
    """See that a city's overrides name what there is.

    Raises:
        ConfigurationError: with the known names, and the nearest.
    """
    for name in names:
        if name not in known:
            raise ConfigurationError(f"override of {slug}: {unknown('part', name, known)}")


def check_cities(slugs: Iterable[str], offered: Collection[str]) -> None:
    """See that none of the cities that only overrides name is an offered one, misspelt.

    Raises:
        ConfigurationError: with the offered one.
    """
    for slug in slugs:
        if near := did_you_mean(slug, offered, MISSPELT):
            raise ConfigurationError(
                f"override: no installed plugin offers a city {slug!r}{near} For a new city of "
                f"this slug, name it: cities=[{slug!r}]"
            )


def _replacements(slug: str, override: Any) -> Replacements:
    if not isinstance(override, Mapping):
        override = {"handler": override}
    check_names(slug, override, CITY_PARTS)
    functions = {name: part for name, part in override.items() if _is_function(part, name)}
    return Replacements(
        {name: part for name, part in override.items() if name not in functions}, functions
    )


def _is_function(replacement: Any, part: str) -> bool:
    """Whether it is to be given the real part; a class is, whatever its objects have."""
    if isinstance(replacement, type):
        return True
    return callable(replacement) and not hasattr(replacement, CITY_PARTS[part])
