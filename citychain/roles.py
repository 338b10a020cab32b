"""Roles, and in which cities somebody has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

__all__ = ["ALL_CITIES", "NOTHING_GRANTED", "Grants", "Role"]

ALL_CITIES: Final = "*"
"""In the place of a city's slug: each city, and what is of no city."""
CITIES_MAX: Final = 1_000
"""Of one role. With more, give all of them, or several tokens."""


class Role(StrEnum):
    """What a caller may be allowed; none of them includes another."""

    READ = "read"
    """Ask for cities, transactions, receipts, rounds and proofs."""
    SUBMIT = "submit"
    """Send transactions."""
    VOTE = "vote"
    """Send votes and objections."""
    STORE = "store"
    """Store fragments on a storage server, and delete those that one has stored."""
    FETCH = "fetch"
    """Read fragments from a storage server."""
    ADMIN = "admin"
    """Move a city, or recover its committee; each needs the operator's signature as well."""


@dataclass(frozen=True, slots=True)
class Grants:
    """The roles that somebody has, and where."""

    cities: Mapping[Role, frozenset[str]] = field(default_factory=dict)
    """Slugs, or `ALL_CITIES`."""

    @classmethod
    def everywhere(cls, roles: Collection[Role]) -> Grants:
        """These roles for all cities."""
        return cls({role: frozenset({ALL_CITIES}) for role in roles})

    @classmethod
    def from_claim(cls, claim: Any) -> Grants:
        """What a token says: a list of slugs, or of ``"*"``, by role.

        Roles that are unknown here grant nothing here: a token may be for a newer server too.

        Raises:
            ValueError: it is no such table; says what is wrong.
        """
        if not isinstance(claim, dict):
            raise ValueError('is no table of roles, such as {"read": ["*"], "submit": ["nara"]}')
        cities: dict[Role, frozenset[str]] = {}
        for role in Role:
            listed = claim.get(role.value, [])
            if not isinstance(listed, list) or not all(isinstance(it, str) for it in listed):
                raise ValueError(f'{role}: is no list of cities, such as ["nara"] or ["*"]')
            if len(listed) > CITIES_MAX:
                raise ValueError(f"{role}: has {len(listed)} cities; at most {CITIES_MAX}, or all")
            if listed:
                cities[role] = frozenset(listed)
        return cls(cities)

    def claim(self) -> dict[str, list[str]]:
        """The same as `from_claim` reads it."""
        return {role.value: sorted(cities) for role, cities in self.cities.items()}

    def with_all_of(self, other: Grants) -> Grants:
        """What either grants."""
        return Grants(
            {role: self.of(role) | other.of(role) for role in (*self.cities, *other.cities)}
        )

    def of(self, role: Role) -> frozenset[str]:
        """Where the role is had."""
        return self.cities.get(role, frozenset())


NOTHING_GRANTED: Final = Grants()
