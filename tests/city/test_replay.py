"""What a city publishes is enough to repeat it, and no lie in it survives that."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from citychain import checkpoint, record
from citychain._native.transactions import decode_batch
from citychain.city.directory import CityDirectory
from citychain.city.replay import Replay
from citychain.city.state import MemoryState
from citychain.client.actions import Transfer
from citychain.client.transactions import sign_transaction
from citychain.clock import SystemClock
from citychain.compute import Executor
from citychain.consensus.solo import Solo, SoloOptions
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import KeyCache, SigningKey
from citychain.dag.sealed_rounds import SealedRounds
from citychain.errors import CityUnavailable, InvalidRound
from citychain.handler import CityHandler
from citychain.ports import CityContext, StoredRound
from citychain.testing.liars import DAG_LIES, SEAL_LIES, LyingConsensus, LyingDag
from citychain.types import RawTransaction, SealedRound, State

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]
KEYS = [SigningKey(bytes([number]) * 32) for number in range(4)]
RICH = {"coin": {key_id(KEYS[0].public_key).hex(): 1_000}}
TOKYO = {"storage": "memory", "num_hashes": 10, "hold_rounds": 3, "balances": RICH}


async def live(city: CityHandler, seed: int, *, rounds: int = 8) -> None:
    """Entangled transactions, some of which are rejected or wait for what never comes."""
    choose = random.Random(seed)
    sent: list[bytes] = []
    for number in range(rounds):
        batch = []
        for index in range(choose.randint(2, 9)):
            depends_on = choose.sample(sent, min(len(sent), choose.randint(0, 2)))
            if not choose.randrange(9):
                depends_on.append(bytes([number, index]) * 16)
            action: dict[str, Any] = {"data": b"x"}
            if not choose.randrange(3):
                action = {"transfer": Transfer("coin", key_id(KEYS[1].public_key), 90)}
            signed = sign_transaction(
                KEYS[0] if "transfer" in action else choose.choice(KEYS),
                genesis=city.genesis.id,
                writes={f"o{choose.randrange(4)}": 0} if not choose.randrange(4) else {},
                depends_on=depends_on,
                with_public_key=True,
                **action,
            )
            sent.append(signed.tx_id)
            batch.append(signed)
        choose.shuffle(batch)  # So that some stand before what they depend on.
        await city.submit([signed.envelope for signed in batch])
        async for _ in city.watch_transactions([batch[0].tx_id], State.SEALED):
            break
    async for _ in city.watch_transactions(sent, State.SEALED):
        pass


async def contend(city: CityHandler) -> None:
    """Two that write the same object: one is rejected, whatever else there is."""
    pair = [
        sign_transaction(
            key,
            genesis=city.genesis.id,
            data=b"x",
            writes={"contended": 0},
            with_public_key=True,
        )
        for key in KEYS[:2]
    ]
    await city.submit([signed.envelope for signed in pair])
    async for _ in city.watch_transactions([signed.tx_id for signed in pair], State.SEALED):
        pass


async def published(city: CityHandler) -> list[tuple[StoredRound, list[bytes]]]:
    """All that a stranger is given."""
    rounds = []
    for stored in await city.storage.rounds(1, 1_000):
        decided = record.decode(stored.record)
        tx_ids = [*decided.tx_ids, *decided.held]
        raw = await city.storage.raw(tx_ids)
        rounds.append((stored, [raw[tx_id].envelope for tx_id in tx_ids]))
    return rounds


class Stranger:
    """Repeats a city from its genesis."""

    def __init__(self, city: CityHandler, compute: Executor, keys: KeyCache | None = None) -> None:
        context = CityContext("tokyo", city.genesis, compute, SystemClock(), None)
        self.state = MemoryState(city.genesis.initial_objects())
        self.replay = Replay(
            genesis=city.genesis,
            dag=SealedRounds(context),
            consensus=Solo(SoloOptions(), context),
            state=self.state,
            compute=compute,
            keys=keys or KeyCache(),
            public_keys=city.storage.keys,
        )

    async def check(self, stored: StoredRound, envelopes: list[bytes]) -> SealedRound:
        return await self.replay.check(await self.replay.read(stored, envelopes))

    async def repeat(self, rounds: list[tuple[StoredRound, list[bytes]]]) -> None:
        for stored, envelopes in rounds:
            sealed = await self.check(stored, envelopes)
            assert (sealed.record, sealed.checkpoint_hash) == (
                stored.record,
                stored.checkpoint_hash,
            )
            self.replay.advance(sealed)
            self.state.apply(sealed)


async def test_a_stranger_repeats_a_city_from_what_it_published(open_cities: OpenCities) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, seed)
        await contend(city)
        stranger = Stranger(city, compute)
        rounds = await published(city)
        await stranger.repeat(rounds)
        head = await city.head()
        assert replace(stranger.replay.head, certified_round=head.certified_round) == head
        codes = {verdict.code for stored, _ in rounds for verdict in
                 record.decode(stored.record).verdicts if verdict}  # fmt: skip
        assert "CONFLICT" in codes


async def test_one_who_kept_what_was_checked_goes_on_from_there(open_cities: OpenCities) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, seed, rounds=3)
        stranger = Stranger(city, compute)
        await stranger.replay.resume(city.storage)
        known = stranger.replay.head.round
        again = Stranger(city, compute)
        await again.repeat((await published(city))[:known])
        assert replace(again.replay.head, certified_round=stranger.replay.head.certified_round) == (
            stranger.replay.head
        )
        assert {t: s for t, (_, s) in again.replay._held.items()} == {
            t: s for t, (_, s) in stranger.replay._held.items()
        }


@pytest.mark.parametrize("lie", [*DAG_LIES])
async def test_a_lying_dag_handler_is_found_out(open_cities: OpenCities, lie: str) -> None:
    liar = LyingDag(lie)
    async with (
        open_cities({"tokyo": {"dag": liar}}, cities={"tokyo": TOKYO}) as directory,
        Executor() as compute,
    ):
        city = await directory.handler("tokyo")
        for seed in range(50):
            await live(city, seed, rounds=2)
            if liar.told:
                break
        assert liar.told
        with pytest.raises(InvalidRound) as found:
            await Stranger(city, compute).repeat(await published(city))
        print(found.value)
        assert (
            found.value.check
            in {
                "approve what is rejected": {"verdict"},
                "reject what is good": {"verdict"},
                "alter a reason": {"verdict"},
                "keep one back": {"order", "held"},
                "put one before what it depends on": {"order", "held"},
                "link one otherwise": {"root"},
                "make money": {"writes"},
            }[lie]
        )


@pytest.mark.parametrize("lie", [*SEAL_LIES])
async def test_a_lying_seal_is_found_out(open_cities: OpenCities, lie: str) -> None:
    liar = LyingConsensus(lie)
    async with (
        open_cities({"tokyo": {"consensus": liar}}, cities={"tokyo": TOKYO}) as directory,
        Executor() as compute,
    ):
        city = await directory.handler("tokyo")
        await live(city, 1, rounds=1)
        assert liar.told
        with pytest.raises(InvalidRound) as found:
            await Stranger(city, compute).repeat(await published(city))
        assert found.value.check == "poh"


def _record_byte(stored: StoredRound, envelopes: list[bytes], at: int) -> StoredRound:
    changed = bytearray(stored.record)
    changed[at % len(changed)] ^= 1
    return replace(stored, record=bytes(changed))


def _checkpoint_byte(stored: StoredRound, envelopes: list[bytes], at: int) -> StoredRound:
    changed = bytearray(stored.checkpoint)
    changed[at % len(changed)] ^= 1
    return replace(stored, checkpoint=bytes(changed))


@pytest.mark.parametrize("change", [_record_byte, _checkpoint_byte])
async def test_no_byte_of_record_or_checkpoint_can_be_changed(
    open_cities: OpenCities, change: Callable[[StoredRound, list[bytes], int], StoredRound]
) -> None:
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, 5, rounds=2)
        rounds = await published(city)
        stranger = Stranger(city, compute)
        await stranger.repeat(rounds[:1])
        stored, envelopes = rounds[1]
        length = len(stored.record if change is _record_byte else stored.checkpoint)
        for at in range(length):
            with pytest.raises(InvalidRound):
                await stranger.check(change(stored, envelopes, at), envelopes)
        await stranger.check(stored, envelopes)


async def test_a_record_that_names_a_transaction_twice_is_refused(open_cities: OpenCities) -> None:
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, 5, rounds=1)
        stored, envelopes = (await published(city))[0]
        decided = record.decode(stored.record)
        body = record.body_bytes(
            genesis=decided.genesis,
            round=1,
            time_ms=decided.time_ms,
            epoch=decided.epoch,
            tx_ids=[*decided.tx_ids, decided.tx_ids[0]],
            verdicts=[*decided.verdicts, decided.verdicts[0]],
            held=decided.held,
            held_places=decided.held_places,
            writes=decided.writes,
        )
        twice = replace(stored, record=record.with_poh(body, decided.poh))
        with pytest.raises(InvalidRound, match="layout: the record names a transaction twice"):
            await Stranger(city, compute).check(twice, envelopes)


async def test_a_small_cache_of_keys_suffices(open_cities: OpenCities) -> None:
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, 5, rounds=2)
        await Stranger(city, compute, KeyCache(1, 1)).repeat(await published(city))


async def test_transactions_must_be_there_whole_and_signed(open_cities: OpenCities) -> None:
    async with open_cities(cities={"tokyo": TOKYO}) as directory, Executor() as compute:
        city = await directory.handler("tokyo")
        await live(city, 3, rounds=1)
        stored, envelopes = (await published(city))[0]
        stranger = Stranger(city, compute)
        broken = bytearray(envelopes[-1])
        broken[-1] ^= 1
        for given in (
            envelopes[:-1],
            [*envelopes, envelopes[0]],
            [*envelopes[:-1], bytes(broken)],
            [*envelopes[:-1], b"nothing"],
            [*envelopes[:-1], envelopes[0]] if len(envelopes) > 1 else [],
        ):
            with pytest.raises(InvalidRound) as found:
                await stranger.check(stored, given)
            assert found.value.check == "transactions"


async def test_a_round_of_the_past_or_of_another_city_is_refused(open_cities: OpenCities) -> None:
    cities = {"tokyo": TOKYO, "osaka": TOKYO}
    async with open_cities(cities=cities) as directory, Executor() as compute:
        tokyo, osaka = await directory.handler("tokyo"), await directory.handler("osaka")
        await live(tokyo, 3, rounds=2)
        await live(osaka, 3, rounds=1)
        rounds = await published(tokyo)
        stranger = Stranger(tokyo, compute)
        with pytest.raises(InvalidRound, match="genesis: it is another city's"):
            await stranger.repeat(await published(osaka))
        with pytest.raises(InvalidRound, match="round 2: round: it does not follow round 0"):
            await stranger.repeat(rounds[1:])
        await stranger.repeat(rounds[:1])
        with pytest.raises(InvalidRound, match="round 1: round: it does not follow round 1"):
            await stranger.repeat(rounds[:1])


def test_a_checkpoint_body_is_decoded_like_the_whole() -> None:
    with pytest.raises(Exception, match="ends after"):
        checkpoint.decode_body(b"\0\1")


async def test_what_waits_in_storage_is_admitted_again_before_it_is_voted_for(
    open_cities: OpenCities,
) -> None:
    cities = {"tokyo": {**TOKYO, "storage": "sqlite", "consensus": "poh-pop"}}
    async with open_cities(cities=cities) as directory:
        city = await directory.handler("tokyo")
        await live(city, 1, rounds=1)
        signed = sign_transaction(KEYS[0], genesis=city.genesis.id, data=b"x")
        [item] = decode_batch([signed.envelope])
        forged = item.envelope.replace(item.signature, bytes(len(item.signature)))
        await city.storage.append([RawTransaction(item.tx_id, item.author, forged)], {})
    async with open_cities(cities=cities) as directory:
        with pytest.raises(CityUnavailable):
            await directory.handler("tokyo")
