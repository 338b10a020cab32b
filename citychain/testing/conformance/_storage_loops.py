"""Storage tests: event loops other than the first, and leaving while calls are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from citychain.hooks.definitions import StorageDefinition
from citychain.testing.conformance._storage_session import Factory, Session, fill
from citychain.testing.conformance.ledger import Ledger

__all__ = ["LoopTests"]

SECONDS: Final = 60
"""After which a call counts as hanging; a machine may be busy."""


class LoopTests:
    """Part of `StorageSuite`."""

    def test_a_new_event_loop_opens_what_another_left(
        self, definition: StorageDefinition, backends: Factory
    ) -> None:
        """Nothing that belongs to a loop (a lock, a future) may outlive the backend."""
        ledger = Ledger(140)

        async def live() -> None:
            async with backends() as backend:
                city = await backend.city(ledger.genesis, b"genesis file", ())
                await ledger.check(city, sample=2)
                batches = [ledger.transactions(2) for _ in range(20)]
                await asyncio.gather(*(city.append(batch, {}) for batch in batches))
                for batch in batches:
                    ledger.receive(batch)
                await fill(city, ledger, rounds=1, per_round=5)
                await ledger.check(city, sample=2)

        for number in range(3):
            if not definition.durable:
                ledger = Ledger(141 + number)
            with asyncio.Runner() as runner:
                runner.run(asyncio.wait_for(live(), SECONDS))

    async def test_a_call_from_another_running_loop_works_or_is_refused(
        self, session: Session
    ) -> None:
        """One backend belongs to one loop; a mistake here must not hang or spoil anything."""
        ledger = Ledger(145)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=5)
        batch, keys = ledger.transactions(5), {ledger.random.randbytes(32): b"key"}
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            city.head,
            lambda: city.raw(list(ledger.received)),
            lambda: city.append(batch, keys),
            lambda: city.keep({"elsewhere": b"1"}),
        ]

        def call_elsewhere(call: Callable[[], Coroutine[Any, Any, object]]) -> bool:
            try:
                asyncio.run(asyncio.wait_for(call(), SECONDS))
            except TimeoutError:
                raise AssertionError("a call from another event loop hangs") from None
            except Exception:
                return False
            return True

        returned = [await asyncio.to_thread(call_elsewhere, call) for call in calls]
        async with asyncio.timeout(SECONDS):
            await city.keep({"after": b"1"})
        city = await session.settle(ledger)
        found = len(await city.raw([t.tx_id for t in batch]))
        keys_found = len(await city.keys(list(keys)))
        assert (found, keys_found) in ((5, 1), (0, 0)), "an append is stored all or none"
        assert found or not returned[2], "an append returned, and nothing of it is stored"
        if found:
            ledger.receive(batch, keys)
        notes = await city.notes("elsewhere")
        assert notes or not returned[3], "keep returned, and the note is not there"
        ledger.keep({**notes, "after": b"1"})
        await fill(city, ledger, rounds=1, per_round=2)
        await ledger.check(city)

    async def test_leaving_waits_for_writes_under_way(self, session: Session) -> None:
        ledger = Ledger(95)
        city = await session.city(ledger)
        await fill(city, ledger, rounds=2, per_round=5)
        batches = [ledger.transactions(20) for _ in range(50)]
        sealed, certificate = ledger.round(ledger.pending), ledger.certificate(2)
        notes = {"a": b"1", "b": b"2"}
        appends = [asyncio.create_task(city.append(batch, {})) for batch in batches]
        writes = [
            asyncio.create_task(call)
            for call in (city.commit(sealed), city.certify([certificate]), city.keep(notes))
        ]
        reads = [
            asyncio.create_task(call)
            for call in (city.raw(list(ledger.received)), city.pending(None, 10), city.tips())
        ]
        calls: list[asyncio.Task[Any]] = [*appends, *writes, *reads]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await session.close()
        await asyncio.wait(calls, timeout=SECONDS)
        await session.open()
        assert all(call.done() for call in calls), (
            "a call that was under way when the backend was left hangs: it must return, or raise "
            "StorageError"
        )
        returned = {call for call in calls if call.exception() is None}
        if not session.durable:
            return
        city = await session.city(ledger)
        for batch, call in zip(batches, appends, strict=True):
            found = len(await city.raw([t.tx_id for t in batch]))
            assert found in ((20,) if call in returned else (0, 20)), (
                f"of a batch of 20 whose append {'returned' if call in returned else 'raised'} "
                f"while the backend was left, {found} are stored"
            )
            ledger.receive(batch if found else [])
        committed = (await city.head()).round == sealed.round
        assert committed or writes[0] not in returned, "commit returned, and the round is lost"
        if committed:
            ledger.commit(sealed)
        [certified] = await city.rounds(2, 1)
        assert certified.certificate or writes[1] not in returned, "certify returned; it is lost"
        if certified.certificate:
            ledger.certify([certificate])
        kept = await city.notes("")
        assert kept == notes or writes[2] not in returned, "keep returned, and the notes are lost"
        assert kept in ({}, notes), "notes of one call are kept all or none"
        ledger.keep(kept)
        await ledger.check(city)
