"""The object that an entry point names: its functions, and what they yield."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, NamedTuple

import pluggy

from citychain.cli.doctor.attempts import Attempts, Unusable
from citychain.cli.doctor.findings import Finding
from citychain.hooks import specs
from citychain.hooks.checks import (
    KINDS,
    Fault,
    HookFunction,
    descriptor_faults,
    hook_functions,
    listed,
    module_faults,
    unknown_hook,
)
from citychain.hooks.definitions import API_VERSION
from citychain.hooks.loading import is_within
from citychain.hooks.versions import OLDEST_VERSION

__all__ = ["Offer", "plugin_findings"]

UNKNOWN: Final = "no-city-has-this-name-for-certain"
"""What a catalogue is asked for."""
HOOKS: Final = sorted(name for name in vars(specs) if name.startswith("citychain_"))
FUNCTIONS: Final = FunctionType | BuiltinFunctionType | MethodType | staticmethod | classmethod


class Offer(NamedTuple):
    """Something sound that a plugin offers."""

    hook: str
    descriptor: Any
    where: str
    """The line of the hook."""


def plugin_findings(
    plugin: object, where: str, attempt: Attempts
) -> tuple[list[Finding], list[Offer]]:
    """What is wrong with a plugin's functions and their answers, and what it soundly offers."""
    findings = [Finding.of(fault, where) for fault in module_faults(plugin)]
    if isinstance(plugin, type):
        # What it means to offer may be wrong too.
        try:
            plugin = attempt("class", where, f"making a {plugin.__name__}", plugin)
        except Unusable:
            return findings, []
    manager = pluggy.PluginManager("citychain")
    manager.add_hookspecs(specs)

    def read() -> tuple[list[HookFunction], list[Finding]]:
        functions = list(hook_functions(manager, plugin))
        marked = {it.function for it in functions}
        return functions, list(_unmarked(plugin, marked, attempt.package))

    try:
        functions, unmarked = attempt("import-failed", where, "reading its functions", read)
    except Unusable as unusable:
        return [*findings, unusable.finding], []
    findings += unmarked
    if not (functions or unmarked):
        fix = "write a function for a hook (docs/hooks.md) and mark it with @hookimpl"
        findings.append(Finding("no-hooks", where, "it offers nothing", fix))
    offers: list[Offer] = []
    for function in functions:
        place = _line_of_function(function.function) or where
        findings += [Finding.of(fault, place) for fault in function.faults]
        if not function.faults:
            try:
                ask = partial(_ask, function, place, offers)
                findings += attempt("hook-failed", place, function.hook, ask)
            except Unusable as unusable:
                findings.append(unusable.finding)
    return findings, offers


def _unmarked(plugin: object, marked: set[Callable[..., Any]], package: str) -> Iterator[Finding]:
    """Functions that are called like hooks and are none."""
    for name in dir(plugin):
        # Properties are not asked: what they do is none of our business.
        if not name.startswith("citychain_") or not isinstance(
            inspect.getattr_static(plugin, name, None), FUNCTIONS
        ):
            continue
        function = getattr(plugin, name, None)
        if function not in marked and is_within(getattr(function, "__module__", None), package):
            fix = "mark it with @hookimpl"
            if name not in HOOKS:
                fix += f", and rename it: {unknown_hook(name, HOOKS)}"
            what = f"{name} is not marked, so it is never called"
            yield Finding("unmarked-hook", _line_of_function(function), what, fix)


def _line_of_function(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _ask(function: HookFunction, where: str, offers: list[Offer]) -> list[Finding]:
    """Call a hook; add what is sound to ``offers``."""
    hook = function.hook
    if hook == "citychain_find_city":
        answer = function.function(
            *([UNKNOWN] if "name" in inspect.signature(function.function).parameters else [])
        )
        if answer is None:
            return []
        return [Finding.of(fault, where) for fault in descriptor_faults("citychain_cities", answer)]
    if hook not in KINDS:
        return []  # It is told of rounds; there is none.
    answer = listed(hook, function.function())
    if isinstance(answer, Fault):
        return [Finding.of(answer, where)]
    findings = []
    for descriptor in answer:
        faults = list(descriptor_faults(hook, descriptor))
        findings += [Finding.of(fault, where) for fault in faults]
        if not faults:
            offers.append(Offer(hook, descriptor, where))
            findings += _old(hook, descriptor, where)
    return findings


def _old(hook: str, descriptor: Any, where: str) -> Iterator[Finding]:
    version = getattr(descriptor, "api_version", API_VERSION)
    if OLDEST_VERSION <= version < API_VERSION:
        yield Finding(
            "api-version-old",
            where,
            f"{hook}: {descriptor.name} is of api_version {version}, as what does not say is of 1",
            f"read docs/compatibility.md and write api_version={API_VERSION}",
        )
