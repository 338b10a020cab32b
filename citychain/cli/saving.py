"""What ``citychain save`` does, apart from telling it.

First the whole file is read, signed and checked (`citychain.cli.preparing`); if anything is wrong
with it, nothing is stored. What is broken off after that goes on when it is repeated, since what is
there already stays as it is.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, cast

from citychain.city.deposit import Deposit, check_limits
from citychain.city.founding import genesis_path
from citychain.city.neighbours import find_neighbours
from citychain.city.plan import CityPlan
from citychain.cli.preparing import Preparing, Told, kept_aside
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import (
    CitychainError,
    ConfigurationError,
    DirectoryInUse,
    NotFound,
    Overloaded,
    StorageError,
)
from citychain.exchange.doorkeeper import Doorkeeper
from citychain.genesis import Genesis
from citychain.handler import CityHandler, Received, Refusal
from citychain.moving.composing import open_home
from citychain.moving.opening import Home, home_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from citychain.exchange.neighbour import Signed

__all__ = ["Saved", "founded", "run_save"]

TOGETHER: Final = 500
"""Transactions that are stored at a time, and their bytes."""
TOGETHER_BYTES: Final = 8 << 20


@dataclass
class Saved:
    """What came of it, so far."""

    city: str = ""
    storage: str = ""
    """Empty where nothing was to be stored."""
    new: int = 0
    there: int = 0
    """They were stored before."""
    refused: int = 0
    faults: int = 0
    """Items that cannot be right: then nothing is stored."""
    unsaved: int = 0
    """What is in order, and not stored."""
    full: str = ""
    """Why the storage takes no more, if so."""


async def run_save(
    *,
    city: str,
    file: BinaryIO,
    name: str,
    created_at_ms: int | None,
    signer: SigningKey,
    patience: timedelta,
    settings: Settings,
    told: Told,
    saved: Saved,
) -> None:
    """Sign what a file says and store it in the city's storage.

    Args:
        name: The file's, for people.
        created_at_ms: When those were made that do not say so; ``None`` if they must.
        patience: See `Deposit`.
        told: Of each transaction, once it is stored, or refused.
        saved: Is kept up to date.

    Raises:
        ConfigurationError: the city has no genesis yet, or a peer of it cannot be had, or its
            storage keeps nothing.
        DirectoryInUse: its server runs.
        StorageError: what was told of is stored; whether more is, is unknown.
    """
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines():
        plan, genesis = founded(core, city)
        saved.city = plan.slug
        core.keys().add_public_key(key_id(signer.public_key), signer.public_key)
        doorkeeper = await _doorkeeper(core, plan)
        # Not where other files are kept for a while: there may be little room, or only memory.
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir) as aside:
            preparing = Preparing(
                genesis=genesis.id,
                limits=check_limits(plan.limits),
                signer=signer,
                keys=core.keys(),
                created_at_ms=created_at_ms,
                aside=aside,
                told=told,
                compute=core.compute(),
                clock=core.clock(),
            )
            await preparing.read(file, name)
            saved.faults, saved.unsaved = preparing.faults, preparing.kept
            if saved.unsaved and not saved.faults:
                aside.seek(0)
                await _store(core, plan, genesis, doorkeeper, aside, patience, told, saved)


def founded(core: CoreContainer, city: str) -> tuple[CityPlan, Genesis]:
    """A city that was opened before, by whatever name.

    Raises:
        NotFound: the configuration does not know it.
        ConfigurationError: it has no genesis yet.
    """
    found = core.catalogue().find(city)
    if found is None:
        raise NotFound("city", city, core.catalogue().suggestions(city))
    plan = core.catalogue().plan(found.slug)
    return plan, _genesis_of(core, plan)


def _genesis_of(core: CoreContainer, plan: CityPlan) -> Genesis:
    path = genesis_path(core.settings().data_dir, plan)
    try:
        return Genesis.read(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"city {plan.slug}: there is no genesis file {path}: a server makes it when it opens "
            "the city for the first time; from one that runs elsewhere it comes by citychain "
            f"cities {plan.slug} --save-genesis {path} --server HOST:PORT"
        ) from None


async def _store(
    core: CoreContainer,
    plan: CityPlan,
    genesis: Genesis,
    doorkeeper: Doorkeeper,
    aside: BinaryIO,
    patience: timedelta,
    told: Told,
    saved: Saved,
) -> None:
    home = await _open(core, plan, genesis)
    saved.storage = home.part.name
    shared = home.part.definition.shared
    deposit = Deposit(
        genesis=genesis,
        storage=home.storage,
        shared=shared,
        limits=plan.limits,
        keys=core.keys(),
        compute=core.compute(),
        clock=core.clock(),
        refuses=doorkeeper.refuses,
        patience=patience,
    )
    count = min(TOGETHER, plan.limits.pending_transactions)
    async with deposit:
        for some in kept_aside(aside, count, min(TOGETHER_BYTES, plan.limits.pending_bytes)):
            try:
                results = await deposit.put({it.tx_id: it.envelope for it in some.values()})
            except Overloaded as error:
                saved.full = str(error)
                return
            if shared:
                await _check_home(home, plan)
            _count(results, saved)  # All of them, though one may not be told.
            for kept, result in zip(some.values(), results, strict=True):
                record: dict[str, Any] = {"line": kept.line, "tx_id": kept.tx_id}
                if isinstance(result, Received):
                    record |= {"state": result.state.name, "duplicate": result.duplicate}
                else:
                    record |= {"state": "REFUSED", "code": result.code}
                    record |= {"field": result.field or "", "detail": result.detail}
                told(record)


def _count(results: Sequence[Received | Refusal], saved: Saved) -> None:
    for result in results:
        saved.unsaved -= 1
        if isinstance(result, Received):
            saved.there += result.duplicate
            saved.new += not result.duplicate
        else:
            saved.refused += 1


async def _open(core: CoreContainer, plan: CityPlan, genesis: Genesis) -> Home:
    try:
        home = await open_home(core, plan, genesis)
    except DirectoryInUse as error:
        raise DirectoryInUse(
            error.directory,
            error.process,
            "if that is the city's server, send it there with citychain submit; else stop it",
        ) from None
    if not home.part.definition.durable:
        raise ConfigurationError(
            f"city {plan.slug}: storage {home.part.name} keeps nothing when this ends: give the "
            "city another, or send it to its server with citychain submit"
        )
    return home


async def _check_home(home: Home, plan: CityPlan) -> None:
    """What is stored while the city is being moved may not have come along."""
    if (note := await home_note(home.storage)) is not None:
        raise StorageError(
            f"city {plan.slug} was moved to storage {note.other} meanwhile: save again; what is "
            "there stays as it is"
        )


# --- what the city does not let in --------------------------------------------


class _Named(NamedTuple):
    """A city of this configuration, of which only its genesis is asked."""

    genesis: Genesis


class _Unopened:
    """A `citychain.city.neighbours.Directory` that opens nothing."""

    def __init__(self, core: CoreContainer) -> None:
        self._core = core

    async def handler(self, name: str) -> CityHandler:
        plan = await self._core.compute()(self._core.catalogue().plan, name)
        return cast("CityHandler", _Named(_genesis_of(self._core, plan)))


async def _doorkeeper(core: CoreContainer, plan: CityPlan) -> Doorkeeper:
    """Who refuses what a server of the city would refuse.

    Raises:
        ConfigurationError: a city that this one has to do with cannot be had; without it nobody
            would see who pays to its account of escrow.
    """
    doorkeeper = Doorkeeper(
        slug=plan.slug, sign=_signs_nothing, compute=core.compute(), clock=core.clock()
    )
    try:
        found = await find_neighbours(plan, core.settings(), _Unopened(core), core.compute())
    except CitychainError as error:
        raise ConfigurationError(
            f"city {plan.slug}: nobody can tell yet which payments it refuses, since a city that "
            f"it has to do with cannot be had: {error}"
        ) from None
    doorkeeper.know(found.peers)
    return doorkeeper


async def _signs_nothing(
    genesis: bytes, actions: Sequence[object], depends_on: Sequence[Sequence[bytes]]
) -> Sequence[Signed]:
    """Refusals of remittances are for servers to sign: this doorkeeper does not attend."""
    return []
