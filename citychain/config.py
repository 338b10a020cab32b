"""Settings: one file, ``citychain.toml``, and the environment over it.

The only reader of the environment. Sources, the first that has a key wins:

1. arguments of `load_settings`;
2. the environment: ``CITYCHAIN_SERVER__LISTEN`` is ``listen`` of ``[server]``;
   lists and tables are written as JSON;
3. the environment with ``_FILE`` appended: that file's content is the value, so
   that secrets need not stand in the environment (``operator_key`` is a path
   already: ``CITYCHAIN_OPERATOR_KEY_FILE`` is that path);
4. ``citychain.toml``, named by the argument, by ``CITYCHAIN_CONFIG``, or in the
   working directory; its paths are relative to it;
5. the files that ``cities_from`` names, for cities alone;
6. ``MONGODB_URI``, or ``MONGODB_URI_FILE``, for tables of the backend ``mongodb`` without address;
7. the defaults below.

A key that does not exist is an error, here and in every table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from citychain.city.names import normalise
from citychain.client.keys import load_public_key
from citychain.config_archive import ArchiveSettings
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.config_environment import CONFIG_VARIABLE, read_environment, read_mongodb, variable
from citychain.config_files import read_cities, read_file
from citychain.config_fragments import FragmentsSettings
from citychain.config_metrics import MetricsSettings
from citychain.config_tables import Address, KeepFor, PartName, Table
from citychain.config_tls import ClientTlsSettings, ServerTlsSettings, is_loopback
from citychain.config_traces import TracesSettings
from citychain.errors import ConfigurationError, InvalidRequest
from citychain.explain import Source, explain
from citychain.genesis import Amount, Asset, Genesis, KeyIdHex, Representative, Slug
from citychain.hooks.definitions import CityDefinition
from citychain.hooks.loading import LOAD_SECONDS

__all__ = [
    "CitySettings",
    "ClusterSettings",
    "CryptoSettings",
    "ExchangeSettings",
    "LimitsSettings",
    "PacerSettings",
    "PeerSettings",
    "PluginsSettings",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "get_dynamic_batch_interval",
    "load_settings",
]

DEFAULT_CONFIG_FILE: Final = "citychain.toml"
DEFAULT_NETWORK: Final = "local"
DEFAULT_DATA_DIR: Final = "data"
DEFAULT_OPERATOR_KEY: Final = "operator.key"
DEFAULT_LISTEN: Final = "127.0.0.1:50051"
DEFAULT_DRAIN_SECONDS: Final = 10.0
DEFAULT_MESSAGE_MIB_MAX: Final = 32
DEFAULT_LEASE_SECONDS: Final = 10.0
DEFAULT_PACER_SECONDS_MIN: Final = 0.1
DEFAULT_PACER_SECONDS_MAX: Final = 2.0
DEFAULT_PACER_TX_MAX: Final = 2_000
DEFAULT_PENDING_TRANSACTIONS: Final = 20_000
DEFAULT_PENDING_MIB: Final = 128
DEFAULT_AUTHOR_PENDING: Final = 5_000
DEFAULT_BODY_KIB: Final = 256
DEFAULT_FINAL_WITHIN_SECONDS: Final = 3_600
DEFAULT_NUM_HASHES: Final[int] = Genesis.model_fields["num_hashes"].default
DEFAULT_HOLD_ROUNDS: Final[int] = Genesis.model_fields["hold_rounds"].default
DEFAULT_PREPARED_KEYS: Final = 1_024
DEFAULT_PUBLIC_KEYS: Final = 16_384
DEFAULT_ANCHOR_SECONDS: Final = 60.0
DEFAULT_RETENTION: Final = timedelta(days=180)

DEFAULTS: Final = {"data_dir": DEFAULT_DATA_DIR, "operator_key": DEFAULT_OPERATOR_KEY}
"""Paths that are relative to the configuration file, as those are that it names."""

PACER_STEP_UP: Final = timedelta(seconds=0.5)
PACER_STEP_DOWN: Final = timedelta(seconds=0.1)

Opening = Literal["lazy", "eager"]
"""When a city is opened: on first use, or when the server starts."""


def _city_name(name: str) -> str:
    try:
        normalise(name)
    except InvalidRequest as error:
        raise ValueError(error.detail) from None
    return name


def _member(value: Any) -> Any:
    """A committee's member, whose public key may be given by its file."""
    if not isinstance(value, dict) or "key" not in value:
        return value
    member = {name: item for name, item in value.items() if name != "key"}
    if "public_key" in member:
        raise ValueError("has both key and public_key: give one of them")
    try:
        return {**member, "public_key": load_public_key(Path(value["key"])).hex()}
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    except TypeError:
        raise ValueError("key must be the path of a public key file") from None


CityName = Annotated[str, AfterValidator(_city_name)]
CommitteeMember = Annotated[Representative, BeforeValidator(_member)]


class ServerSettings(Table):
    """``[server]``"""

    listen: Address = DEFAULT_LISTEN
    """``host:port``; port 0 takes a free one."""
    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = DEFAULT_DRAIN_SECONDS
    """How long calls under way may take to finish at shutdown."""
    max_message_mib: Annotated[int, Field(ge=1, le=64)] = DEFAULT_MESSAGE_MIB_MAX
    """Largest gRPC message."""
    open: Opening = "lazy"
    """When a city is opened: on first use, or when the server starts."""
    tls: ServerTlsSettings | None = None
    """Without it nothing is encrypted."""
    plaintext: bool = False
    """Whether others than this machine may be served without TLS."""

    @model_validator(mode="after")
    def _encrypted(self) -> ServerSettings:
        if self.tls is not None and self.plaintext:
            raise ValueError("has tls and plaintext: give one of them")
        if self.tls is None and not self.plaintext and not is_loopback(self.listen):
            raise ValueError(
                f"listen = {self.listen} can be reached from other machines, and nothing is "
                "encrypted: give [server.tls] a certificate and key, or listen on 127.0.0.1, or "
                "say plaintext = true"
            )
        return self


class ClusterSettings(Table):
    """``[cluster]``: several servers that share a city's storage."""

    lease_seconds: Annotated[float, Field(ge=0.5, le=3_600)] = DEFAULT_LEASE_SECONDS
    """For how long a city belongs to the server that seals its rounds after it last said so:
    when it fails, another one goes on that much later."""


class PluginsSettings(Table):
    """``[plugins]``: by the name of an entry point or of a distribution."""

    allow: tuple[str, ...] | None = None
    """Only these are loaded; absent for all that are installed."""
    disabled: tuple[str, ...] = ()
    """These are not loaded, nor imported."""
    load_seconds: Annotated[float, Field(gt=0, le=3_600)] = LOAD_SECONDS
    """Time for the import and the hooks of each; one that takes longer is left out."""


class PacerSettings(Table):
    """``[pacer]``: when rounds close."""

    min_seconds: Annotated[float, Field(gt=0, le=3_600)] = DEFAULT_PACER_SECONDS_MIN
    """Shortest interval between rounds."""
    max_seconds: Annotated[float, Field(gt=0, le=3_600)] = DEFAULT_PACER_SECONDS_MAX
    """Longest interval between rounds while transactions are pending."""
    max_tx: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_PACER_TX_MAX
    """Transactions with which a round is full."""

    @model_validator(mode="after")
    def _ordered(self) -> PacerSettings:
        if self.min_seconds > self.max_seconds:
            raise ValueError("min_seconds must not be greater than max_seconds")
        return self


class LimitsSettings(Table):
    """``[limits]``: bounds of one city's intake."""

    pending_transactions: Annotated[int, Field(ge=1)] = DEFAULT_PENDING_TRANSACTIONS
    """Pending transactions of all authors."""
    pending_mib: Annotated[int, Field(ge=1)] = DEFAULT_PENDING_MIB
    """Size of all pending transactions."""
    author_pending: Annotated[int, Field(ge=1)] = DEFAULT_AUTHOR_PENDING
    """Pending transactions of one author."""
    author_per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """New transactions of one author a second, on average; of ten seconds they may come at once.
    Absent for no bound. The operator has none."""
    body_kib: Annotated[int, Field(ge=1, le=4_096)] = DEFAULT_BODY_KIB
    """Largest transaction body. What other cities prove must fit: a receipt, a receipt within a
    receipt, or a change of their committee."""
    final_within_seconds: Annotated[int, Field(ge=1, le=366 * 86_400)] = (
        DEFAULT_FINAL_WITHIN_SECONDS
    )
    """What signed acknowledgements promise: a final state by then. Longer than a stop of the
    server may take, and than ``hold_rounds`` rounds."""

    @property
    def final_within_ms(self) -> int:
        """What signed acknowledgements promise, in milliseconds."""
        return self.final_within_seconds * 1_000

    @property
    def pending_bytes(self) -> int:
        """Bytes of pending transactions."""
        return self.pending_mib << 20

    @property
    def body_bytes(self) -> int:
        """Largest transaction body, in bytes."""
        return self.body_kib << 10


class CryptoSettings(Table):
    """``[crypto]``: caches of the signature check."""

    prepared_keys: Annotated[int, Field(ge=0, le=1 << 20)] = DEFAULT_PREPARED_KEYS
    """Public keys kept prepared for fast verification, 64 KiB each."""
    public_keys: Annotated[int, Field(ge=0, le=1 << 24)] = DEFAULT_PUBLIC_KEYS
    """Public keys kept by id, 2.5 KiB each."""


class StorageSettings(Table):
    """``[storage.NAME]``: a storage backend and its own options."""

    model_config = ConfigDict(extra="allow")

    backend: PartName
    """Name of a storage backend; all other keys of the table are its options."""

    @property
    def options(self) -> Mapping[str, Any]:
        """All keys but ``backend``, as they stand; the backend's model checks them."""
        return self.model_extra or {}

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [("backend", self.backend)]  # Options may hold passwords.


class ExchangeSettings(Table):
    """``[exchange]``: between cities."""

    anchor_seconds: Annotated[float, Field(gt=0, le=86_400)] = DEFAULT_ANCHOR_SECONDS
    """Shortest time between two checkpoints that a city anchors at its parent."""


class PeerSettings(Table):
    """``[peers.SLUG]``: a city that the cities of this server exchange with."""

    endpoints: tuple[Address, ...] = ()
    """Servers that have it, ``host:port`` each; empty for a city of this server."""
    genesis: Path | None = None
    """Its genesis file, which says who it is; needed with ``endpoints``."""
    assets: tuple[Asset, ...] | None = None
    """Assets that are accepted from it; absent for all. What else comes goes back to the payer."""
    token_file: Path | None = None
    """File of the token for its servers, with the roles ``read`` and ``submit``, if they ask for
    one."""
    tls: ClientTlsSettings | None = None
    """Without it nothing is encrypted on the way to its servers."""

    @model_validator(mode="after")
    def _known(self) -> PeerSettings:
        if self.endpoints and self.genesis is None:
            raise ValueError("has endpoints, and no genesis file that says who answers there")
        return self


class CitySettings(Table):
    """``[cities.SLUG]``: a city of its own, or what differs from a plugin's definition."""

    titles: dict[str, CityName] = Field(default_factory=dict)
    """Title by BCP 47 language tag; added to the plugin's, tag by tag."""
    aliases: tuple[CityName, ...] | None = None
    """Other names that it resolves by, instead of the plugin's."""
    storage: PartName | None = None
    """A ``[storage.NAME]``, or a backend by its own name with its default options."""
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Options of the storage backend, over those of ``[storage.NAME]``."""
    dag: PartName | None = None
    """The DAG handler, by name; of a new city ``sealed-rounds`` unless a plugin says another."""
    dag_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the DAG handler. The genesis pins them."""
    consensus: PartName | None = None
    """The consensus step, by name; of a new city ``solo`` unless a plugin says another."""
    consensus_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the consensus step. The genesis pins them."""
    num_hashes: Annotated[int, Field(ge=1, le=1 << 32)] = DEFAULT_NUM_HASHES
    """Of a new city: sequential hashes that a round's proof-of-history entry takes."""
    hold_rounds: Annotated[int, Field(ge=1, le=1_000)] = DEFAULT_HOLD_ROUNDS
    """Of a new city: rounds that a transaction waits for one that it depends on."""
    balances: dict[Asset, dict[KeyIdHex, Amount]] = Field(default_factory=dict)
    """First balances of a new city: asset, then key id in hexadecimal."""
    committee: tuple[CommitteeMember, ...] = ()
    """First committee of a new city: stakes, and public keys or their files as ``key``; the
    operator alone if empty."""
    representatives: tuple[Path, ...] = ()
    """Key files of the representatives that vote inside this server; the operator's if empty."""
    genesis: Path | None = None
    """An existing genesis file, instead of a new one."""
    parent: Slug | None = None
    """The city at which its checkpoints are anchored, instead of the plugin's."""
    peers: tuple[Slug, ...] | None = None
    """Which of ``[peers]`` it exchanges with; absent for all of them."""
    open: Opening | None = None
    """When it is opened; absent for what ``[server]`` says."""
    pacer: PacerSettings | None = None
    """What is absent here is as in ``[pacer]``."""
    limits: LimitsSettings | None = None
    """What is absent here is as in ``[limits]``."""
    archive: ArchiveSettings | None = None
    """What is absent here is as in ``[archive]``."""
    retention: KeepFor | None = None
    """How long transactions are kept here; absent for what ``retention`` says for all."""

    def over(self, city: CityDefinition) -> CityDefinition:
        """A city's definition with this table over it.

        Options go with the part that they are for: where this table chooses another
        part, the definition's options for the old one are dropped.
        """
        parts: dict[str, Any] = {}
        for part in ("storage", "dag", "consensus"):
            old = getattr(city, part)
            chosen = getattr(self, part) or old
            options = getattr(city, f"{part}_options") if chosen == old else {}
            parts[part] = chosen
            parts[f"{part}_options"] = {**options, **getattr(self, f"{part}_options")}
        return replace(
            city,
            titles={**city.titles, **self.titles},
            aliases=city.aliases if self.aliases is None else self.aliases,
            parent=self.parent or city.parent,
            **parts,
        )


class Settings(BaseSettings):
    """All settings. `load_settings` reads them; calling the class takes arguments alone."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    network: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = DEFAULT_NETWORK
    """Stands in every genesis, so that a test city is not taken for a real one."""
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    """Folder of everything that the server keeps, genesis files among it."""
    operator_key: Path = Path(DEFAULT_OPERATOR_KEY)
    """File of the server's key."""
    retention: KeepFor = DEFAULT_RETENTION
    """How long what transactions say is kept in a city's storage. After that it goes, once the
    archive is proven to have it; ``forever`` prunes nothing."""
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    rates: RatesSettings = RatesSettings()
    cluster: ClusterSettings = ClusterSettings()
    plugins: PluginsSettings = PluginsSettings()
    pacer: PacerSettings = PacerSettings()
    limits: LimitsSettings = LimitsSettings()
    crypto: CryptoSettings = CryptoSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    fragments: FragmentsSettings = FragmentsSettings()
    archive: ArchiveSettings = ArchiveSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    storage: dict[PartName, StorageSettings] = Field(default_factory=dict)
    cities: dict[Slug, CitySettings] = Field(default_factory=dict)
    peers: dict[Slug, PeerSettings] = Field(default_factory=dict)
    cities_from: tuple[Path, ...] = ()
    """TOML files with more ``[cities.SLUG]`` tables and nothing else; where a key is in several
    files, ``citychain.toml`` wins, then the first named. Paths in them are relative to
    ``citychain.toml``."""

    _sources: tuple[Source, ...] = PrivateAttr(default=())
    _file: Path | None = PrivateAttr(default=None)
    _imported: frozenset[str] = PrivateAttr(default=frozenset())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _complete_cities(cls, values: Any) -> Any:
        """Fill a city's tables of pacer, limits and archive from the general ones."""
        if not isinstance(values, dict) or not isinstance(values.get("cities"), dict):
            return values
        cities = {}
        for slug, city in values["cities"].items():
            if isinstance(city, dict):
                for table in ("pacer", "limits", "archive"):
                    general = values.get(table)
                    if isinstance(general, dict) and isinstance(city.get(table), dict):
                        city = {**city, table: {**general, **city[table]}}
            cities[slug] = city
        return {**values, "cities": cities}

    @property
    def sources(self) -> tuple[Source, ...]:
        """What was read from where, the first winning: for errors that name the place."""
        return self._sources

    @property
    def own_cities(self) -> tuple[str, ...]:
        """Slugs of the cities that are not from ``cities_from`` alone."""
        return tuple(slug for slug in self.cities if slug not in self._imported)

    @property
    def file(self) -> Path | None:
        """The configuration file, if there is one."""
        return self._file

    @property
    def folder(self) -> Path:
        """What paths in options are relative to: the folder of the configuration file, else the
        working directory."""
        return self._file.absolute().parent if self._file else Path()


def get_dynamic_batch_interval(pending: int, current: timedelta, pacer: PacerSettings) -> timedelta:
    """The interval after which the next round closes.

    Args:
        pending: Number of transactions that wait for a round.
        current: The present interval.
    """
    minimum = timedelta(seconds=pacer.min_seconds)
    maximum = timedelta(seconds=pacer.max_seconds)
    if pending > pacer.max_tx:
        return minimum
    if pending == 0:
        return min(current + PACER_STEP_UP, maximum)
    return max(current - PACER_STEP_DOWN, minimum)


def load_settings(
    config: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    **arguments: Any,
) -> Settings:
    """Read all sources.

    Args:
        config: The configuration file, instead of the one that is found.
        arguments: Keys of `Settings` that win over every source.

    Raises:
        ConfigurationError: a file cannot be read, or a key is unknown or wrong; one
            line for each, with its place and the nearest right key.
    """
    file = _find_file(config, environment)
    sources: tuple[Source, ...] = (
        Source(arguments, lambda key: ""),
        Source(read_environment(environment, Settings), variable),
        read_file(file, DEFAULTS) if file else Source({}, lambda key: ""),
    )
    values = _all_merged(sources)
    own = values.get("cities") or {}
    sources += read_cities(values.get("cities_from"), file)
    sources += read_mongodb(values.get("storage"), environment)
    values = _all_merged(sources)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings, sources)) from None
    settings._sources = sources
    settings._file = file
    settings._imported = frozenset(settings.cities.keys() - own.keys())
    return settings


# --- sources ------------------------------------------------------------------


def _find_file(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    if config is None and (named := environment.get(CONFIG_VARIABLE)):
        config = Path(named)
    if config is None:
        config = Path(DEFAULT_CONFIG_FILE)
        if not config.exists():
            return None
    return config


def _all_merged(sources: Sequence[Source]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for source in reversed(sources):
        values = _merged(values, source.values)
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merged(old, value)
        merged[key] = value
    return merged
