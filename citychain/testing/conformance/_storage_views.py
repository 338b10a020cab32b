"""Storage tests: what readers get while others write, and what they can do with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy
from typing import cast

from citychain._native.transactions import Transaction
from citychain.clock import SystemClock
from citychain.ports import CityStorage
from citychain.storage.memory import MemoryCity
from citychain.testing.conformance._storage_session import BREATH, Session, fill
from citychain.testing.conformance.ledger import LEVEL, Ledger, pending
from citychain.types import NodeRef, ObjectWrite, SealedRound, SubtreeHash

__all__ = ["ViewTests"]


class ViewTests:
    """Part of `StorageSuite`."""

    async def test_reads_during_writes_are_of_whole_rounds(self, session: Session) -> None:
        """Whoever sees a round in `head` sees all of it, and nobody sees a part."""
        ledger = Ledger(150, [ObjectWrite(name, 1, b"") for name in "ab"])
        city = await session.city(ledger)
        planned: dict[int, SealedRound] = {}
        done = asyncio.Event()

        async def seal() -> None:
            for number in range(1, 31):
                batch = ledger.transactions(8)
                await city.append(batch, {})
                ledger.receive(batch)
                writes = [ObjectWrite(name, number + 1, b"%d" % number) for name in "ab"]
                planned[number] = ledger.round(ledger.pending[:7], [3], writes=writes)
                await city.commit(planned[number])
                ledger.commit(planned[number])
            done.set()

        async def read() -> None:
            while not done.is_set():
                await _one_look(city, ledger, planned)
                await asyncio.sleep(BREATH)

        async with asyncio.timeout(120):
            await asyncio.gather(seal(), read(), read(), read())
        await ledger.check(city)

    async def test_an_answer_does_not_change_when_the_storage_does(self, session: Session) -> None:
        ledger = Ledger(151, [ObjectWrite("counter", 1, b"")])
        city = await session.city(ledger)
        await fill(city, ledger, rounds=3, per_round=10)
        await city.keep({"note": b"first"})
        answers = [(name, answer, deepcopy(answer)) async for name, answer in _reads(city, ledger)]
        await fill(city, ledger, rounds=3, per_round=10)
        await city.certify([ledger.certificate(round) for round in range(1, 5)])
        await city.keep({"note": b"second", "other": b""})
        for name, answer, copy in answers:
            assert answer == copy, f"an answer of {name}() changed afterwards: hand out copies"

    async def test_arguments_may_be_changed_after_the_call(self, session: Session) -> None:
        initial = [ObjectWrite("counter", 1, b"1")]
        ledger = Ledger(152, list(initial))
        city = await session.backend.city(ledger.genesis, b"genesis file", initial)
        initial.clear()
        batch, keys = ledger.transactions(10), {ledger.random.randbytes(32): b"key"}
        ledger.receive(batch, keys)
        sealed = ledger.round(batch[:8], [1], writes=[ObjectWrite("counter", 2, b"2")], pops=True)
        ledger.commit(sealed)
        certificates = [ledger.certificate(1)]
        ledger.certify(certificates)
        notes = {"note": b"kept"}
        ledger.keep(notes)
        await city.append(batch, keys)
        batch.clear()
        keys.clear()
        await city.commit(sealed)
        for column in (sealed.transactions, sealed.verdicts, sealed.node_ids, sealed.parents):
            cast("list[object]", column).clear()
        cast("list[object]", sealed.writes).clear()
        await city.certify(certificates)
        certificates.clear()
        await city.keep(notes)
        notes["note"] = b"changed"
        ledger.notes = {"note": b"kept"}
        await ledger.check(city)
        await session.reopen()
        await ledger.check(await session.city(ledger))

    async def test_a_copy_reads_like_the_original(self, session: Session) -> None:
        """Filled by what another storage answers, as a follower's is: from this one into the
        plainest, and of another city from there into this one."""
        initial = [ObjectWrite("counter", 1, b"genesis")]
        for seed, here_first in ((153, True), (154, False)):
            ledger = Ledger(seed, initial)
            cities: list[CityStorage] = [
                await session.city(ledger),
                MemoryCity(SystemClock(), b"genesis file", ledger.initial),
            ]
            original, copy = cities if here_first else reversed(cities)
            for per_round in (5, 300, 40):
                await fill(original, ledger, rounds=2, per_round=per_round)
            certificates = [ledger.certificate(round) for round in (1, 2, 3, 5)]
            await original.certify(certificates)
            ledger.certify(certificates)
            await original.keep({"a": b"1", "b": b"2"})
            ledger.keep({"a": b"1", "b": b"2"})
            await _copy(original, copy, ledger)
            await ledger.check(copy)
            await ledger.check(original)


async def _one_look(city: CityStorage, ledger: Ledger, planned: dict[int, SealedRound]) -> None:
    """Read this and that, which must fit together."""
    received = list(ledger.received)
    number = (await city.head()).round
    if number:
        sealed = planned[number]
        ids = [t.tx_id for t in sealed.transactions]
        nodes = await city.round_nodes(number)
        assert len(nodes) == len(ids), f"head() is of a round of which only {len(nodes)} are there"
        assert set(await city.find(ids)) == set(ids), "head() is of a round that find() lacks"
        [stored] = await city.rounds(number, 1)
        assert stored.record == sealed.record, "head() is of a round that rounds() lacks"
        end = stored.size
        hashes = await city.leaf_hashes(sealed.first_index, end)
        assert hashes == sealed.leaf_hashes, "head() is of a round whose leaf hashes are not there"
        linked = [node_id for node_id in sealed.node_ids if node_id is not None]
        assert set(await city.nodes(linked)) == set(linked), "head() is of a round without nodes"
        assert (await city.tips())[0].round >= number, "tips() are older than head()"
    states = await city.objects(["a", "b"])
    versions = {state.version for state in states.values()}
    assert len(versions) == 1, f"one answer of objects() has a part of a round: {states}"
    assert versions.pop() > number, "head() is of a round whose objects are not there"
    nodes = await city.round_nodes(number + 1)
    assert not nodes or len(nodes) == len(planned[number + 1].transactions), "part of a round"
    assert set(await city.raw(received)) == set(received), "raw() lacks what append acknowledged"
    waiting = {t.tx_id for t in await pending(city)}
    missing = set(received) - waiting - set(await city.find(received))
    assert not missing, "what was appended is pending or sealed at any moment, and is neither"


async def _reads(city: CityStorage, ledger: Ledger) -> AsyncIterator[tuple[str, object]]:
    """An answer of each method that reads, with its name."""
    ids = list(ledger.received)
    nodes = [node.ref.node_id for node in ledger.linked]
    authors = [t.author for t in ledger.received.values()]
    calls: list[Callable[[], Awaitable[object]]] = [
        city.head,
        city.tips,
        lambda: city.find(ids),
        lambda: city.raw(ids),
        lambda: city.nodes(nodes),
        lambda: city.latest(authors),
        lambda: city.objects(list(ledger.objects)),
        lambda: city.keys(list(ledger.keys)),
        lambda: city.pending(None, 100),
        lambda: city.notes(""),
        lambda: city.rounds(1, 100),
        lambda: city.round_nodes(3),
        lambda: city.checkpoint_hashes([1, 2, 3]),
        lambda: city.children(NodeRef(0, 0, ledger.genesis), (0, 0), 100),
        lambda: city.leaf_hashes(0, ledger.head.size),
    ]
    names = "head tips find raw nodes latest objects keys pending notes rounds round_nodes"
    for name, call in zip(
        [*names.split(), "checkpoint_hashes", "children", "leaf_hashes"], calls, strict=True
    ):
        yield name, await call()


async def _copy(source: CityStorage, target: CityStorage, ledger: Ledger) -> None:
    """Write into ``target`` what ``source`` answers; the ledger only says which ids there are."""
    await target.append([], await source.keys(list(ledger.keys)))
    raw = await source.raw(list(ledger.received))
    await target.append([raw[tx_id] for tx_id in ledger.received], {})
    head = await source.head()
    states = await source.objects(list(ledger.objects))
    rounds = await source.rounds(1, head.round)
    for stored in rounds:
        nodes = await source.round_nodes(stored.round)
        begin, end = stored.first_index >> LEVEL, stored.size >> LEVEL
        hashes = await source.subtree_hashes(LEVEL, begin, end)
        pops = [node.pop for node in nodes if node.pop is not None]
        last = stored.round == head.round
        await target.commit(
            SealedRound(
                round=stored.round,
                time_ms=stored.time_ms,
                epoch=head.epoch,
                first_index=stored.first_index,
                record=stored.record,
                checkpoint=stored.checkpoint,
                checkpoint_hash=stored.checkpoint_hash,
                transactions=cast("list[Transaction]", [raw[node.tx_id] for node in nodes]),
                verdicts=[node.rejection for node in nodes],
                node_ids=[node.node_id for node in nodes],
                parents=[node.parents for node in nodes],
                pops=pops or None,
                held=(),
                writes=[ObjectWrite(o, *state) for o, state in states.items()] if last else (),
                leaf_hashes=await source.leaf_hashes(stored.first_index, stored.size),
                peaks=stored.peaks,
                subtrees=[
                    SubtreeHash(LEVEL, index, hashes[32 * at : 32 * at + 32])
                    for at, index in enumerate(range(begin, end))
                ],
            )
        )
    await target.certify([r.certificate for r in rounds if r.certificate is not None])
    await target.keep(await source.notes(""))
