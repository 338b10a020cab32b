"""Descriptors: what plugins offer, before anything is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from citychain.ports import (
    CityContext,
    ConsensusStep,
    DagHandler,
    FragmentStore,
    StorageBackend,
    StorageContext,
)
from citychain.types import Quorum

__all__ = [
    "API_VERSION",
    "FOLDER",
    "CityDefinition",
    "CommandDefinition",
    "ConfigPath",
    "ConsensusDefinition",
    "DagDefinition",
    "Disc",
    "FragmentStoreDefinition",
    "NoOptions",
    "SourceUnreadable",
    "StorageDefinition",
]

API_VERSION: Final = 2
"""Version of the contract in `citychain.ports`, `citychain.types` and these descriptors. What
changed from one to the next, and for how long both work: docs/plugins.md."""

FIRST_VERSION: Final = 1
"""That of a definition that says nothing: an old plugin must not become a new one by itself."""

FOLDER: Final = "folder"
"""Options are validated with a context that has the folder of ``citychain.toml`` under this key: a
`pathlib.Path` that paths in them are relative to."""


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get(FOLDER)
    return path if folder is None else Path(folder) / path


ConfigPath = Annotated[Path, AfterValidator(_from_folder)]
"""Type of an option that is a path: a relative one begins at the folder of ``citychain.toml``."""


class SourceUnreadable(ValueError):
    """A validator of options raises it where a file that an option names cannot be read. A city
    that has a genesis then goes by what that keeps of the option."""


class NoOptions(BaseModel):
    """The options of a part that has none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Disc:
    """A region: all points within a distance of a centre."""

    latitude_e7: int
    """Degrees north times 10^7 (WGS 84)."""
    longitude_e7: int
    """Degrees east times 10^7 (WGS 84)."""
    radius_m: int


@dataclass(frozen=True, slots=True)
class CityDefinition:
    """A city that can be opened."""

    slug: str
    """1 to 63 of a-z, 0-9 and ``-``, starting with a letter; unique among all plugins."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Title by BCP 47 language tag: ``{"en": "Kanazawa", "ja": "金沢市"}``."""
    aliases: tuple[str, ...] = ()
    """Other names it resolves by, in any script; compared after NFKC and case folding."""
    region: Disc | None = None
    parent: str | None = None
    """Slug of the city (country, continent) that this one anchors in."""
    storage: str = "sqlite"
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    dag: str = "sealed-rounds"
    dag_options: Mapping[str, Any] = field(default_factory=dict)
    consensus: str = "solo"
    consensus_options: Mapping[str, Any] = field(default_factory=dict)
    """Defaults; a city's table in citychain.toml overrides each of the six."""


@dataclass(frozen=True, slots=True)
class StorageDefinition:
    """A storage backend by name."""

    name: str
    """1 to 63 of a-z, 0-9 and ``-``; unique among all plugins."""
    factory: Callable[[Any, StorageContext], StorageBackend]
    """Called with validated options; must not do I/O before ``__aenter__``."""
    options: type[BaseModel] = NoOptions
    api_version: int = FIRST_VERSION
    """The contract that the part was written for."""
    shared: bool = False
    """Several servers may use the same storage at once."""
    durable: bool = True
    """What ``append`` acknowledged survives a power cut."""
    whole_appends: bool = True
    """An ``append`` that a crash cuts short is stored whole or not at all. Where not: some of its
    transactions may be stored, and all of its keys before any of them."""


@dataclass(frozen=True, slots=True)
class DagDefinition:
    """A DAG handler by name."""

    name: str
    """1 to 63 of a-z, 0-9 and ``-``; unique among all plugins."""
    factory: Callable[[Any, CityContext], DagHandler]
    """If what it returns is an async context manager, the city enters and leaves it."""
    options: type[BaseModel] = NoOptions
    version: int = 1
    """Part, with the name, of the rule that a genesis pins and every node id contains.
    Raise it when the same input begins to give another result."""
    api_version: int = FIRST_VERSION
    """The contract that the part was written for."""

    @property
    def rule(self) -> str:
        """Name and version, such as ``sealed-rounds/1``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ConsensusDefinition:
    """A consensus step by name."""

    name: str
    """1 to 63 of a-z, 0-9 and ``-``; unique among all plugins."""
    factory: Callable[[Any, CityContext], ConsensusStep]
    """If what it returns is an async context manager, the city enters and leaves it."""
    options: type[BaseModel] = NoOptions
    version: int = 1
    """Part, with the name, of what a genesis pins. Raise it when the same input begins
    to give another result."""
    quorum: Quorum = "two-thirds"
    """How much of the committee's stake makes a certificate; pinned by the genesis."""
    api_version: int = FIRST_VERSION
    """The contract that the part was written for."""

    @property
    def step(self) -> str:
        """Name and version, such as ``solo/1``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class FragmentStoreDefinition:
    """A kind of fragment store by name."""

    name: str
    """1 to 63 of a-z, 0-9 and ``-``; unique among all plugins."""
    factory: Callable[[Any, StorageContext], FragmentStore]
    """Called with validated options, once for each ``[fragments.stores.NAME]`` of the kind; must
    not do I/O before ``__aenter__``."""
    options: type[BaseModel] = NoOptions
    api_version: int = FIRST_VERSION
    """The contract that the part was written for."""
    durable: bool = True
    """What ``put`` returned for survives a power cut."""


@dataclass(frozen=True, slots=True)
class CommandDefinition:
    """A sub-command of ``citychain``."""

    name: str
    app: Any
    """A `typer.Typer` or a function that typer can make a command of."""
