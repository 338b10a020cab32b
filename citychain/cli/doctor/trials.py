"""What is tried: each part by itself, in a city of built-in parts, and the first cities.

Nothing is written where a plugin's own cities keep theirs: a trial writes in memory and below a
temporary directory. So what a city says of its storage is never taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from citychain.cli.doctor.attempts import Attempts
from citychain.cli.doctor.findings import Finding
from citychain.cli.doctor.module import Offer
from citychain.cli.doctor.options import missing_options
from citychain.cli.doctor.store_trial import STORES, store_findings
from citychain.cli.doctor.trial import Trial, noting
from citychain.hooks import CityDefinition
from citychain.hooks.registry import Registry
from citychain.hooks.specs import hookimpl

__all__ = ["PARTS", "Sound", "trial_findings"]

PARTS: Final[Mapping[str, str]] = {
    "citychain_storage_backends": "storage",
    "citychain_dag_handlers": "dag",
    "citychain_consensus_steps": "consensus",
}
"""The part of a city that each of these hooks lists."""
CITIES_MAX: Final = 3
"""Cities of a plugin that are opened; all are planned."""
TRIAL_SECONDS: Final = 30.0
SLUG: Final = "trial"
MEMORY: Final = "memory"
"""The storage of what is not tried for its storage."""
FIXES: Final[Mapping[str, str]] = {
    "storage": "give defaults that keep to the context's directory, or try it by its StorageSuite",
}
"""Where it is not what it is for other parts: how a part that needs options is tried."""
COMMITTEES: Final = (0, 2, 3, 4)
"""Numbers of members with which a step is tried, until it takes the city; 0 is the operator
alone."""


class Sound:
    """What is sound of a plugin, as a plugin."""

    __name__ = "citychain.cli.doctor"

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._made: list[tuple[Any, Any]] = []
        self._offers: dict[str, list[Any]] = {}
        for hook, descriptor, _ in offers:
            if hook in PARTS:
                descriptor = noting(descriptor, lambda *made: self._made.append(made))
            self._offers.setdefault(hook, []).append(descriptor)

    def made(self) -> list[tuple[Any, Any]]:
        """Parts that were made since this was last asked, and their definitions."""
        made, self._made = self._made, []
        return made

    @hookimpl
    def citychain_cities(self) -> list[Any]:
        return self._offers.get("citychain_cities", [])

    @hookimpl
    def citychain_storage_backends(self) -> list[Any]:
        return self._offers.get("citychain_storage_backends", [])

    @hookimpl
    def citychain_dag_handlers(self) -> list[Any]:
        return self._offers.get("citychain_dag_handlers", [])

    @hookimpl
    def citychain_consensus_steps(self) -> list[Any]:
        return self._offers.get("citychain_consensus_steps", [])


def trial_findings(
    offers: Iterable[tuple[Offer, Attempts]], sound: Sound, *, alone: Registry, beside: Registry
) -> Iterator[Finding]:
    """What is found when the sound parts and cities of a plugin are put to work.

    Args:
        alone: What is built in, and ``sound``: for parts.
        beside: All else that is installed, too: cities may want its parts.
    """
    offers = list(offers)
    cities = [offer.descriptor for offer, _ in offers if offer.hook == "citychain_cities"]
    opened = 0
    for offer, attempt in offers:
        attempt = Attempts(attempt.package, TRIAL_SECONDS)
        if offer.hook in PARTS:
            yield from _try_part(offer, attempt, sound, alone, cities)
        elif offer.hook == STORES:
            yield from store_findings(offer, attempt)
        elif offer.hook == "citychain_cities":
            if (unplanned := _unplanned(offer, beside)) is not None:
                yield unplanned
            elif opened < CITIES_MAX:
                opened += 1
                city = offer.descriptor.slug
                table = {"storage": MEMORY}
                trial = Trial(beside, (city, table), f"city {city}", offer.where, sound.made)
                yield from trial.run(attempt)


def _try_part(
    offer: Offer,
    attempt: Attempts,
    sound: Sound,
    alone: Registry,
    cities: Iterable[CityDefinition],
) -> Iterator[Finding]:
    part, definition = PARTS[offer.hook], offer.descriptor
    options = _options(part, definition.name, cities)
    if missing := missing_options(definition.options, options):
        what = f"{definition.name} cannot be tried: it needs {missing}"
        fix = FIXES.get(part, "give defaults, or a city of the plugin that has these options")
        yield Finding("options-needed", offer.where, what, fix)
        return
    table = {"storage": MEMORY, part: definition.name, f"{part}_options": options}
    found = []
    for members in COMMITTEES if part == "consensus" else COMMITTEES[:1]:
        what = f"{part} {definition.name}"
        trial = Trial(alone, (SLUG, table), what, offer.where, sound.made, members)
        found.append(trial.run(attempt))
        if not trial.refused:
            yield from found[-1]
            return
    yield from found[0]


def _options(part: str, name: str, cities: Iterable[CityDefinition]) -> dict[str, Any]:
    """Options that a city of the plugin gives a part; none if it gives none, and for storage,
    where they may name what is in use."""
    if part == "storage":
        return {}
    given = (getattr(city, f"{part}_options") for city in cities if getattr(city, part) == name)
    return dict(next(given, {}))


def _unplanned(offer: Offer, registry: Registry) -> Finding | None:
    from citychain.city.plan import plan_city
    from citychain.config import Settings
    from citychain.errors import CitychainError

    with TemporaryDirectory(prefix="citychain-doctor-") as folder:
        try:
            plan_city(offer.descriptor.slug, Settings(data_dir=Path(folder)), registry)
        except CitychainError as error:
            what = f"city {offer.descriptor.slug}: {error}"
            fix = "name what there is, or require the distribution that has it"
            return Finding("city-parts", offer.where, what, fix)
    return None
