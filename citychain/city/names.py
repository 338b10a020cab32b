"""City names: when two spellings are the same name, and which city it means.

A name may come in any script. Two spellings are one name if they are equal
after NFKC and case folding (a compatibility caseless match: Unicode Standard,
section 3.13, D146), with outer white space dropped and inner white space counted
as one space.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Final

from citychain.errors import InvalidRequest

__all__ = ["NAME_LENGTH_MAX", "CityNames", "normalise"]

NAME_LENGTH_MAX: Final = 200
"""Characters in a name as it is given; the longest known to GeoNames has 193."""

CANDIDATES_MAX: Final = 64
"""Names that are compared letter by letter for one suggestion."""

SIMILARITY_MIN: Final = 0.6
"""Ratio of matching letters below which a name is not worth suggesting."""


def normalise(name: str) -> str:
    """The one spelling of a name that look-ups compare.

    Raises:
        InvalidRequest: it is empty or has more than `NAME_LENGTH_MAX` characters.
    """
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidRequest("city", f"a name has at most {NAME_LENGTH_MAX} characters")
    # Folding can undo NFKC and NFKC can bring new letters to fold: D146 of the
    # Unicode Standard takes two passes, after which a third changes nothing.
    name = unicodedata.normalize("NFD", name)
    for _ in range(2):
        name = unicodedata.normalize("NFKC", name.casefold())
    name = " ".join(name.split())
    if not name:
        raise InvalidRequest("city", "a name is needed")
    return name


class CityNames:
    """Which city each name means, for all cities that are known at start-up.

    A slug always means its own city. Any other name that two cities claim means
    neither of them: `find` says so, and `clashes` lists them.
    """

    def __init__(self, cities: Mapping[str, Iterable[str]]) -> None:
        """Index cities.

        Args:
            cities: Other names (titles, aliases) by slug.
        """
        claims = sorted(
            {(slug, slug) for slug in cities}
            | {(normalise(name), slug) for slug, names in cities.items() for name in names}
        )
        claimants: dict[str, list[str]] = {}
        for name, slug in claims:
            claimants.setdefault(name, []).append(slug)

        self.clashes: Mapping[str, tuple[str, ...]] = MappingProxyType(
            {
                name: tuple(slugs)
                for name, slugs in claimants.items()
                if len(slugs) > 1 and name not in cities
            }
        )
        """Slugs of the cities that claim a name, for each name that several claim."""
        self._owners = {
            name: name if name in cities else slugs[0]
            for name, slugs in claimants.items()
            if name not in self.clashes
        }
        self._slugs = sorted(cities)
        self._claims = claims
        self._pairs: dict[str, list[int]] = {}
        for index, (name, _) in enumerate(claims):
            for pair in _pairs(name):
                self._pairs.setdefault(pair, []).append(index)

    def find(self, name: str) -> str | None:
        """The slug of the city of this name, or ``None``.

        Raises:
            InvalidRequest: the name is malformed, or several cities claim it.
        """
        name = normalise(name)
        if name in self.clashes:
            several = ", ".join(self.clashes[name])
            raise InvalidRequest("city", f"{name!r} names several cities, choose one: {several}")
        return self._owners.get(name)

    def suggestions(self, name: str, limit: int = 3) -> tuple[str, ...]:
        """Slugs of the cities whose names are nearest to an unknown one, best first."""
        name = normalise(name)
        # Letter pairs in common choose a few candidates; only those are compared in full.
        common: Counter[int] = Counter()
        for pair in _pairs(name):
            common.update(self._pairs.get(pair, ()))
        matcher = SequenceMatcher(b=name, autojunk=False)
        scores: dict[str, float] = {}
        for index, _ in common.most_common(CANDIDATES_MAX):
            known, slug = self._claims[index]
            matcher.set_seq1(known)
            least = max(SIMILARITY_MIN, scores.get(slug, 0.0))
            if matcher.quick_ratio() >= least and (ratio := matcher.ratio()) >= least:
                scores[slug] = ratio
        return tuple(sorted(scores, key=lambda slug: (-scores[slug], slug))[:limit])

    def page(self, prefix: str = "", after: str = "", limit: int = 100) -> tuple[str, ...]:
        """Slugs greater than ``after``, in order, at most ``limit``.

        Args:
            prefix: Only cities one of whose names begins with it.
        """
        slugs = self._slugs
        if prefix:
            prefix = normalise(prefix)
            first = bisect_left(self._claims, (prefix,))
            last = bisect_right(
                self._claims, prefix, lo=first, key=lambda claim: claim[0][: len(prefix)]
            )
            slugs = sorted({slug for _, slug in self._claims[first:last]})
        start = bisect_right(slugs, after)
        return tuple(slugs[start : start + limit])


def _pairs(name: str) -> set[str]:
    """Each two letters that stand together; the first letter also counts alone."""
    return {name[:1], *(name[i : i + 2] for i in range(len(name) - 1))}
