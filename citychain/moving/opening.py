"""Finds the storage in which a city lives, by the notes that moves leave.

The note in the storage that a city left is what decides: it is written in one step, when the copy
is whole. So whatever was interrupted, one storage is the city's home, and whoever opens another one
is led there or is told where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from citychain.city.plan import CityPlan, Part
from citychain.errors import (
    CitychainError,
    ConfigurationError,
    NameTaken,
    StorageError,
    VerificationError,
)
from citychain.hooks.definitions import StorageDefinition
from citychain.moving.copying import copy_waiting
from citychain.moving.home import forget_home, write_home
from citychain.moving.mark import REBUILDING, HomeNote, decode_home
from citychain.notes import HOME
from citychain.ports import CityStorage, Compute

__all__ = ["Home", "find_home", "home_note"]

logger = logging.getLogger(__name__)

MOVES_MAX: Final = 16
"""Storages that are asked one after the other."""

StoragePart = Part[StorageDefinition]


class Home(NamedTuple):
    """Where a city lives."""

    part: StoragePart
    storage: CityStorage


async def home_note(storage: CityStorage) -> HomeNote | None:
    """Why this storage is not the city's home; ``None`` if it is.

    Raises:
        StorageError: there is a note, and it says nothing of use.
    """
    try:
        return decode_home((await storage.notes(HOME)).get(HOME, b""))
    except VerificationError as error:
        raise StorageError(str(error)) from None


async def find_home(
    plan: CityPlan,
    *,
    data_dir: Path,
    named: Callable[[str], StoragePart],
    opened: Callable[[StoragePart], Awaitable[CityStorage]],
    compute: Compute,
) -> Home:
    """Open the storage in which a city lives, and remember it where the configuration differs.

    Args:
        named: Gives a storage by name; may block.
        opened: Opens the city in a storage.

    Raises:
        NameTaken: the first storage that is asked has another city of its network and name.
        ConfigurationError: it lives elsewhere, in a storage that is not configured here or has
            another history.
        StorageError: a storage cannot be opened.
    """
    part, came = plan.storage, None
    left: CityStorage | None = None
    for _ in range(MOVES_MAX):
        try:
            storage = await opened(part)
        except NameTaken:
            if came is None:
                raise
            raise ConfigurationError(
                f"city {plan.slug}: it moved to storage {part.name} after round {came.round}, and "
                "what is configured under that name has another city of this name: give it the "
                "options that it had"
            ) from None
        note = await home_note(storage)
        if note is None:
            break
        if not note.moved:
            if note.other == REBUILDING:
                raise ConfigurationError(
                    f"city {plan.slug}: storage {part.name} has an unfinished rebuild of it: "
                    f"finish it with `citychain rebuild --city {plan.slug}`, or restore-city"
                )
            if came is None or came.move != note.move:
                raise ConfigurationError(
                    f"city {plan.slug}: storage {part.name} has an unfinished copy of it; it lives "
                    f'in storage "{note.other}": configure that, and finish with `citychain move '
                    f"--city {plan.slug} --to {part.name}`"
                )
            # The move was decided, and what it had left to do was not done.
            assert left is not None  # It is where the note was.
            await copy_waiting(left, storage)
            await storage.keep({HOME: b""})
            break
        came, left = note, storage
        try:
            part = await compute(named, note.other)
        except CitychainError as error:
            raise ConfigurationError(
                f"city {plan.slug}: it moved from storage {part.name} to storage {note.other} "
                f"after round {note.round}, and that cannot be had here: {error}"
            ) from None
    else:
        raise ConfigurationError(
            f"city {plan.slug}: storage {plan.storage.name} leads to others in a circle"
        )
    if came is not None:
        await _check(plan.slug, part.name, storage, came)
    await compute(_remember, plan, data_dir, part.name, came is not None)
    return Home(part, storage)


async def _check(slug: str, name: str, storage: CityStorage, came: HomeNote) -> None:
    """Hold the storage that a note leads to to what was there when the city moved."""
    there = await storage.checkpoint_hashes([came.round]) if came.round else {}
    if came.round and there.get(came.round) != came.checkpoint_hash:
        raise ConfigurationError(
            f"city {slug}: it moved to storage {name} after round {came.round}, and what is "
            "configured under that name does not have this round: give it the options that it had"
        )


def _remember(plan: CityPlan, data_dir: Path, name: str, followed: bool) -> None:
    if name == plan.configured_storage:
        forget_home(data_dir, plan.slug)
        return
    if followed:
        write_home(data_dir, plan.slug, name)
    logger.warning(
        '%s lives in storage "%s", to which it was moved, and the configuration says "%s": write '
        'storage = "%s" under [cities.%s], without storage_options',
        plan.slug,
        name,
        plan.configured_storage,
        name,
        plan.slug,
    )
