"""What one city is made of: a plugin's definition, and the configuration over it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from citychain.city.pinned import PinnedPart, genesis_file, pinned_options, with_pinned
from citychain.config import (
    CitySettings,
    LimitsSettings,
    Opening,
    PacerSettings,
    Settings,
)
from citychain.config_archive import ArchiveSettings
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, NotFound
from citychain.explain import explain, place
from citychain.genesis import Representative
from citychain.hooks.definitions import (
    FOLDER,
    CityDefinition,
    ConsensusDefinition,
    DagDefinition,
    Disc,
    StorageDefinition,
)
from citychain.hooks.registry import Registry
from citychain.moving.home import read_home

__all__ = [
    "CONFIGURATION",
    "CityPlan",
    "Part",
    "define_city",
    "plan_city",
    "plan_engine",
    "plan_storage",
]

logger = logging.getLogger(__name__)

CONFIGURATION: Final = "configuration"
"""The source of a city that no plugin offers."""

FOUNDING: Final = frozenset(("num_hashes", "hold_rounds", "balances", "committee"))
"""Settings that a new genesis takes as they stand, and no later opening asks for."""

D = TypeVar("D", StorageDefinition, DagDefinition, ConsensusDefinition)


@dataclass(frozen=True, slots=True)
class Part(Generic[D]):
    """A part of a city, chosen and configured, not built."""

    name: str
    """The part's name. For storage the engine's, 1 to 80 of a-z, 0-9 and ``-``: cities
    whose storage has the same name share one engine."""
    definition: D
    options: BaseModel = field(repr=False)
    """An instance of ``definition.options``; may hold passwords."""


@dataclass(frozen=True, slots=True)
class CityPlan:
    """All that is needed to open a city."""

    slug: str
    titles: Mapping[str, str]
    aliases: tuple[str, ...]
    region: Disc | None
    parent: str | None
    source: str
    """The distribution that offers it, or ``configuration``."""
    storage: Part[StorageDefinition]
    """Where it lives: where it was moved to, or else what is configured."""
    configured_storage: str
    """The storage that the configuration names: that of ``storage``, unless it was moved."""
    dag: Part[DagDefinition]
    consensus: Part[ConsensusDefinition]
    num_hashes: int
    hold_rounds: int
    balances: Mapping[str, Mapping[str, int]]
    """For a new genesis, as the two before: asset, then key id in hexadecimal."""
    committee: tuple[Representative, ...]
    """For a new genesis; empty for the operator alone."""
    stated: frozenset[str]
    """Which of these four the configuration gives; the others have their defaults."""
    representatives: tuple[Path, ...]
    """Files of the keys that vote inside the server; empty for the operator's alone."""
    genesis: Path | None
    """The genesis file to use, if it is not to be made."""
    peers: tuple[str, ...] | None
    """Cities that it exchanges with; ``None`` for all that are configured."""
    open: Opening
    pacer: PacerSettings
    limits: LimitsSettings
    archive: ArchiveSettings
    retention: timedelta
    """How long what transactions say is kept in the storage."""

    def with_committee(self, representatives: Sequence[SigningKey]) -> CityPlan:
        """With these as the first committee, who vote inside the server, if it names no other."""
        members = (Representative(public_key=key.public_key.hex()) for key in representatives)
        return self if self.committee else replace(self, committee=tuple(members))


def define_city(slug: str, settings: Settings, registry: Registry) -> tuple[CityDefinition, str]:
    """A city's definition with its table in the configuration over it, and its source.

    May block as `Registry.find_city` does.

    Raises:
        NotFound: neither a plugin nor the configuration knows it.
        PluginError: several plugins claim it.
    """
    table = settings.cities.get(slug)
    city = registry.find_city(slug)
    source = registry.source_of(slug) or ""
    if city is None or city.slug != slug:  # As a mere name of another city it is free.
        if table is None:
            raise NotFound("city", slug)
        city, source = CityDefinition(slug), CONFIGURATION
    return (table.over(city) if table else city), source


def plan_city(slug: str, settings: Settings, registry: Registry) -> CityPlan:
    """Decide what a city is made of, and check its options. Builds nothing.

    May block as `Registry.find_city` does.

    Raises:
        NotFound: neither a plugin nor the configuration knows it.
        ConfigurationError: a part or an option does not exist or is wrong.
        PluginError: several plugins claim the city, or one of its parts.
    """
    city, source = define_city(slug, settings, registry)
    table = settings.cities.get(slug) or CitySettings()
    genesis = genesis_file(settings.data_dir, slug, table.genesis)
    choice = _Choice(city, source, settings, genesis)
    storage, configured = choice.home(registry)
    return CityPlan(
        slug=slug,
        titles=city.titles,
        aliases=city.aliases,
        region=city.region,
        parent=city.parent,
        source=source,
        storage=storage,
        configured_storage=configured,
        dag=choice.part("dag", registry.dag_handler, lambda dag: dag.rule),
        consensus=choice.part("consensus", registry.consensus_step, lambda step: step.step),
        num_hashes=table.num_hashes,
        hold_rounds=table.hold_rounds,
        balances=table.balances,
        committee=table.committee,
        stated=FOUNDING & table.model_fields_set,
        representatives=table.representatives,
        genesis=table.genesis,
        peers=table.peers,
        open=table.open or settings.server.open,
        pacer=table.pacer or settings.pacer,
        limits=table.limits or settings.limits,
        archive=table.archive or settings.archive,
        retention=table.retention or settings.retention,
    )


def plan_storage(
    slug: str, name: str, settings: Settings, registry: Registry
) -> Part[StorageDefinition]:
    """A storage for a city to be moved to, or from: without the city's own options.

    Raises:
        NotFound, ConfigurationError, PluginError: as `plan_city`.
    """
    city, source = define_city(slug, settings, registry)
    choice = _Choice(city, source, settings, genesis_file(settings.data_dir, slug, None))
    return choice.storage(registry, name)


def plan_engine(name: str, settings: Settings, registry: Registry) -> Part[StorageDefinition]:
    """A storage by name, for whatever cities are in it.

    Raises:
        ConfigurationError: there is none of this name, or an option of it is wrong.
    """
    nobody = CityDefinition("")
    choice = _Choice(nobody, f"storage {name}", settings, settings.data_dir)
    return choice.storage(registry, name)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Finds a city's parts and checks their options; says where a wrong one was asked for."""

    city: CityDefinition
    source: str
    settings: Settings
    genesis: Path
    """Its file, which need not be there yet."""

    def part(
        self, part: PinnedPart, find: Callable[[str], D], identity: Callable[[D], str]
    ) -> Part[D]:
        name = getattr(self.city, part)
        definition = self._find(find, name, "cities", self.city.slug, part)
        options = getattr(self.city, f"{part}_options")
        key = ("cities", self.city.slug, f"{part}_options")

        def pinned() -> Mapping[str, Any]:
            return pinned_options(self.genesis, part, identity(definition))

        return Part(name, definition, self._options(definition.options, options, *key, pin=pinned))

    def home(self, registry: Registry) -> tuple[Part[StorageDefinition], str]:
        """Where the city lives, and the name of what is configured."""
        moved_to = read_home(self.settings.data_dir, self.city.slug)
        if moved_to is None:
            part = self.storage(registry)
            return part, part.name
        # What the city left need not be there any more.
        configured = self.city.storage
        if self.city.storage_options:
            configured += " with storage_options"
        return self.storage(registry, moved_to), configured

    def storage(self, registry: Registry, other: str | None = None) -> Part[StorageDefinition]:
        """A ``[storage.NAME]`` table, or a backend of that name with its default options.

        Args:
            other: Instead of the city's own choice.
        """
        city = self.city
        name, own = (city.storage, city.storage_options) if other is None else (other, {})
        backend, common = name, {}
        key: tuple[str, ...] = ("cities", city.slug, "storage")
        if table := self.settings.storage.get(name):
            backend, common = table.backend, dict(table.options)
            key = ("storage", name, "backend")
        definition = self._find(registry.storage_backend, backend, *key)
        options = {**common, **own}
        key = ("cities", city.slug, "storage_options") if own else ("storage", name)
        if own and self._is_fault_of(definition.options, options, common.keys() - own.keys()):
            key = ("storage", name)
        part = Part(name, definition, self._options(definition.options, options, *key))
        # Options of its own make an engine of its own, named alike at every start.
        return replace(part, name=_own_name(name, options)) if own else part

    def _is_fault_of(
        self, model: type[BaseModel], options: Mapping[str, Any], keys: Collection[str]
    ) -> bool:
        """Whether all that is wrong with options is wrong with these keys."""
        try:
            model.model_validate(dict(options), context={FOLDER: self.settings.folder})
        except ValidationError as error:
            return all(fault["loc"] and fault["loc"][0] in keys for fault in error.errors())
        return False

    def _find(self, find: Callable[[str], D], name: str, *key: str) -> D:
        try:
            return find(name)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{place(self.settings.sources, key)}{self._who}: {error}"
            ) from None

    def _options(
        self,
        model: type[BaseModel],
        options: Mapping[str, Any],
        *key: str,
        pin: Callable[[], Mapping[str, Any]] = dict,
    ) -> BaseModel:
        """Options of a part; ``pin`` gives those of its genesis, where a source is gone."""
        try:
            return model.model_validate(dict(options), context={FOLDER: self.settings.folder})
        except ValidationError as error:
            faults = explain(error, model, self.settings.sources, key)
            if (filled := with_pinned(options, error, pin())) is None:
                raise ConfigurationError(f"{self._who}: {faults}") from None
            logger.warning("%s: %s; what %s says of it counts", self._who, faults, self.genesis)
            return self._options(model, filled, *key)

    @property
    def _who(self) -> str:
        return f"city {self.city.slug} ({self.source})" if self.city.slug else self.source


def _own_name(name: str, options: Mapping[str, Any]) -> str:
    """Name of the engine that has a city's own options besides those of its storage."""
    canonical = json.dumps(dict(options), sort_keys=True, default=str).encode()
    return f"{name}-{hashlib.sha256(canonical).hexdigest()[:16]}"
