"""Options of a founded city whose source is gone: what its genesis keeps of them counts.

An option may name a file, such as the map that has a city's region. The genesis has what the file
said, so the city opens without it. A file that can be read must say the same: `found_city`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from citychain.errors import ConfigurationError
from citychain.genesis import Genesis
from citychain.hooks.definitions import SourceUnreadable

__all__ = ["PinnedPart", "genesis_file", "pinned_options", "with_pinned"]

PinnedPart = Literal["dag", "consensus"]

PINNED: Final = {
    "dag": ("rule", "rule_options"),
    "consensus": ("consensus", "consensus_options"),
}
"""Fields of a genesis: a part's name with its version, and its options."""


def genesis_file(data_dir: Path, slug: str, named: Path | None) -> Path:
    """Where a city's genesis is, or will be: the file that is named, if one is."""
    return named or data_dir / "genesis" / f"{slug}.json"


def pinned_options(path: Path, part: PinnedPart, identity: str) -> Mapping[str, Any]:
    """A part's options in a genesis file; empty if it has none for this part and version."""
    try:
        genesis = Genesis.read(path)
    except (OSError, ConfigurationError):  # Told when the city is founded or checked.
        return {}
    name, options = PINNED[part]
    pinned: Mapping[str, Any] = getattr(genesis, options)
    return pinned if getattr(genesis, name) == identity else {}


def with_pinned(
    options: Mapping[str, Any], error: ValidationError, pinned: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Options with what is pinned where a source could not be read.

    Returns:
        ``None`` if something else is wrong with them too, or nothing is pinned there.
    """
    for fault in error.errors(include_url=False, include_input=False):
        if not isinstance(fault.get("ctx", {}).get("error"), SourceUnreadable):
            return None
        try:
            options = _replaced(options, fault["loc"], pinned)
        except (LookupError, TypeError):
            return None
    return options


def _replaced(value: Any, loc: tuple[int | str, ...], pinned: Any) -> Any:
    """A value with what is pinned at a place in it.

    Raises:
        LookupError, TypeError: one of the two has nothing there.
    """
    if not loc:
        if pinned is None:
            raise LookupError
        return pinned
    key: Any = loc[0]
    inner = _replaced(value[key], loc[1:], pinned[key])
    if isinstance(value, Mapping):
        return {**value, key: inner}
    return [*value[:key], inner, *value[key + 1 :]]
