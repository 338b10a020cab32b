"""One plugin under way: imported, checked, asked what it offers; or left out, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any, Final, Literal

import pluggy

from citychain.errors import PluginError
from citychain.hooks.checks import KINDS, check_functions, check_requirements, offers
from citychain.hooks.loading import Overdue, Steps, Work, guarded, run_in_turn

__all__ = ["BUILTIN", "Plugin", "PluginRecord", "load", "load_builtin", "package_of", "record_of"]

log = logging.getLogger(__name__)

BUILTIN: Final = "citychain"
"""The distribution that built-in parts belong to."""

Status = Literal["active", "disabled", "failed", "conflict"]


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What became of one entry point, or of one built-in module."""

    name: str
    """The entry point's name, or the module's."""
    distribution: str
    version: str
    status: Status
    hooks: tuple[str, ...] = ()
    """The hooks that it implements, as far as it was looked at."""
    reason: str = ""
    """Why it is not active, and what to do."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin under way: its record so far, the module, and what it offers by hook."""

    record: PluginRecord
    module: object = None
    offers: Mapping[str, list[Any]] = field(default_factory=dict)

    def left_out(self, status: Status, reason: str, cause: BaseException | None = None) -> Plugin:
        """The plugin without anything that it offers; the log is told why."""
        if status != "disabled":
            log.error("plugin %s is left out: %s", self.key, reason, exc_info=cause)
        return Plugin(replace(self.record, status=status, reason=reason))

    @property
    def key(self) -> str:
        """Unique among plugins: two distributions may use one entry point name."""
        return f"{self.record.distribution}:{self.record.name}"


def load_builtin(manager: pluggy.PluginManager, part: object) -> Plugin:
    """Check a module of citychain itself, and ask what it offers."""
    name = str(getattr(part, "__name__", type(part).__name__))
    try:
        version = metadata.version(BUILTIN)
    except metadata.PackageNotFoundError:
        version = ""
    plugin = _Examined(manager, PluginRecord(name, BUILTIN, version, "active"), part)
    try:
        plugin.examine(Steps())
    except PluginError as error:
        plugin.failure = error
    return plugin.result()


def record_of(entry: metadata.EntryPoint) -> PluginRecord:
    """The record of an entry point that nothing is known of yet."""
    if entry.dist is None:
        return PluginRecord(entry.name, "", "", "active")
    return PluginRecord(entry.name, entry.dist.name, entry.dist.version, "active")


def load(
    manager: pluggy.PluginManager,
    entries: Sequence[tuple[PluginRecord, metadata.EntryPoint]],
    seconds: float,
) -> list[Plugin]:
    """Import plugins, check them, and ask what they offer, each within a time."""
    version_of = cache(metadata.version)
    plugins = [_Examined(manager, record, entry) for record, entry in entries]
    works = []
    for plugin, (_, entry) in zip(plugins, entries, strict=True):
        try:
            if entry.dist is not None:
                with guarded("reading its requirements"):
                    check_requirements(entry.dist, entry.extras, version_of)
        except PluginError as error:
            # What does not have what it requires is not even imported.
            plugin.failure = error
        else:
            works.append(Work(plugin.examine, package_of(entry)))
    outcomes = iter(run_in_turn(works, seconds))
    for plugin in plugins:
        plugin.failure = plugin.failure or next(outcomes)
    return [plugin.result() for plugin in plugins]


def package_of(entry: metadata.EntryPoint) -> str:
    """The top-level package that an entry point names."""
    return entry.module.partition(".")[0]


class _Examined:
    """What is known of a plugin; filled step by step, so that a failure leaves what it found."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        record: PluginRecord,
        part: metadata.EntryPoint | object,
    ) -> None:
        self.failure: BaseException | None = None
        self._manager = manager
        self._record = record
        self._part = part
        self._hooks: tuple[str, ...] = ()
        self._offers: dict[str, list[Any]] = {}

    def examine(self, steps: Steps) -> None:
        """Runs the plugin's code; touches nothing else, since it may be left behind."""
        if isinstance(self._part, metadata.EntryPoint):
            with steps.step("its import"):
                self._part = self._part.load()
        with steps.step("reading its functions"):
            functions = check_functions(self._manager, self._part)
        self._hooks = tuple(dict.fromkeys(hook for hook, _ in functions))
        for hook, function in functions:
            if hook in KINDS:
                with steps.step(hook):
                    self._offers.setdefault(hook, []).extend(offers(hook, function))

    def result(self) -> Plugin:
        """The plugin with all that it offers, or left out."""
        record = replace(self._record, hooks=self._hooks)
        if self.failure is None:
            return Plugin(record, self._part, self._offers)
        reason = str(self.failure)
        if isinstance(self.failure, Overdue):
            reason += "; mend it there, raise plugins.load_seconds, or disable the plugin"
        return Plugin(record).left_out("failed", reason, self.failure.__cause__)
