"""Finds plugins, keeps the broken ones out, and says why.

Built-in parts and installed plugins take the same path: they are registered with
pluggy, each hook that lists something is called once, and what it returns is
checked. Whatever fails on that path concerns one plugin: it is left out whole,
its `PluginRecord` says why, and the others go on.

Two plugins that offer the same city, part or command contradict each other, and
an installation's order must not decide between them. The rule: **both are left
out whole**, and their records name each other. Against a part of citychain
itself the plugin alone is left out, so that no installation can take the
built-in parts away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final, TypeVar

import pluggy
from packaging.utils import canonicalize_name

from citychain.city.names import normalise
from citychain.errors import ConfigurationError, PluginError
from citychain.hooks import specs
from citychain.hooks.checks import KINDS, SLUG, check_city
from citychain.hooks.definitions import (
    CityDefinition,
    CommandDefinition,
    ConsensusDefinition,
    DagDefinition,
    FragmentStoreDefinition,
    StorageDefinition,
)
from citychain.hooks.loading import LOAD_SECONDS, guarded
from citychain.hooks.plugin import BUILTIN, Plugin, PluginRecord, load, load_builtin, record_of
from citychain.nearest import did_you_mean
from citychain.ports import StoredRound
from citychain.types import SealedRound

__all__ = [
    "ENTRY_POINT_GROUP",
    "PluginRecord",
    "Registry",
    "claim_of",
    "load_plugins",
    "not_wanted",
]

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP: Final = "citychain"
FOUND_MAX: Final = 4096
"""Cities of catalogues that are remembered."""

T = TypeVar("T")


class Registry:
    """All that the active plugins offer. Made by `load_plugins`; never changes."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        plugins: Sequence[Plugin],
        contested: Mapping[tuple[str, str], str],
    ) -> None:
        self._hook = manager.hook
        self._plugins = {plugin.key: plugin for plugin in plugins}
        self._found: dict[str, tuple[CityDefinition, str]] = {}

        self.contested: Mapping[tuple[str, str], str] = MappingProxyType(dict(contested))
        """Why nobody has a name that several plugins claim, by kind and name."""
        self.records: tuple[PluginRecord, ...] = tuple(plugin.record for plugin in plugins)
        """In the order of loading: built-in modules, then by distribution and name."""
        self.cities: Mapping[str, CityDefinition] = self._by_name(
            "citychain_cities", lambda city: city.slug
        )
        """Listed cities by slug; those of catalogues come from `find_city`."""
        self.storage_backends: Mapping[str, StorageDefinition] = self._by_name(
            "citychain_storage_backends", lambda backend: backend.name
        )
        self.dag_handlers: Mapping[str, DagDefinition] = self._by_name(
            "citychain_dag_handlers", lambda handler: handler.name
        )
        self.consensus_steps: Mapping[str, ConsensusDefinition] = self._by_name(
            "citychain_consensus_steps", lambda step: step.name
        )
        self.fragment_stores: Mapping[str, FragmentStoreDefinition] = self._by_name(
            "citychain_fragment_stores", lambda store: store.name
        )
        self.commands: Mapping[str, CommandDefinition] = self._by_name(
            "citychain_commands", lambda command: command.name
        )
        self.sources: Mapping[str, str] = MappingProxyType(
            {
                city.slug: plugin.record.distribution
                for plugin in plugins
                for city in plugin.offers.get("citychain_cities", ())
            }
        )
        """The distribution that lists a city, by slug."""

    def _by_name(self, hook: str, name: Callable[[Any], str]) -> Mapping[str, Any]:
        return MappingProxyType({name(offer): offer for offer in self._offers(hook)})

    def _offers(self, hook: str) -> list[Any]:
        return [o for plugin in self._plugins.values() for o in plugin.offers.get(hook, ())]

    def owners(self) -> dict[tuple[str, str], str]:
        """Who has each name, by kind and name: a plugin's key, or why nobody has it."""
        plugins = self._plugins.values()
        return {
            **{claim: plugin.key for plugin in plugins for claim in _claims(plugin)},
            **self.contested,
        }

    # Parts by name

    def storage_backend(self, name: str) -> StorageDefinition:
        """The storage backend of this name.

        Raises:
            ConfigurationError: there is none; the message lists those that there are.
            PluginError: several plugins claim the name, so that none has it.
        """
        return self._part("storage backend", self.storage_backends, name)

    def dag_handler(self, name: str) -> DagDefinition:
        """The DAG handler of this name; raises as `storage_backend` does."""
        return self._part("DAG handler", self.dag_handlers, name)

    def consensus_step(self, name: str) -> ConsensusDefinition:
        """The consensus step of this name; raises as `storage_backend` does."""
        return self._part("consensus step", self.consensus_steps, name)

    def fragment_store(self, name: str) -> FragmentStoreDefinition:
        """The kind of fragment store of this name; raises as `storage_backend` does."""
        return self._part("fragment store", self.fragment_stores, name)

    def _part(self, kind: str, parts: Mapping[str, T], name: str) -> T:
        if reason := self.contested.get((kind, name)):
            raise PluginError(reason)
        if name not in parts:
            known = ", ".join(sorted(parts)) or "none"
            raise ConfigurationError(
                f"no {kind} {name!r}; known: {known}{did_you_mean(name, parts)}{self._without}"
            )
        return parts[name]

    @property
    def _without(self) -> str:
        """Who may have what is missed."""
        broken = [
            key
            for key, plugin in self._plugins.items()
            if plugin.record.status in ("failed", "conflict")
        ]
        if not broken:
            return ""
        return f"; left out: {', '.join(broken)} (`citychain plugins` says why)"

    def interceptors(self) -> tuple[Any, ...]:
        """Interceptors (`grpc.aio.ServerInterceptor`) of all plugins, outermost first."""
        return tuple(self._offers("citychain_interceptors"))

    # Cities

    def find_city(self, name: str) -> CityDefinition | None:
        """The city of this slug, or the one that a catalogue knows by this name.

        Aliases of listed cities are not looked at: see `citychain.city.names`.
        May block while a catalogue reads its data; call it in a worker thread.

        Raises:
            InvalidRequest: the name is malformed.
            PluginError: several plugins list a city of this slug, so that none has it.
        """
        found = self._find(normalise(name))
        return found[0] if found else None

    def source_of(self, slug: str) -> str | None:
        """The distribution that offers the city of this slug, if one does."""
        found = self._find(normalise(slug))
        return found[1] if found else None

    def _find(self, name: str) -> tuple[CityDefinition, str] | None:
        if name not in self._found:
            # A slug goes before any other name, so that it means the same for everybody.
            found = self._owner(name) or self._search(name)
            if found is None:
                return None
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[name] = found
            return found
        return self._found[name]

    def _owner(self, slug: str) -> tuple[CityDefinition, str] | None:
        """The city that owns a slug, and its distribution."""
        if reason := self.contested.get(("city", slug)):
            raise PluginError(reason)
        if slug in self.cities:
            return self.cities[slug], self.sources[slug]
        if not SLUG.fullmatch(slug):
            return None
        for catalogue in _in_order(self._hook.citychain_find_city):
            city = self._ask(catalogue, slug)
            if city is not None and city.slug == slug:
                return city, self._distribution(catalogue)
        return None

    def _search(self, name: str) -> tuple[CityDefinition, str] | None:
        """The first catalogue's city of this name that is not its slug."""
        for catalogue in _in_order(self._hook.citychain_find_city):
            city = self._ask(catalogue, name)
            if city is None:
                continue
            owner = self._owner(city.slug)
            if owner is not None and owner[1] == self._distribution(catalogue):
                return owner
            log.error(
                "plugin %s: it knows %r as %s, but that slug is %s; it must answer its own slugs",
                catalogue.plugin_name,
                name,
                city.slug,
                f"known to {owner[1]}" if owner else "unknown to it",
            )
        return None

    def _ask(self, catalogue: pluggy.HookImpl, name: str) -> CityDefinition | None:
        try:
            with guarded("citychain_find_city"):
                answer = _call(catalogue, name=name)
            return None if answer is None else check_city("citychain_find_city", answer)
        except PluginError as error:
            log.error("plugin %s: %s", catalogue.plugin_name, error, exc_info=error.__cause__)
            return None

    def _distribution(self, implementation: pluggy.HookImpl) -> str:
        return self._plugins[implementation.plugin_name].record.distribution

    # Events

    def has_listeners(self, hook: str) -> bool:
        """Whether any plugin listens to ``citychain_round_sealed`` or ``..._approved``."""
        return bool(getattr(self._hook, hook).get_hookimpls())

    def round_sealed(self, city: str, sealed: SealedRound) -> None:
        """Tell listeners that a round was committed. Blocks: call it in a worker thread."""
        self._tell(self._hook.citychain_round_sealed, city=city, sealed=sealed)

    def round_approved(self, city: str, approved: StoredRound) -> None:
        """Tell listeners that a round has its certificate. Blocks: as `round_sealed`."""
        self._tell(self._hook.citychain_round_approved, city=city, approved=approved)

    def _tell(self, hook: pluggy.HookCaller, **arguments: object) -> None:
        for listener in _in_order(hook):
            try:
                with guarded(hook.name):
                    _call(listener, **arguments)
            except PluginError as error:
                log.error("plugin %s: %s", listener.plugin_name, error, exc_info=error.__cause__)


def load_plugins(
    *,
    builtin: Iterable[object] = (),
    allow: Collection[str] | None = None,
    disabled: Collection[str] = (),
    entry_points: Iterable[metadata.EntryPoint] | None = None,
    load_seconds: float = LOAD_SECONDS,
) -> Registry:
    """Register built-in parts and all installed plugins.

    Never raises for a plugin's sake: its record says what is wrong with it.

    Args:
        builtin: Modules of citychain itself with hook implementations.
        allow: Entry point or distribution names that may be loaded; ``None`` for all.
        disabled: Entry point or distribution names that are not loaded, nor imported.
        entry_points: Instead of those of the installed distributions.
        load_seconds: For the import and the hooks of each plugin; one that takes longer is
            left out.
    """
    manager = pluggy.PluginManager("citychain")
    manager.add_hookspecs(specs)
    plugins = [load_builtin(manager, part) for part in builtin]
    if entry_points is None:
        entry_points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    # Not pluggy's own loader: it drops the second entry point of a name and stops at
    # the first that fails.
    found = [(record_of(entry), entry) for entry in entry_points]
    found.sort(key=lambda pair: (canonicalize_name(pair[0].distribution), pair[0].name))
    _warn_of_unknown("allow", allow or (), [record for record, _ in found])
    _warn_of_unknown("disabled", disabled, [record for record, _ in found])
    reasons = [not_wanted(record, allow, disabled) for record, _ in found]
    loaded = iter(
        load(
            manager,
            [pair for pair, reason in zip(found, reasons, strict=True) if not reason],
            load_seconds,
        )
    )
    plugins += [
        Plugin(record).left_out("disabled", reason) if reason else next(loaded)
        for (record, _), reason in zip(found, reasons, strict=True)
    ]
    plugins, contested = _settle_conflicts(plugins)
    plugins = [_register(manager, plugin) for plugin in plugins]
    return Registry(manager, plugins, contested)


def not_wanted(
    record: PluginRecord, allow: Collection[str] | None, disabled: Collection[str]
) -> str:
    """Why the configuration leaves a plugin out; empty if it does not."""
    if _matches(record, disabled):
        return "it is in plugins.disabled"
    if allow is not None and not _matches(record, allow):
        return "it is not in plugins.allow"
    return ""


def _matches(record: PluginRecord, names: Iterable[str]) -> bool:
    distribution = canonicalize_name(record.distribution)
    return any(name == record.name or canonicalize_name(name) == distribution for name in names)


def _warn_of_unknown(setting: str, names: Iterable[str], records: list[PluginRecord]) -> None:
    known = {name for record in records for name in (record.name, record.distribution)}
    for name in names:
        if not any(_matches(record, [name]) for record in records):
            hint = did_you_mean(name, known)
            log.warning("plugins.%s: no plugin %r is installed%s", setting, name, hint)


def _register(manager: pluggy.PluginManager, plugin: Plugin) -> Plugin:
    if plugin.record.status != "active":
        return plugin
    try:
        with guarded("its registration"):
            manager.register(plugin.module, plugin.key)
    except PluginError as error:
        return plugin.left_out("failed", str(error), error.__cause__)
    return plugin


def claim_of(hook: str, offer: Any) -> tuple[str, str] | None:
    """Kind and name that an offer claims, which no other may; ``None`` if it claims none."""
    if hook == "citychain_interceptors":
        return None
    return KINDS[hook], offer.slug if hook == "citychain_cities" else offer.name


def _claims(plugin: Plugin) -> Iterator[tuple[str, str]]:
    for hook, offered in plugin.offers.items():
        for offer in offered:
            if (claim := claim_of(hook, offer)) is not None:
                yield claim


def _settle_conflicts(
    plugins: list[Plugin],
) -> tuple[list[Plugin], dict[tuple[str, str], str]]:
    """Leave out whoever claims what another claims; say which names nobody has now."""
    claims: dict[tuple[str, str], list[Plugin]] = {}
    for plugin in plugins:
        for claim in _claims(plugin):
            claims.setdefault(claim, []).append(plugin)
    losers: dict[str, str] = {}
    contested: dict[tuple[str, str], str] = {}
    for (kind, name), claimants in claims.items():
        if len(claimants) == 1:
            continue
        keys = list(dict.fromkeys(plugin.key for plugin in claimants))
        reason = f"{kind} {name!r} is offered by {' and '.join(keys)}; disable one of them"
        if len(keys) == 1:
            reason = f"{kind} {name!r} is offered twice by {keys[0]}; mend or disable it"
        outside = [plugin for plugin in claimants if plugin.record.distribution != BUILTIN]
        for plugin in outside:
            losers.setdefault(plugin.key, reason)
        if outside == claimants:
            contested[kind, name] = reason
    settled = [
        plugin.left_out("conflict", losers[plugin.key]) if plugin.key in losers else plugin
        for plugin in plugins
    ]
    return settled, contested


def _in_order(hook: pluggy.HookCaller) -> list[pluggy.HookImpl]:
    """Implementations in the order of calling: ``tryfirst``, as registered, ``trylast``."""
    implementations = hook.get_hookimpls()
    return (
        [i for i in implementations if i.tryfirst]
        + [i for i in implementations if not (i.tryfirst or i.trylast)]
        + [i for i in implementations if i.trylast]
    )


def _call(implementation: pluggy.HookImpl, **arguments: object) -> Any:
    """Call one implementation with those arguments that it names, as pluggy does.

    By itself rather than through its hook, so that its failure is known to be its own.
    """
    return implementation.function(*(arguments[name] for name in implementation.argnames))
