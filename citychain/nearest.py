"""The hint that ends an error about an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "unknown"]


def did_you_mean(name: str, known: Iterable[str], similarity: float = 0.6) -> str:
    """``; did you mean x?`` with the nearest known name, or nothing if none is near.

    Args:
        similarity: Least share of letters in common, 0 to 1.
    """
    nearest = get_close_matches(name, list(known), n=1, cutoff=similarity)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def unknown(kind: str, name: object, known: Iterable[str], kinds: str = "") -> str:
    """``no part 'x'; the parts are a, b; did you mean a?``

    Args:
        kinds: Plural of ``kind``, where it takes more than an s.
    """
    names = list(known)
    return (
        f"no {kind} {name!r}; the {kinds or kind + 's'} are {', '.join(names) or 'none'}"
        f"{did_you_mean(str(name), names)}"
    )
