"""What a plugin may be called: the names of all that is in it are made from its own."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from citychain.errors import InvalidRequest

__all__ = ["NAME_LENGTH_MAX", "check_name"]

NAME_LENGTH_MAX: Final = 40
"""Cities and parts have at most 63 characters: room for what is added."""

EXAMPLE: Final = "my-city"


def check_name(name: str) -> None:
    """Let a name pass from which the names of a distribution, a module and a city can be made.

    Raises:
        InvalidRequest: it is none; names the nearest that is.
    """
    nearest = _nearest(name)
    if name != nearest or not name:
        raise InvalidRequest(
            "NAME",
            f"{name!r} is not 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and single hyphens, from a letter "
            f"on, without citychain- before it; take {nearest or EXAMPLE}",
        )


def _nearest(name: str) -> str:
    """The nearest good name, which of a good name is itself; empty if there is none."""
    letters = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    hyphened = re.sub(r"[^a-z0-9]+", "-", letters)
    begun = re.sub(r"^(citychain(-|$)|[^a-z])+", "", hyphened)
    return begun[:NAME_LENGTH_MAX].rstrip("-")
