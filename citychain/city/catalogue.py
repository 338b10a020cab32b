"""All cities that could be opened: those that plugins list, the configuration's, and
those that a plugin finds by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from citychain.city.listing import CityListing, CityState
from citychain.city.names import CityNames
from citychain.city.plan import CityPlan, Part, define_city, plan_city, plan_storage
from citychain.config import Settings
from citychain.errors import CitychainError, ConfigurationError, InvalidRequest
from citychain.hooks.definitions import CityDefinition, StorageDefinition
from citychain.hooks.registry import Registry

__all__ = ["Catalogue"]

logger = logging.getLogger(__name__)


class Catalogue:
    """See `citychain.city.directory.CityCatalogue`."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._listed: dict[str, CityListing] = {}
        for slug in sorted({*registry.cities, *settings.cities}):
            try:
                self._listed[slug] = _listing(*define_city(slug, settings, registry))
            except CitychainError as error:
                logger.error("%s is left out: %s", slug, error)
        self._names = _names(self._listed)
        for name, slugs in self._names.clashes.items():
            logger.warning("%r is a name of %s, so it resolves to none", name, " and ".join(slugs))

    def grow(self, settings: Settings) -> list[str]:
        """List the cities that these settings have besides, and tell their slugs; may block as
        `find` does.

        Raises:
            ConfigurationError: one of them could not be opened, or has a name of another city;
                nothing has changed.
        """
        fresh = sorted(settings.cities.keys() - self._settings.cities.keys())
        added: dict[str, CityListing] = {}
        for slug in fresh:
            listing = _listing(*define_city(slug, settings, self._registry))
            plan_city(slug, settings, self._registry)
            for name in (slug, *listing.titles.values(), *listing.aliases):
                if self._is_taken(name):
                    raise ConfigurationError(
                        f"cities.{slug}: {name!r} is a name of a city that is there already"
                    )
            added[slug] = listing
        for name, slugs in _names(added).clashes.items():
            raise ConfigurationError(f"cities.{slugs[0]}: {name!r} is a name of {slugs[1]}, too")
        listed = dict(sorted({**self._listed, **added}.items()))
        names = _names(listed)
        self._settings = settings
        self._listed = listed
        self._names = names  # Last: threads that look a name up find what it leads to.
        return fresh

    def _is_taken(self, name: str) -> bool:
        try:
            return self.find(name) is not None
        except InvalidRequest:
            return True

    def find(self, name: str) -> CityListing | None:
        """The city of this name; may block while a plugin reads its data.

        Raises:
            InvalidRequest: the name is malformed, or several cities claim it.
        """
        if (slug := self._names.find(name)) is not None:
            return self._listed[slug]
        if (found := self._registry.find_city(name)) is None:
            return None
        return _listing(*define_city(found.slug, self._settings, self._registry))

    def plan(self, slug: str) -> CityPlan:
        """What the city is made of; may block as `find` does.

        Raises:
            ConfigurationError: a part or an option of it does not exist or is wrong.
        """
        return plan_city(slug, self._settings, self._registry)

    def storage(self, slug: str, name: str) -> Part[StorageDefinition]:
        """A storage that the city could be moved to, or was moved from; may block as `find` does.

        Raises:
            ConfigurationError: there is none of this name, or an option of it is wrong.
        """
        return plan_storage(slug, name, self._settings, self._registry)

    def eager(self) -> list[str]:
        """Slugs of listed cities that should be opened at start-up."""
        cities = self._settings.cities
        return [
            slug
            for slug in self._listed
            if ((slug in cities and cities[slug].open) or self._settings.server.open) == "eager"
        ]

    def suggestions(self, name: str) -> tuple[str, ...]:
        """The nearest names that exist."""
        return self._names.suggestions(name)

    def listings(self, query: str, after: str, limit: int) -> Sequence[CityListing]:
        """Listed cities of which some name begins with ``query``, by slug, after a slug."""
        return [self._listed[slug] for slug in self._names.page(query, after, limit)]


def _names(listed: Mapping[str, CityListing]) -> CityNames:
    return CityNames(
        {slug: (*listing.titles.values(), *listing.aliases) for slug, listing in listed.items()}
    )


def _listing(city: CityDefinition, source: str) -> CityListing:
    return CityListing(
        slug=city.slug,
        titles=city.titles,
        aliases=city.aliases,
        parent=city.parent,
        source=source,
        storage=city.storage,
        dag=city.dag,
        consensus=city.consensus,
        state=CityState.REGISTERED,
    )
