"""What of the configuration a server takes up while it runs, and what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from citychain.config import Settings
from citychain.errors import ConfigurationError

__all__ = ["TAKEN_UP", "first_of", "refuse_restarts"]

TAKEN_UP: Final[Mapping[str, str]] = {
    "auth": (
        "The files of `keys` are read again, whether the table changed or not. To begin to ask for "
        "tokens, or to cease, takes a restart."
    ),
    "rates": "`per_second` and `burst_seconds`, at once. `open_calls` takes a restart.",
    "cities": "New tables are new cities. To change or remove one takes a restart.",
    "cities_from": "As `cities`: what the files add.",
}
"""By the key or table of ``citychain.toml`` what becomes of it; any other one takes a restart."""
NAMED_MAX: Final = 20
"""Of cities or settings in a line of the log: a map has 30,000 cities."""


def refuse_restarts(old: Settings, new: Settings) -> None:
    """See that a server that runs with the old settings can take up the new ones.

    Raises:
        ConfigurationError: it cannot; names each setting that takes a restart, and no value.
    """
    before, after = old.model_dump(), new.model_dump()
    cities, cities_after = before["cities"], after["cities"]
    wrong = [
        *_differences(_without(before, TAKEN_UP), _without(after, TAKEN_UP)),
        *_differences(cities, {slug: cities_after.get(slug) for slug in cities}, "cities."),
    ]
    if bool(old.auth.keys) != bool(new.auth.keys):
        wrong.append("auth.keys")
    if old.rates.open_calls != new.rates.open_calls:
        wrong.append("rates.open_calls")
    if wrong:
        raise ConfigurationError(f"{first_of(wrong)}: takes a restart to change")


def first_of(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def _without(values: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{place}{key}.")
        else:
            yield f"{place}{key}"
