"""The distribution itself: is it installed, is it a plugin, does it have what it needs?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from importlib import metadata, util
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from citychain.cli.doctor.findings import Finding
from citychain.hooks.checks import requirement_faults
from citychain.hooks.registry import ENTRY_POINT_GROUP
from citychain.nearest import did_you_mean

__all__ = ["distribution_findings", "find_distribution", "not_installed", "plugins_of"]

SIMILAR: Final = 0.85
"""Share of letters in common from which a group is taken for a misspelling of ours."""
PLAUSIBLE: Final = frozenset(
    ENTRY_POINT_GROUP + ending for ending in ("", "s", "plugin", "plugins")
)
"""Letters of the groups that somebody writes who has not looked it up."""


def find_distribution(name: str) -> metadata.Distribution | None:
    """The installed distribution of this name."""
    try:
        return metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def not_installed(name: str) -> Finding:
    """That there is no such distribution."""
    known = {distribution.name for distribution in metadata.distributions() if distribution.name}
    hint = did_you_mean(name, known).removeprefix("; ")
    return Finding(
        "not-installed",
        name,
        f"no distribution {name!r} is installed here",
        hint or f"run: pip install {name}",
    )


def plugins_of(distribution: metadata.Distribution) -> list[metadata.EntryPoint]:
    """Its entry points in our group."""
    return [entry for entry in distribution.entry_points if entry.group == ENTRY_POINT_GROUP]


def _is_meant(group: str) -> bool:
    """Whether a group is a misspelling of ours; another's may well begin like it."""
    letters = re.sub(r"[^a-z]", "", group.lower())
    if letters in PLAUSIBLE:
        return True
    if abs(len(group) - len(ENTRY_POINT_GROUP)) > 1:
        return False
    return SequenceMatcher(None, group.lower(), ENTRY_POINT_GROUP).ratio() >= SIMILAR


def distribution_findings(
    distribution: metadata.Distribution, plugins: list[metadata.EntryPoint]
) -> Iterator[Finding]:
    """What can be found without importing anything."""
    name = distribution.name
    misplaced = [
        entry
        for entry in distribution.entry_points
        if entry.group != ENTRY_POINT_GROUP and _is_meant(entry.group)
    ]
    if not (plugins or misplaced):
        yield Finding(
            "no-entry-point",
            name,
            f"it has no entry point in the group {ENTRY_POINT_GROUP!r}",
            'add to pyproject.toml: [project.entry-points.citychain] NAME = "MODULE"',
        )
    for entry in misplaced:
        # Nor is it imported here: if it is meant for somebody else, that is not for us to do.
        yield Finding(
            "wrong-group",
            f"{name}: entry point {entry.name}",
            f"it is in the group {entry.group!r}, which citychain does not read",
            f"rename the group to {ENTRY_POINT_GROUP!r}",
        )
    extras = {extra for entry in plugins for extra in entry.extras}
    for fault in requirement_faults(distribution, sorted(extras)):
        yield Finding.of(fault, name)
    if canonicalize_name("citychain") not in _required(distribution):
        yield Finding(
            "citychain-not-required",
            name,
            "its requirements do not name citychain",
            'add "citychain" to dependencies in pyproject.toml',
        )
    for package in sorted({entry.module.partition(".")[0] for entry in plugins}):
        for folder in _folders(package):
            if not (folder / "py.typed").is_file():
                yield Finding(
                    "untyped",
                    str(folder),
                    f"the package {package} has no file py.typed",
                    "add an empty one, and let the build take it in",
                )


def _required(distribution: metadata.Distribution) -> set[str]:
    names: set[str] = set()
    for text in distribution.requires or ():
        try:
            names.add(canonicalize_name(Requirement(text).name))
        except InvalidRequirement:
            continue  # Told already.
    return names


def _folders(package: str) -> list[Path]:
    """Of a top-level package; none for a single module, which cannot have a py.typed."""
    try:
        spec = util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None:  # Not there, or one that several share.
        return []
    return [Path(folder) for folder in spec.submodule_search_locations or ()]
