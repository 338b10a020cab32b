"""A city that changed its committee, by elections and by its operator, is rebuilt with all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archive.conftest import OPERATOR, announced, archive, archived_up_to, archiver, stores
from archive.test_rebuild import Archived, content_of, put
from city.test_handovers import receipt

from citychain import notes
from citychain.archive.segment import decode, recoveries_bytes
from citychain.city.handovers import Handovers
from citychain.client.actions import Candidacy
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.notes import RecoveryNote
from citychain.testing.server import CityServerFactory
from citychain.types import Recovery, Seat

STRANGER = SigningKey(b"s" * 32)
ELECTING = {
    "tokyo": {
        "consensus": "poh-pop",
        "consensus_options": {"epoch_rounds": 3, "seed_rounds": 1, "seed_hashes": 10, "seats": 1},
        "num_hashes": 10,
        "balances": {"stake": {key_id(OPERATOR.public_key).hex(): 100}},
    }
}


async def recovered(city: Any, signer: SigningKey, round: int) -> dict[str, bytes]:
    """The note of a recovery from the round after this one."""
    [stored] = await city.storage.rounds(round, 1)
    seats = (Seat(key_id(OPERATOR.public_key), 7),)
    action = Recovery(round + 1, stored.checkpoint_hash, seats)
    signed = sign_transaction(signer, genesis=city.genesis.id, action=action)
    note = notes.recovery_bytes(RecoveryNote(signed.envelope, (OPERATOR.public_key,)))
    return {notes.recovery_name(round + 1, 0): note}


async def test_elections_and_recoveries_are_rebuilt(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(ELECTING, {"tokyo": {"handler": caught}}, operator=OPERATOR) as server,
        server.client("tokyo") as client,
    ):
        await client.info()
        [city] = found
        there = stores()
        one = archiver(city, archive(tmp_path, there))
        await receipt(city, OPERATOR, Candidacy("stake", 10))
        await city.storage.keep(await recovered(city, OPERATOR, 1))
        for number in range(9):
            await receipt(city, OPERATOR, Candidacy("stake", 5) if number == 4 else None)
            if number % 3 == 1:
                await archived_up_to(one, city, (await city.head()).certified_round)
        it = Archived(city, there, await announced(city), tmp_path)
        assert len(it.segments) >= 3
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert not result.lost
        await it.check(target)
        last = it.segments[-1].last
        everywhere = await Handovers(city.storage).after(0)
        known = [
            handover
            for handover in everywhere
            if handover.certificate is None or handover.certificate.round <= last
        ]
        assert list(await Handovers(target).after(0)) == known
        assert len([handover for handover in known if handover.recovery]) == 1
        assert len([handover for handover in known if handover.checkpoint]) >= 2


async def test_a_recovery_that_is_not_the_operators_is_left_out(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    found: list[Any] = []

    def caught(city: Any) -> Any:
        found.append(city)
        return city

    async with (
        city_server(ELECTING, {"tokyo": {"handler": caught}}, operator=OPERATOR) as server,
        server.client("tokyo") as client,
    ):
        await client.info()
        [city] = found
        there = stores()
        one = archiver(city, archive(tmp_path, there))
        for _ in range(3):
            await receipt(city, OPERATOR)
        await archived_up_to(one, city, 2)
        it = Archived(city, there, await announced(city), tmp_path)
        content = await content_of(it, it.segments[0])
        none = recoveries_bytes({})
        assert content.endswith(none)
        wrong = content.removesuffix(none) + recoveries_bytes(await recovered(city, STRANGER, 1))
        assert decode(wrong).recoveries
        await put(it, wrong)
        for key in it.segments[0].keys:
            for store in there.values():
                await store.delete(key)
        target = await it.target()
        result = await it.rebuilding(target).run()
        assert result.round == 0
        assert any("the recovery" in fault for fault in result.faults), result.faults
        assert await target.notes(notes.RECOVERY) == {}
