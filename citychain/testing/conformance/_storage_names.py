"""Storage tests: one city of a name, whoever founds it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from citychain.errors import NameTaken
from citychain.genesis import Genesis, Representative
from citychain.ports import CityStorage, StorageBackend
from citychain.testing.conformance._storage_session import Session, fill
from citychain.testing.conformance.ledger import Ledger
from citychain.upkeep import can_forget

__all__ = ["NameTests"]

KEY = "00" * 2592


class NameTests:
    """Part of `StorageSuite`: servers that are configured differently found no second city."""

    async def test_a_storage_has_one_city_of_a_name(self, session: Session) -> None:
        session.need_names()
        slug = _slug()
        first, other = _genesis(slug, num_hashes=10), _genesis(slug, num_hashes=20)
        ledger = Ledger(300)
        await fill(await _opened(session.backend, first), ledger, rounds=2, per_round=5)
        for _ in range(2):
            await _is_refused(session.backend, other, first)
            await ledger.check(await _opened(session.backend, first))
            await session.reopen()

    async def test_cities_of_other_names_and_networks_are_beside_it(self, session: Session) -> None:
        session.need_names()
        slug = _slug()
        for genesis in (
            _genesis(slug, num_hashes=10),
            _genesis(slug, num_hashes=20, network="another"),
            _genesis(_slug(), num_hashes=20),
        ):
            city = await _opened(session.backend, genesis)
            await Ledger(301).check(city)

    async def test_what_is_no_genesis_file_has_no_name(self, session: Session) -> None:
        session.need_names()
        for ledger in (Ledger(302), Ledger(303)):
            for file in (b"genesis file", b"{}", b""):
                await session.backend.city(ledger.genesis, file, ())

    async def test_cities_of_one_name_that_are_founded_at_once_become_one(
        self, session: Session
    ) -> None:
        session.need_names()
        for _ in range(10):
            await _race([session.backend] * 4)

    async def test_of_servers_that_found_a_city_at_once_one_does(self, session: Session) -> None:
        """Two servers whose operators' keys differ, say; each asks twice, as after an error."""
        session.need_names()
        async with session.second() as backend:
            for _ in range(10):
                won, lost = await _race([session.backend, backend] * 2)
                for server in (session.backend, backend):
                    await _opened(server, won)
                    await _is_refused(server, lost, won)

    async def test_a_city_that_is_forgotten_leaves_its_name(self, session: Session) -> None:
        """For backends that can forget: see `citychain.upkeep.SupportsForgetting`."""
        session.need_names()
        if (forgetful := can_forget(session.backend)) is None:
            pytest.skip("this storage cannot forget a city")
        slug = _slug()
        first, other = _genesis(slug, num_hashes=10), _genesis(slug, num_hashes=20)
        ledger = Ledger(304)
        await fill(await _opened(session.backend, first), ledger, rounds=1, per_round=5)
        await forgetful.forget(first.id, first.initial_objects())
        # Whoever comes first has the name: the same city, as one that moves back ...
        await Ledger(305).check(await _opened(session.backend, first))
        await _is_refused(session.backend, other, first)
        await forgetful.forget(first.id, first.initial_objects())
        await session.reopen()
        # ... or another one.
        await _opened(session.backend, other)
        await _is_refused(session.backend, first, other)


def _slug() -> str:
    """New each time: a storage may know the cities of an earlier run."""
    return f"city-{secrets.token_hex(8)}"


def _genesis(slug: str, **fields: Any) -> Genesis:
    return Genesis(
        **{
            "network": "conformance",
            "city": slug,
            "rule": "sealed-rounds/1",
            "consensus": "solo/1",
            "operator": KEY,
            "committee": (Representative(public_key=KEY),),
            **fields,
        }
    )


async def _opened(backend: StorageBackend, genesis: Genesis) -> CityStorage:
    return await backend.city(genesis.id, genesis.file, genesis.initial_objects())


async def _is_refused(backend: StorageBackend, genesis: Genesis, other: Genesis) -> None:
    [error] = await asyncio.gather(_opened(backend, genesis), return_exceptions=True)
    assert isinstance(error, BaseException), (
        f"the storage has a city {other.name}, and founds another of the same name: two servers "
        "that are configured differently would each serve one of its own"
    )
    _says(error, other)


def _says(error: BaseException, other: Genesis) -> None:
    assert isinstance(error, NameTaken), f"it must be refused as NameTaken: {error!r}"
    assert error.genesis_file == other.file, "the error has the file of the city that is there"


async def _race(backends: list[StorageBackend]) -> tuple[Genesis, Genesis]:
    """Found two cities of one name at once, by turns; the one that was founded, and the other."""
    slug = _slug()
    rivals = [_genesis(slug, num_hashes=10), _genesis(slug, num_hashes=20)]
    results = await asyncio.gather(
        *(_opened(backend, rivals[turn % 2]) for turn, backend in enumerate(backends)),
        return_exceptions=True,
    )
    by_rival = [results[0::2], results[1::2]]
    errors = [[it for it in some if isinstance(it, BaseException)] for some in by_rival]
    assert sorted(map(len, errors)) == [0, len(backends) // 2], (
        f"of two cities of one name that are founded at once one must be, for all who ask: {errors}"
    )
    lost = int(not errors[0])
    for error in errors[lost]:
        _says(error, rivals[1 - lost])
    return rivals[1 - lost], rivals[lost]
