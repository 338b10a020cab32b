"""Storage tests: any sequence of calls, compared with the ledger after each."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from citychain.errors import LeaseLost, RoundTaken
from citychain.ports import can_prune
from citychain.testing.conformance._storage_session import TTL, Session
from citychain.testing.conformance.ledger import Ledger
from citychain.types import ObjectWrite

__all__ = ["StorageMachine"]


class StorageMachine(RuleBasedStateMachine):
    def session(self) -> Session:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._session = self.session()
        self._runner.run(self._session.open())

    @initialize(seed=st.integers(0, 1 << 32), initial=st.booleans())
    def open_city(self, seed: int, initial: bool) -> None:
        self.ledger = Ledger(seed, [ObjectWrite("object 0", 1, b"")] if initial else [])
        self.leases: list[int] = []
        self.cursor: bytes | None = None
        """After which pending transactions are read on."""
        self.read_up_to = b""
        self._open()

    def _open(self) -> None:
        self.cursor = None
        self.city = self._runner.run(self._session.city(self.ledger))

    @rule(new=st.integers(0, 12), again=st.integers(0, 3), with_key=st.booleans())
    def append(self, new: int, again: int, with_key: bool) -> None:
        batch = self.ledger.transactions(new)
        known = list(self.ledger.received.values())
        repeated = self.ledger.random.sample(known, min(again, len(known)))
        batch += [replace(t, envelope=b"again") for t in repeated]
        self.ledger.random.shuffle(batch)
        keys = {self.ledger.random.randbytes(32): b"key"} if with_key else {}
        self._runner.run(self.city.append(batch, keys))
        self.ledger.receive(batch, keys)

    @rule(data=st.data(), pops=st.booleans())
    def commit(self, data: st.DataObject, pops: bool) -> None:
        waiting = self.ledger.pending[:20]
        chosen = data.draw(st.lists(st.sampled_from(waiting), unique_by=id)) if waiting else []
        seqs = st.sets(st.integers(0, len(chosen) - 1)) if chosen else st.just(set())
        names = data.draw(st.sets(st.integers(0, 5)))
        version = self.ledger.head.round + 2
        sealed = self.ledger.round(
            chosen,
            data.draw(seqs),
            pops=pops,
            writes=[ObjectWrite(f"object {i}", version, b"%d" % i) for i in sorted(names)],
        )
        self._runner.run(self.city.commit(sealed))
        self.ledger.commit(sealed)

    @precondition(lambda self: self.ledger.rounds)
    @rule(data=st.data())
    def certify(self, data: st.DataObject) -> None:
        rounds = data.draw(st.lists(st.integers(1, len(self.ledger.rounds)), max_size=3))
        certificates = [self.ledger.certificate(round) for round in rounds]
        self._runner.run(self.city.certify(certificates))
        self.ledger.certify(certificates)

    @rule(
        notes=st.dictionaries(
            st.sampled_from(["a", "a/1", "a/2", "b", "金"]), st.binary(max_size=20), max_size=3
        )
    )
    def keep(self, notes: dict[str, bytes]) -> None:
        self._runner.run(self.city.keep(notes))
        self.ledger.keep(notes)

    @precondition(lambda self: bool(self.ledger.sealed) and can_prune(self.city) is not None)
    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        sealed = list(self.ledger.sealed)
        chosen = data.draw(st.lists(st.integers(0, len(sealed) - 1), max_size=8))
        gone = [sealed[number] for number in chosen]
        retention = can_prune(self.city)
        assert retention is not None
        self._runner.run(retention.prune(gone))
        self._runner.run(retention.reclaim())
        self.ledger.prune(gone)

    @rule()
    def take_the_lease(self) -> None:
        epoch = self._runner.run(self.city.acquire_lease("me", TTL))
        assert epoch is not None, "who holds the lease may acquire it again"
        assert epoch > self.ledger.epoch, "epochs must grow by each acquisition"
        for lost in self.leases:
            with pytest.raises(LeaseLost):
                self._runner.run(self.city.renew_lease(lost, TTL))
        with pytest.raises(LeaseLost):
            self._runner.run(self.city.commit(self.ledger.round([], epoch=epoch - 1)))
        self.leases.append(epoch)
        self.ledger.epoch = epoch
        sealed = self.ledger.round([])
        self._runner.run(self.city.commit(sealed))
        self.ledger.commit(sealed)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def keep_or_give_up_a_lease(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.leases))
        if epoch == self.leases[-1]:
            self._runner.run(self.city.renew_lease(epoch, TTL))
        else:  # A lost one: does nothing.
            self._runner.run(self.city.release_lease(epoch))

    @rule(limit=st.integers(1, 7))
    def read_pending_anew(self, limit: int) -> None:
        self._begin_to_read_pending(limit)

    def _begin_to_read_pending(self, limit: int) -> None:
        page = self._runner.run(self.city.pending(None, limit))
        expected = self.ledger.pending
        assert list(page.transactions) == expected[:limit], "the first page is of the first ones"
        assert (page.cursor is None) == (len(expected) <= limit), "a cursor leads to what is left"
        self.cursor = page.cursor
        self.read_up_to = page.transactions[-1].tx_id if page.transactions else b""

    @precondition(lambda self: self.ledger.linked)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def read_pages(self, data: st.DataObject, limit: int) -> None:
        first = data.draw(st.integers(0, len(self.ledger.rounds) + 1))
        rounds = self._runner.run(self.city.rounds(first, limit))
        assert list(rounds) == self.ledger.rounds[max(first - 1, 0) :][:limit], (
            "rounds() gives `limit` rounds from `first` on"
        )
        node = data.draw(st.sampled_from(self.ledger.linked))
        parent = data.draw(st.sampled_from(node.parents))
        after = data.draw(st.sampled_from([(0, 0), (node.round, node.seq), (node.round, 0)]))
        expected = [n for n in self.ledger.children(parent) if (n.round, n.seq) > after]
        children = self._runner.run(self.city.children(parent, after, limit))
        assert list(children) == expected[:limit], "children() go on after a place, in order"
        prefix = data.draw(st.sampled_from(["", "a", "a/", "b", "金"]))
        notes = {n: note for n, note in self.ledger.notes.items() if n.startswith(prefix)}
        assert self._runner.run(self.city.notes(prefix)) == notes, "notes() are those of a prefix"

    @precondition(lambda self: self.ledger.rounds)
    @rule()
    def commit_a_taken_round(self) -> None:
        sealed = replace(self.ledger.round([]), round=self.ledger.head.round)
        with pytest.raises(RoundTaken):
            self._runner.run(self.city.commit(sealed))

    @rule()
    def reopen(self) -> None:
        self._runner.run(self._session.reopen())
        self._open()

    @invariant()
    def the_backend_agrees(self) -> None:
        if hasattr(self, "ledger"):
            self._runner.run(self.ledger.check(self.city, sample=3))

    @invariant()
    def reading_pending_goes_on(self) -> None:
        """From a page that was read once, whatever was appended and sealed meanwhile."""
        if hasattr(self, "ledger") and self.cursor is None:
            self._begin_to_read_pending(1)
        elif hasattr(self, "ledger"):
            page = self._runner.run(self.city.pending(self.cursor, 3))
            later = list(self.ledger.received)
            later = later[later.index(self.read_up_to) + 1 :]
            expected = [self.ledger.received[i] for i in later if i not in self.ledger.sealed]
            assert list(page.transactions) == expected[:3], (
                "a page goes on after the last transaction of the one before, sealed or not"
            )

    def teardown(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()
