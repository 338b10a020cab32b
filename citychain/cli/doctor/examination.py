"""The whole of it: one distribution, from the outside in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata
from typing import Final

from packaging.utils import canonicalize_name

from citychain.cli.doctor.attempts import Attempts, Unusable
from citychain.cli.doctor.distribution import (
    distribution_findings,
    find_distribution,
    not_installed,
    plugins_of,
)
from citychain.cli.doctor.findings import Finding
from citychain.cli.doctor.module import Offer, plugin_findings
from citychain.cli.doctor.names import name_findings
from citychain.cli.doctor.options import options_findings
from citychain.cli.doctor.store_trial import STORES
from citychain.cli.doctor.trials import PARTS, Sound, trial_findings
from citychain.config import PluginsSettings
from citychain.containers import BUILTIN
from citychain.hooks.plugin import package_of, record_of
from citychain.hooks.registry import ENTRY_POINT_GROUP, Registry, load_plugins, not_wanted

__all__ = ["examine"]

OURS: Final = "citychain"


def examine(name: str, settings: PluginsSettings) -> list[Finding]:
    """All that is wrong with the distribution of this name, in the order of looking."""
    distribution = find_distribution(name)
    if distribution is None:
        return [not_installed(name)]
    found = list(_findings(distribution, settings))
    return list(dict.fromkeys(found))


def _findings(distribution: metadata.Distribution, settings: PluginsSettings) -> Iterator[Finding]:
    load = _Beside(distribution, settings)
    offers: list[tuple[Offer, Attempts]] = []
    plugins: list[tuple[str, str, Callable[[], object]]] = []
    if load.ours:
        for module in BUILTIN:
            package = module.__name__.rpartition(".")[0]
            plugins.append((module.__name__, package, partial(_given, module)))
    else:
        entries = plugins_of(distribution)
        yield from distribution_findings(distribution, entries)
        yield from _disabled(distribution, entries, settings)
        for entry in entries:
            where = f"{distribution.name}: entry point {entry.name}"
            plugins.append((where, package_of(entry), entry.load))
    for where, package, imported in plugins:
        attempt = Attempts(package, settings.load_seconds)
        try:
            plugin = attempt("import-failed", where, "its import", imported)
        except Unusable as unusable:
            yield unusable.finding
            continue
        findings, offered = plugin_findings(plugin, where, attempt)
        yield from findings
        offers += [(offer, attempt) for offer in offered]
    yield from name_findings([offer for offer, _ in offers], load())
    for offer, _ in offers:
        if offer.hook in (*PARTS, STORES):
            yield from options_findings(offer.descriptor)
    sound = Sound(offer for offer, _ in offers)
    yield from trial_findings(offers, sound, alone=load.alone(sound), beside=load(sound))


def _given(module: object) -> object:
    return module


class _Beside:
    """All that is installed besides, as a server with this configuration has it."""

    def __init__(self, distribution: metadata.Distribution, settings: PluginsSettings) -> None:
        name = canonicalize_name(distribution.name)
        self.ours = name == OURS
        self._settings = settings
        self._entries = [
            entry
            for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)
            if entry.dist is None or canonicalize_name(entry.dist.name) != name
        ]

        self._builtin = () if self.ours else BUILTIN

    def __call__(self, *more: object) -> Registry:
        """Load it, and these as parts of citychain's own."""
        return load_plugins(
            builtin=[*self._builtin, *more],
            entry_points=self._entries,
            **self._settings.model_dump(),
        )

    def alone(self, more: object) -> Registry:
        """This, and what is built in."""
        return load_plugins(builtin=[*self._builtin, more], entry_points=())


def _disabled(
    distribution: metadata.Distribution,
    entries: Iterable[metadata.EntryPoint],
    settings: PluginsSettings,
) -> Iterator[Finding]:
    for entry in entries:
        record = record_of(entry)
        if reason := not_wanted(record, settings.allow, settings.disabled):
            yield Finding(
                "disabled",
                f"{distribution.name}: entry point {entry.name}",
                f"a server with this configuration does not load it: {reason}",
                "change [plugins] in citychain.toml",
            )
