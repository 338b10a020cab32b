"""What can be wrong with one plugin: its distribution, its functions, what they return.

Every check finds `Fault` after fault, each with its fix in plain words. Loading a plugin stops at
the first, as a `PluginError`; `citychain plugins doctor` tells them all.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from itertools import islice
from typing import Any, Final, NamedTuple

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from citychain.city.names import normalise
from citychain.errors import InvalidRequest, PluginError
from citychain.hooks.definitions import (
    API_VERSION,
    CityDefinition,
    CommandDefinition,
    ConsensusDefinition,
    DagDefinition,
    Disc,
    FragmentStoreDefinition,
    StorageDefinition,
)
from citychain.hooks.loading import guarded
from citychain.hooks.versions import OLDEST_VERSION, adapted
from citychain.nearest import did_you_mean

__all__ = [
    "KINDS",
    "Fault",
    "HookFunction",
    "check_city",
    "check_functions",
    "check_requirements",
    "descriptor_faults",
    "hook_functions",
    "listed",
    "module_faults",
    "offers",
    "requirement_faults",
]

OFFERS_MAX: Final = 100_000
"""Descriptors that one hook of one plugin may yield."""

NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")

KINDS: Final[Mapping[str, str]] = {
    "citychain_cities": "city",
    "citychain_storage_backends": "storage backend",
    "citychain_dag_handlers": "DAG handler",
    "citychain_consensus_steps": "consensus step",
    "citychain_fragment_stores": "fragment store",
    "citychain_commands": "command",
    "citychain_interceptors": "interceptor",
}
"""The hooks that list something, and what."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    code: str
    """Its row in docs/plugins.md."""
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}"


def _stop_at_first(faults: Iterable[Fault]) -> None:
    for fault in faults:
        raise PluginError(str(fault))


# --- the distribution


def check_requirements(
    distribution: metadata.Distribution,
    extras: Iterable[str] = (),
    version_of: Callable[[str], str] = metadata.version,
) -> None:
    """Check that what a distribution requires is installed, in a fitting version.

    Args:
        extras: Extras of the distribution that are wanted as well.
        version_of: For many checks one that remembers: reading a version takes milliseconds.
    """
    _stop_at_first(requirement_faults(distribution, extras, version_of))


def requirement_faults(
    distribution: metadata.Distribution,
    extras: Iterable[str] = (),
    version_of: Callable[[str], str] = metadata.version,
) -> Iterator[Fault]:
    """See `check_requirements`."""
    return _requirement_faults(distribution, extras, version_of, set())


def _requirement_faults(
    distribution: metadata.Distribution,
    extras: Iterable[str],
    version_of: Callable[[str], str],
    seen: set[tuple[str, str]],
) -> Iterator[Fault]:
    """``seen``: distributions and their extras that were looked at, since two may require
    each other's."""
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield Fault(
                "malformed-requirement",
                f"its metadata has the malformed requirement {text!r}",
                "reinstall the plugin",
            )
            continue
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        requirement.marker = None
        fix = f"run: pip install '{requirement}'"
        try:
            version = version_of(requirement.name)
        except metadata.PackageNotFoundError:
            what = f"it requires {requirement}, which is not installed"
            yield Fault("missing-requirement", what, fix)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            what = f"it requires {requirement}, but {version} is installed"
            yield Fault("unfit-requirement", what, fix)
        asked = {(canonicalize_name(requirement.name), extra) for extra in requirement.extras}
        if not asked <= seen:
            seen |= asked
            required = metadata.distribution(requirement.name)
            yield from _requirement_faults(required, requirement.extras, version_of, seen)


# --- its functions


class HookFunction(NamedTuple):
    """A function that is marked ``@hookimpl``."""

    hook: str
    function: Callable[..., Any]
    faults: tuple[Fault, ...]


def check_functions(
    manager: pluggy.PluginManager, plugin: object
) -> list[tuple[str, Callable[..., Any]]]:
    """Check a plugin's functions that are marked ``@hookimpl``; return them with their hooks."""
    _stop_at_first(module_faults(plugin))
    functions = []
    for hook, function, faults in hook_functions(manager, plugin):
        _stop_at_first(faults)
        functions.append((hook, function))
    if not functions:
        raise PluginError("it offers nothing: mark its hook functions with @hookimpl")
    return functions


def module_faults(plugin: object) -> Iterator[Fault]:
    """What is wrong with the object that an entry point names."""
    if isinstance(plugin, type):
        yield Fault(
            "class",
            f"its entry point names the class {plugin.__name__}",
            "name a module or an instance",
        )


def hook_functions(manager: pluggy.PluginManager, plugin: object) -> Iterator[HookFunction]:
    """The functions of a plugin that are marked, and what is wrong with each."""
    for attribute in dir(plugin):
        marked = manager.parse_hookimpl_opts(plugin, attribute)
        if marked is None:
            continue
        hook = marked.get("specname") or attribute
        function = getattr(plugin, attribute)
        caller = getattr(manager.hook, hook, None)
        if caller is None or caller.spec is None:
            if not marked["optionalhook"]:
                known = [name for name in vars(manager.hook) if name.startswith("citychain_")]
                yield HookFunction(hook, function, (unknown_hook(hook, known),))
            continue
        faults = list(_signature_faults(hook, function, caller.spec.argnames))
        if marked["wrapper"] or marked["hookwrapper"]:
            what = f"{hook} wraps other plugins, which no hook of citychain allows"
            faults.append(Fault("wrapper", what, "mark it with a plain @hookimpl"))
        yield HookFunction(hook, function, tuple(faults))


def unknown_hook(hook: str, known: Iterable[str]) -> Fault:
    """That no hook has this name."""
    hint = did_you_mean(hook, known).removeprefix("; ")
    return Fault("misspelt-hook", f"there is no hook {hook}", hint or "see docs/hooks.md")


def _signature_faults(
    hook: str, function: Callable[..., Any], given: Iterable[str]
) -> Iterator[Fault]:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        what = f"{hook} is async, and hooks are called at start-up"
        yield Fault("async-hook", what, "write a plain def")
    wanted = {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if unknown := sorted(wanted.difference(given)):
        yield Fault(
            "hook-signature",
            f"{hook} takes {', '.join(unknown)}, which it is not given",
            f"write: def {hook}({', '.join(given)})",
        )


# --- what they return


def offers(hook: str, function: Callable[[], Any]) -> list[Any]:
    """Call a hook that lists something; return the checked descriptors, of the present version."""
    with guarded(hook):
        answer = listed(hook, function())
        if isinstance(answer, Fault):
            raise PluginError(str(answer))
        for descriptor in answer:
            _stop_at_first(descriptor_faults(hook, descriptor))
    return [adapted(offer) for offer in answer] if hook in _PARTS else answer


def listed(hook: str, answer: object) -> list[Any] | Fault:
    """All that a hook yielded, or what is wrong with its answer as a whole."""
    if not isinstance(answer, Iterable) or isinstance(answer, str):
        what = f"{hook} returned a {type(answer).__name__}"
        return Fault("not-a-list", what, f"yield each {KINDS[hook]} instead")
    descriptors = list(islice(answer, OFFERS_MAX + 1))
    if len(descriptors) > OFFERS_MAX:
        what = f"{hook} yielded more than {OFFERS_MAX}"
        return Fault("too-many", what, "answer citychain_find_city instead")
    return descriptors


def check_city(hook: str, descriptor: object) -> CityDefinition:
    """Check a city's descriptor and return it."""
    _stop_at_first(_city_faults(hook, descriptor))
    assert isinstance(descriptor, CityDefinition)
    return descriptor


def descriptor_faults(hook: str, descriptor: object) -> Iterator[Fault]:
    """What is wrong with one thing that a hook yielded."""
    return _FAULTS[hook](hook, descriptor)


def _city_faults(hook: str, city: object) -> Iterator[Fault]:
    if not isinstance(city, CityDefinition):
        yield _of_another_type(hook, city, CityDefinition)
        return
    if not (isinstance(city.slug, str) and SLUG.fullmatch(city.slug)):
        yield Fault(
            "slug",
            f"{hook}: {city.slug!r} is not a slug",
            "write 1 to 63 of a-z, 0-9 and '-', starting with a letter",
        )
    what = f"{hook}: city {city.slug}"
    if isinstance(city.titles, Mapping):
        names = [*city.titles, *city.titles.values()]
    else:
        names = []
        yield Fault(
            "city-field", f"{what}: titles is not a mapping", "map a language tag to a title"
        )
    if isinstance(city.aliases, tuple):
        names.extend(city.aliases)
    else:
        fix = "write a tuple of strings, such as ('金沢',)"
        yield Fault("city-field", f"{what}: aliases is not a tuple", fix)
    for name in names:
        where = f"{what}: {name!r} in titles or aliases"
        if not isinstance(name, str):
            yield Fault("city-field", f"{where} is not a string", "write a string")
            continue
        try:
            normalise(name)
        except InvalidRequest as error:
            yield Fault("city-field", f"{where}: {error.detail}", "leave it out or mend it")
    if not (city.region is None or isinstance(city.region, Disc)):
        yield Fault("city-field", f"{what}: region is not a Disc", "write a Disc or None")
    if not (city.parent is None or isinstance(city.parent, str)):
        yield Fault("city-field", f"{what}: parent is not a slug", "write a slug or None")
    for part in ("storage", "dag", "consensus"):
        if not isinstance(getattr(city, part), str):
            yield Fault("city-field", f"{what}: {part} is not a name", "write the name of a part")
        if not isinstance(getattr(city, f"{part}_options"), Mapping):
            fix = "map option names to values"
            yield Fault("city-field", f"{what}: {part}_options is not a mapping", fix)


def _part_faults(hook: str, part: Any) -> Iterator[Fault]:
    if not isinstance(part, _PARTS[hook]):
        yield _of_another_type(hook, part, _PARTS[hook])
        return
    yield from _name_faults(hook, part.name)
    what = f"{hook}: {part.name}"
    known = range(OLDEST_VERSION, API_VERSION + 1)
    if not isinstance(part.api_version, int) or part.api_version not in known:
        yield Fault(
            "api-version",
            f"{what}: made for api_version {part.api_version}, and this citychain has "
            f"{OLDEST_VERSION} to {API_VERSION}",
            "install matching versions of both",
        )
    if not isinstance(version := getattr(part, "version", 1), int) or version < 1:
        yield Fault("part-field", f"{what}: version {version!r}", "write an integer from 1 on")
    if not callable(part.factory):
        yield Fault("part-field", f"{what}: factory cannot be called", "give a function or a class")
    if not (isinstance(part.options, type) and issubclass(part.options, BaseModel)):
        yield Fault(
            "part-field", f"{what}: options is not a model", "give a subclass of pydantic.BaseModel"
        )


def _command_faults(hook: str, command: object) -> Iterator[Fault]:
    if isinstance(command, CommandDefinition):
        yield from _name_faults(hook, command.name)
    else:
        yield _of_another_type(hook, command, CommandDefinition)


def _interceptor_faults(hook: str, interceptor: object) -> Iterator[Fault]:
    # By duck typing: only `rpc` and `client` import grpc.
    if not callable(getattr(interceptor, "intercept_service", None)):
        yield Fault(
            "wrong-type",
            f"{hook} yielded a {type(interceptor).__name__}",
            "yield instances of grpc.aio.ServerInterceptor",
        )


def _name_faults(hook: str, name: object) -> Iterator[Fault]:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        fix = "write 1 to 63 of a-z, 0-9 and '-'"
        yield Fault("name", f"{hook}: {name!r} is not a name", fix)


def _of_another_type(hook: str, descriptor: object, wanted: type[Any]) -> Fault:
    return Fault(
        "wrong-type",
        f"{hook} gave a {type(descriptor).__name__}",
        f"give a {wanted.__name__}",
    )


_PARTS: Final[Mapping[str, type[Any]]] = {
    "citychain_storage_backends": StorageDefinition,
    "citychain_dag_handlers": DagDefinition,
    "citychain_consensus_steps": ConsensusDefinition,
    "citychain_fragment_stores": FragmentStoreDefinition,
}

_FAULTS: Final[Mapping[str, Callable[[str, Any], Iterator[Fault]]]] = {
    "citychain_cities": _city_faults,
    **dict.fromkeys(_PARTS, _part_faults),
    "citychain_commands": _command_faults,
    "citychain_interceptors": _interceptor_faults,
}
