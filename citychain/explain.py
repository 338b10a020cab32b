"""Explains what is wrong with a setting: where it was set, and what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from citychain.nearest import did_you_mean

__all__ = ["Key", "Source", "explain", "place", "toml_place"]

_PATTERNS = {
    "'^[a-z][a-z0-9-]{0,62}$'": "is no slug: write 1 to 63 of a-z, 0-9 and -, a letter first",
    "'^[a-z0-9-]{1,63}$'": "is no part's name: write 1 to 63 of a-z, 0-9 and -",
}
"""What patterns of ours ask for, in words."""

_IN_WORDS = {
    "missing": "is missing",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be a text",
    "path_type": "must be a path",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type"), "must be a table"),
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
}
"""Types of faults of pydantic, in words."""

Key = tuple[str | int, ...]
"""Path of a setting, such as ``("cities", "kanazawa", "aliases", 0)``."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one source of settings says, and how to name a place in it."""

    values: Mapping[str, Any]
    place: Callable[[Key], str]
    """For a key that is set: ``citychain.toml:12: ``, or empty where there is nothing to say."""

    def has(self, key: Key) -> bool:
        """Whether the key is set here; items of a list are not told apart."""
        value: Any = self.values
        for part in key:
            if not isinstance(value, Mapping) or part not in value:
                return False
            value = value[part]
        return True


def explain(
    error: ValidationError,
    model: type[BaseModel],
    sources: Sequence[Source],
    table: Key = (),
) -> str:
    """One line for each fault: its place, its key, what is wrong, and the nearest right key.

    Args:
        model: What was validated.
        sources: Where it was read from, the first winning.
        table: Key of the table that was validated.
    """
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        loc = tuple(part for part in fault["loc"] if part != "[key]")
        message = fault["msg"].removeprefix("Value error, ")
        if words := _IN_WORDS.get(fault["type"]):
            message = words.format_map(fault.get("ctx", {}))
        if fault["type"] in ("list_type", "tuple_type", "dict_type", "model_type"):
            message += "; in the environment, write it as JSON"
        elif fault["type"] == "extra_forbidden":
            known = _known_keys(model, loc[:-1])
            message = "unknown key" + did_you_mean(str(loc[-1]), known)
            if known and message == "unknown key":  # Nothing is near: whatever there is.
                message += f"; there are {', '.join(known)}"
        elif fault["type"] == "string_pattern_mismatch":
            message = next((it for of, it in _PATTERNS.items() if of in message), message)
        key = (*table, *loc)
        where = key
        while len(where) > len(table) and not any(source.has(where) for source in sources):
            where = where[:-1]  # A key that is missing: name the table that lacks it.
        lines.append(f"{place(sources, where)}{'.'.join(map(str, key))}: {message}")
    return "\n".join(lines)


def place(sources: Sequence[Source], key: Key) -> str:
    """Where a key is set; empty if no source sets it."""
    return next((source.place(key) for source in sources if source.has(key)), "")


def toml_place(file: Path, text: str, key: Key) -> str:
    """Where a file sets a key, or the nearest table around it: ``citychain.toml:12: ``."""
    best, found = 0, ""
    for here, number in _places(text):
        if key[: len(here)] == here and len(here) > best:
            best, found = len(here), f":{number}"
    return f"{file}{found}: "


@lru_cache(8)
def _places(text: str) -> list[tuple[Key, int]]:
    """The keys that a file sets, each with its line."""
    places = []
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]", line):
            here = table = _key_path(header[1]) or table
        elif assignment := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + _key_path(assignment[1])
        else:
            continue
        places.append((here, number))
    return places


def _key_path(dotted: str) -> Key:
    try:
        value: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:  # Inside a multi-line string; nothing to find there.
        return ()
    path = []
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        path.append(name)
    return tuple(path)


def _known_keys(model: type[BaseModel], loc: Key) -> list[str]:
    """Keys of the table at a place in a model; empty if no table of ours stands there."""
    table: Any = model
    for part in loc:
        fields = getattr(table, "model_fields", {})
        if part in fields:
            table = _plain(fields[part].annotation)
        elif get_origin(table) is dict:
            table = _plain(get_args(table)[1])
        else:
            return []
    return list(getattr(table, "model_fields", ()))


def _plain(annotation: Any) -> Any:
    """A type without ``Annotated`` and ``| None``."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return _plain(get_args(annotation)[0])
    return annotation
