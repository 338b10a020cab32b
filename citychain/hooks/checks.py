"""What can be wrong with one plugin: its distribution, its functions, what they return.

Every check raises `PluginError` with the fault and its fix in one line of plain words.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from itertools import islice
from typing import Any, Final, TypeVar

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
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
    StorageDefinition,
)
from citychain.hooks.loading import guarded
from citychain.hooks.versions import OLDEST_VERSION, adapted
from citychain.nearest import did_you_mean

__all__ = [
    "KINDS",
    "check_city",
    "check_functions",
    "check_requirements",
    "offers",
]

T = TypeVar("T")

OFFERS_MAX: Final = 100_000
"""Descriptors that one hook of one plugin may yield."""

NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")

KINDS: Final[Mapping[str, str]] = {
    "citychain_cities": "city",
    "citychain_storage_backends": "storage backend",
    "citychain_dag_handlers": "DAG handler",
    "citychain_consensus_steps": "consensus step",
    "citychain_commands": "command",
    "citychain_interceptors": "interceptor",
}
"""The hooks that list something, and what."""


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
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise PluginError(
                f"its metadata has the malformed requirement {text!r}; reinstall the plugin"
            ) from None
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        requirement.marker = None
        try:
            version = version_of(requirement.name)
        except metadata.PackageNotFoundError:
            raise PluginError(
                f"it requires {requirement}, which is not installed; "
                f"run: pip install '{requirement}'"
            ) from None
        if not requirement.specifier.contains(version, prereleases=True):
            raise PluginError(
                f"it requires {requirement}, but {version} is installed; "
                f"run: pip install '{requirement}'"
            )
        if requirement.extras:
            required = metadata.distribution(requirement.name)
            check_requirements(required, requirement.extras, version_of)


def check_functions(
    manager: pluggy.PluginManager, plugin: object
) -> list[tuple[str, Callable[..., Any]]]:
    """Check a plugin's functions that are marked ``@hookimpl``; return them with their hooks."""
    if isinstance(plugin, type):
        raise PluginError(
            f"its entry point names the class {plugin.__name__}; name a module or an instance"
        )
    functions = []
    for attribute in dir(plugin):
        marked = manager.parse_hookimpl_opts(plugin, attribute)
        if marked is None:
            continue
        hook = marked.get("specname") or attribute
        caller = getattr(manager.hook, hook, None)
        if caller is None or caller.spec is None:
            if marked["optionalhook"]:
                continue
            known = (name for name in vars(manager.hook) if name.startswith("citychain_"))
            raise PluginError(f"there is no hook {hook}{did_you_mean(hook, known)}")
        function = getattr(plugin, attribute)
        _check_signature(hook, function, caller.spec.argnames)
        if marked["wrapper"] or marked["hookwrapper"]:
            raise PluginError(f"{hook} wraps other plugins, which no hook of citychain allows")
        functions.append((hook, function))
    if not functions:
        raise PluginError("it offers nothing: mark its hook functions with @hookimpl")
    return functions


def _check_signature(hook: str, function: Callable[..., Any], given: Iterable[str]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{hook} is async; hooks are called at start-up: write a plain def")
    wanted = {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if unknown := sorted(wanted.difference(given)):
        raise PluginError(
            f"{hook} takes {', '.join(unknown)}, which it is not given; "
            f"write: def {hook}({', '.join(given)})"
        )


def offers(hook: str, function: Callable[[], Any]) -> list[Any]:
    """Call a hook that lists something; return the checked descriptors, of the present version."""
    with guarded(hook):
        answer = function()
        if not isinstance(answer, Iterable) or isinstance(answer, str):
            raise PluginError(
                f"{hook} returned a {type(answer).__name__}; yield each {KINDS[hook]} instead"
            )
        listed = list(islice(answer, OFFERS_MAX + 1))
        if len(listed) > OFFERS_MAX:
            raise PluginError(
                f"{hook} yielded more than {OFFERS_MAX}; answer citychain_find_city instead"
            )
        for descriptor in listed:
            _CHECKS[hook](hook, descriptor)
    return [adapted(offer) for offer in listed] if hook in _PARTS else listed


def check_city(hook: str, descriptor: object) -> CityDefinition:
    """Check a city's descriptor and return it."""
    city = _is_a(CityDefinition, hook, descriptor)
    if not (isinstance(city.slug, str) and SLUG.fullmatch(city.slug)):
        raise PluginError(
            f"{hook}: the slug {city.slug!r} must be 1 to 63 of a-z, 0-9 and '-', "
            "starting with a letter"
        )
    what = f"{hook}: city {city.slug}"
    if not isinstance(city.titles, Mapping):
        raise PluginError(f"{what}: titles must map a language tag to a title")
    if not isinstance(city.aliases, tuple):
        raise PluginError(f"{what}: aliases must be a tuple of strings, such as ('金沢',)")
    for name in (*city.titles, *city.titles.values(), *city.aliases):
        if not isinstance(name, str):
            raise PluginError(f"{what}: {name!r} in titles or aliases must be a string")
        try:
            normalise(name)
        except InvalidRequest as error:
            raise PluginError(f"{what}: {name!r} in titles or aliases: {error.detail}") from None
    if not (city.region is None or isinstance(city.region, Disc)):
        raise PluginError(f"{what}: region must be a Disc or None")
    if not (city.parent is None or isinstance(city.parent, str)):
        raise PluginError(f"{what}: parent must be a slug or None")
    for part in ("storage", "dag", "consensus"):
        if not isinstance(getattr(city, part), str):
            raise PluginError(f"{what}: {part} must be the name of a part")
        if not isinstance(getattr(city, f"{part}_options"), Mapping):
            raise PluginError(f"{what}: {part}_options must map option names to values")
    return city


def _check_part(hook: str, descriptor: object) -> None:
    part = _is_a(_PARTS[hook], hook, descriptor)
    _check_name(hook, part.name)
    what = f"{hook}: {part.name}"
    known = range(OLDEST_VERSION, API_VERSION + 1)
    if not isinstance(part.api_version, int) or part.api_version not in known:
        raise PluginError(
            f"{what}: made for api_version {part.api_version}, and this citychain has "
            f"{OLDEST_VERSION} to {API_VERSION}; install matching versions of both"
        )
    if not isinstance(version := getattr(part, "version", 1), int) or version < 1:
        raise PluginError(f"{what}: version must be an integer from 1 on")
    if not callable(part.factory):
        raise PluginError(f"{what}: factory must be callable")
    if not (isinstance(part.options, type) and issubclass(part.options, BaseModel)):
        raise PluginError(f"{what}: options must be a subclass of pydantic.BaseModel")


def _check_command(hook: str, descriptor: object) -> None:
    _check_name(hook, _is_a(CommandDefinition, hook, descriptor).name)


def _check_interceptor(hook: str, interceptor: object) -> None:
    # By duck typing: only `rpc` and `client` import grpc.
    if not callable(getattr(interceptor, "intercept_service", None)):
        raise PluginError(
            f"{hook} yielded a {type(interceptor).__name__}; "
            "yield instances of grpc.aio.ServerInterceptor"
        )


def _check_name(hook: str, name: object) -> None:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise PluginError(f"{hook}: the name {name!r} must be 1 to 63 of a-z, 0-9 and '-'")


def _is_a(wanted: type[T], hook: str, descriptor: object) -> T:
    if not isinstance(descriptor, wanted):
        raise PluginError(
            f"{hook} gave a {type(descriptor).__name__} where a {wanted.__name__} is needed"
        )
    return descriptor


_PARTS: Final[Mapping[str, type[Any]]] = {
    "citychain_storage_backends": StorageDefinition,
    "citychain_dag_handlers": DagDefinition,
    "citychain_consensus_steps": ConsensusDefinition,
}

_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "citychain_cities": check_city,
    **dict.fromkeys(_PARTS, _check_part),
    "citychain_commands": _check_command,
    "citychain_interceptors": _check_interceptor,
}
