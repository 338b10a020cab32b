"""What runs here: versions, and what the system allows a process."""

from __future__ import annotations

import platform
import resource
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import file_digest
from importlib import metadata
from pathlib import Path
from typing import Final

from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.hooks.checks import requirement_faults

__all__ = ["check_limits", "check_versions", "version_results"]

FILES_MIN: Final = 1_024
"""Each connection takes one; a storage and a fragment store some tens."""


def check_limits(_: Examined) -> Iterator[Result]:
    """How many files the process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_MIN:
        yield ok("open files", f"{_number(soft)} at a time, and {_number(hard)} if asked for")
    else:
        yield warning(
            "open files",
            f"at most {soft} at a time: each connection takes one",
            f"start it after `ulimit -n {FILES_MIN}`, or set LimitNOFILE= in its systemd unit",
        )


def check_versions(_: Examined) -> Iterator[Result]:
    """Python, citychain, its native part, and all that it requires."""
    try:
        distribution = metadata.distribution("citychain")
    except metadata.PackageNotFoundError:
        yield warning(
            "citychain",
            "is not installed: nothing says what it requires",
            "pip install citychain",
        )
        return
    yield from version_results(distribution)


def version_results(distribution: metadata.Distribution) -> Iterator[Result]:
    """The versions of an installed citychain."""
    sound = True
    for requirement in requirement_faults(distribution):
        sound = False
        fix = f"pip install --upgrade {distribution.name}"
        yield fault(distribution.name, requirement.what, fix)
    for file in _changed(distribution):
        sound = False
        yield fault(
            file,
            f"is not the one that came with {distribution.version}",
            f"pip install --force-reinstall {distribution.name}=={distribution.version}",
        )
    if sound:
        yield ok(
            distribution.name,
            f"{distribution.version} on Python {platform.python_version()}, with what it requires",
        )


def _changed(distribution: metadata.Distribution) -> Iterator[Path]:
    """Native parts that are others than those that were installed (RECORD of the wheel)."""
    for file in distribution.files or ():
        if not file.match("citychain/_native*") or file.hash is None or file.hash.mode != "sha256":
            continue
        path = Path(str(distribution.locate_file(file)))
        try:
            with path.open("rb") as opened:
                digest = file_digest(opened, "sha256").digest()
        except OSError:
            yield path
            continue
        if urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield path


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else f"{limit:,}"
