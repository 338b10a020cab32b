"""A city's genesis: made at its first opening, checked at every later one.

A new one is kept once all parts of the city have taken it: what one of them refuses can still be
configured otherwise, and a genesis that is kept is for good. The storage is one of them: where
other servers founded the city there already, it must be the same (`not_taken`).
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from citychain.city.pinned import genesis_file
from citychain.city.plan import CityPlan
from citychain.city.unlike import differences
from citychain.errors import ConfigurationError, NameTaken
from citychain.genesis import Genesis, Representative
from citychain.ports import Compute

__all__ = ["found_city", "genesis_path", "keep_genesis", "not_taken", "write_new"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def genesis_path(data_dir: Path, plan: CityPlan) -> Path:
    """Where the city's genesis file is, or will be."""
    return genesis_file(data_dir, plan.slug, plan.genesis)


def found_city(data_dir: Path, network: str, plan: CityPlan, operator_public_key: bytes) -> Genesis:
    """The city's genesis from its file, or a new one, for `keep_genesis`.

    Raises:
        ConfigurationError: a genesis file that was asked for by name is missing, or
            the city has a history under another rule than the one now configured.
    """
    path = genesis_path(data_dir, plan)
    try:
        genesis = Genesis.read(path)
    except FileNotFoundError:
        if plan.genesis is not None:
            raise ConfigurationError(f"city {plan.slug}: there is no genesis file {path}") from None
        return _new(network, plan, operator_public_key)
    _check(path, network, plan, genesis)
    return genesis


def keep_genesis(data_dir: Path, plan: CityPlan, genesis: Genesis) -> None:
    """Write the city's genesis file if it is not there. If it is, and the configuration states
    something else for a new city, people are told."""
    path = genesis_path(data_dir, plan)
    if not path.exists():
        write_new(path, genesis.file)
    elif unlike := _unlike(plan, genesis):
        logger.warning(
            "city %s: the configuration says otherwise than %s, with which the city began: %s; "
            "the file counts. Change the configuration to what it says%s",
            plan.slug,
            path,
            differences(genesis.model_copy(update=unlike), genesis),
            # On a storage that others share, they would found another city.
            ""
            if plan.storage.definition.shared
            else f", or take {', '.join(sorted(unlike))} out{_anew(path, plan)}",
        )


def _unlike(plan: CityPlan, genesis: Genesis) -> dict[str, object]:
    """What the configuration states for a new city, and this one did not begin with.

    It opens all the same, unlike with another rule or step: these settings are for its founding
    alone. What is left out is no difference.
    """
    stated = {name: getattr(plan, name) for name in plan.stated}
    if "committee" in stated:
        stated["committee"] = _committee(plan, genesis.operator)
    return {name: value for name, value in stated.items() if value != getattr(genesis, name)}


async def not_taken(opening: Awaitable[T], storage: str, genesis: Genesis, compute: Compute) -> T:
    """What comes of opening a city in the storage where it is founded; if that has another one of
    its name, people are told in what the two differ.

    Args:
        storage: The storage's name, for people.

    Raises:
        ConfigurationError: the storage has another city of its network and name.
        StorageError: the storage failed.
    """
    try:
        return await opening
    except NameTaken as taken:
        theirs = taken.genesis_file
    raise ConfigurationError(await compute(_refusal, storage, genesis, theirs))


def _refusal(storage: str, genesis: Genesis, theirs: bytes) -> str:
    """What differs from the city that a storage has, and the ways out."""
    differs = differences(genesis, Genesis.from_bytes(theirs))
    return (
        f"city {genesis.city}: storage {storage} has a city of this name in network "
        f"{genesis.network} already, with another genesis: {differs}. Give all servers of the "
        "storage the same operator key and the same options of the city, and remove "
        f"genesis/{genesis.city}.json from the data directory of one that had others; or give "
        "this server another database, or another network name"
    )


def _new(network: str, plan: CityPlan, operator_public_key: bytes) -> Genesis:
    return Genesis(
        network=network,
        city=plan.slug,
        rule=plan.dag.definition.rule,
        rule_options=plan.dag.options.model_dump(mode="json"),
        consensus=plan.consensus.definition.step,
        consensus_options=plan.consensus.options.model_dump(mode="json"),
        quorum=plan.consensus.definition.quorum,
        operator=operator_public_key.hex(),
        num_hashes=plan.num_hashes,
        hold_rounds=plan.hold_rounds,
        committee=_committee(plan, operator_public_key.hex()),
        balances=plan.balances,
    )


def _committee(plan: CityPlan, operator: str) -> tuple[Representative, ...]:
    """The first committee, by the operator's public key in hexadecimal."""
    return plan.committee or (Representative(public_key=operator),)


def _check(path: Path, network: str, plan: CityPlan, genesis: Genesis) -> None:
    """A city keeps the parts that it began with: its ids are made with them."""
    for what, configured, pinned in (
        ("network", network, genesis.network),
        ("city", plan.slug, genesis.city),
        ("dag", plan.dag.definition.rule, genesis.rule),
        ("dag_options", plan.dag.options.model_dump(mode="json"), dict(genesis.rule_options)),
        ("consensus", plan.consensus.definition.step, genesis.consensus),
        (
            "consensus_options",
            plan.consensus.options.model_dump(mode="json"),
            dict(genesis.consensus_options),
        ),
    ):
        if configured != pinned:
            raise ConfigurationError(
                f"city {plan.slug}: {what} is configured as {configured!r}, but {path} says "
                f"{pinned!r}; a city with a history keeps what it began with: "
                f"{_back(what, configured, pinned)}, or found a new city under another name"
                f"{_anew(path, plan)}"
            )


def _back(what: str, configured: object, pinned: object) -> str:
    """How a city gets back what it began with."""
    if what in ("dag", "consensus"):
        name, _, version = str(pinned).partition("/")
        if str(configured).partition("/")[0] == name:
            return f"install the release of its package that has version {version} of {name}"
        return f'change the line back to {what} = "{name}"'
    return f"change {what} back"


def _anew(path: Path, plan: CityPlan) -> str:
    """The way out for a city that has a genesis and no history, as `citychain init` leaves it."""
    if plan.genesis is not None:  # It was made elsewhere, for others too.
        return ""
    return f"; if nothing was ever sent to it, remove {path} and start again"


def write_new(path: Path, content: bytes) -> None:
    """Write a new file: whole or not at all, whatever happens, and never over another.

    Raises:
        FileExistsError: there is a file of this name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.link(file.name, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
