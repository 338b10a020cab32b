"""A whole city, recomputed by somebody who believes nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from following.test_representative import KEYS, settle

from citychain.city.state import MemoryState
from citychain.committee import CommitteeChain
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.crypto.keys import key_id
from citychain.errors import InvalidRound
from citychain.following.audit import Audit, AuditResult
from citychain.following.composing import open_replay
from citychain.following.source import RoundSource, ServerSource
from citychain.genesis import Genesis
from citychain.ports import StoredRound
from citychain.testing.liars import LyingDag
from citychain.testing.server import CityServerFactory
from citychain.types import Certificate, Handover, Vote

TOKYO = {
    "tokyo": {
        "consensus": "poh-pop",
        "num_hashes": 10,
        "hold_rounds": 3,
        "balances": {"coin": {key_id(KEYS[0].public_key).hex(): 1_000}},
    }
}


async def audit(source: RoundSource, genesis: Genesis, first: int = 1) -> AuditResult:
    """Audit all that a source gives."""
    settings = Settings(data_dir=Path("unused"), plugins={"allow": ()})
    core = CoreContainer(settings=settings)
    state = MemoryState(genesis.initial_objects())
    async with (
        core.compute(),
        open_replay(core, genesis, state, source.public_keys) as replay,
    ):
        last, _ = await source.last_round()
        return await Audit(
            replay=replay,
            state=state,
            chain=CommitteeChain(genesis),
            source=source,
            compute=core.compute(),
        ).run(last, first)


Change = Callable[[StoredRound, Sequence[bytes]], tuple[StoredRound, Sequence[bytes]]]


class Altered:
    """A source that alters one round on the way."""

    def __init__(self, real: RoundSource, round: int, change: Change) -> None:
        self._real, self._round, self._change = real, round, change

    async def last_round(self) -> tuple[int, int]:
        return await self._real.last_round()

    async def rounds(self, first: int) -> AsyncGenerator[tuple[StoredRound, Sequence[bytes]], None]:
        async for stored, envelopes in self._real.rounds(first):
            if stored.round == self._round:
                yield self._change(stored, envelopes)
            else:
                yield stored, envelopes

    async def public_keys(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return await self._real.public_keys(key_ids)

    async def recoveries(self) -> list[tuple[int, Handover]]:
        return await self._real.recoveries()


def _flip(data: bytes, at: int) -> bytes:
    return bytes((*data[:at], data[at] ^ 1, *data[at + 1 :]))


def _certificate(change: Callable[[Certificate], Certificate]) -> Change:
    def changed(
        stored: StoredRound, envelopes: Sequence[bytes]
    ) -> tuple[StoredRound, Sequence[bytes]]:
        assert stored.certificate is not None
        return replace(stored, certificate=change(stored.certificate)), envelopes

    return changed


ALTERATIONS: Mapping[str, tuple[Change, str]] = {
    "a vote's signature": (
        _certificate(
            lambda c: replace(c, votes=(Vote(c.votes[0].key_id, _flip(c.votes[0].signature, 9)),))
        ),
        "certificate",
    ),
    "a vote too few": (_certificate(lambda c: replace(c, votes=())), "certificate"),
    "a vote for another": (
        _certificate(lambda c: replace(c, checkpoint_hash=_flip(c.checkpoint_hash, 0))),
        "certificate",
    ),
    "a transaction's signature": (
        lambda stored, envelopes: (stored, [*envelopes[:-1], _flip(envelopes[-1], -1 % 99)]),
        "transactions",
    ),
    "a transaction missing": (lambda stored, envelopes: (stored, envelopes[:-1]), "transactions"),
    "the record": (
        lambda stored, envelopes: (
            replace(stored, record=_flip(stored.record, 50)),
            envelopes,
        ),
        "record",
    ),
    "the checkpoint's hashing": (
        lambda stored, envelopes: (
            replace(stored, checkpoint=_flip(stored.checkpoint, len(stored.checkpoint) - 1)),
            envelopes,
        ),
        "poh",
    ),
}


async def test_a_city_holds(city_server: CityServerFactory) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(TOKYO))
        city = await stack.enter_async_context(server.client("tokyo"))
        ids = [tx_id for seed in range(3) for tx_id in await settle(city, seed)]
        info = await city.info()
        genesis = Genesis.from_bytes(info.genesis_file)
        result = await audit(ServerSource(city), genesis)
        assert result.rounds == result.certified_round == info.head.round
        assert result.transactions == info.head.size == len(ids)
        assert 0 < result.approved < result.transactions
        assert result.checkpoint_hash == info.head.checkpoint_hash
        later = await audit(ServerSource(city), genesis, first=info.head.round)
        assert replace(later, seconds=0) == replace(result, seconds=0)


@pytest.mark.parametrize("name", ALTERATIONS)
async def test_what_is_altered_is_named(city_server: CityServerFactory, name: str) -> None:
    change, check = ALTERATIONS[name]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(TOKYO))
        city = await stack.enter_async_context(server.client("tokyo"))
        for seed in range(2):
            await settle(city, seed)
        genesis = Genesis.from_bytes((await city.info()).genesis_file)
        with pytest.raises(InvalidRound) as found:
            await audit(Altered(ServerSource(city), 2, change), genesis)
        assert found.value.round == 2
        assert found.value.check in (check, "round", "time", "transactions", "layout")
        if check == "certificate":
            assert found.value.check == check


async def test_a_lie_is_found_in_what_was_stored(
    city_server: CityServerFactory, representative: Any
) -> None:
    """Representatives inside the server have parts of their own: the lie is never committed."""
    liar = LyingDag("make money")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(city_server(TOKYO, {"tokyo": {"dag": liar}}))
        city = await stack.enter_async_context(server.client("tokyo"))
        settling = asyncio.create_task(settle(city, 0))
        async with asyncio.timeout(120):
            while liar.told < 2:  # By then it is over with the first.
                await asyncio.sleep(0.01)
        assert (await city.info()).head.round == 0
        assert not settling.done()
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
