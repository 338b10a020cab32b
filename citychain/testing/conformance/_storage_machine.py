"""Storage tests: any sequence of calls, compared with the ledger after each."""

from __future__ import annotations

import asyncio
import os
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
        self.ledger.genesis = os.urandom(32)  # Also a replayed run has a new city.
        self._open()

    def _open(self) -> None:
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

    @rule()
    def take_the_lease(self) -> None:
        epoch = self._runner.run(self.city.acquire_lease("me", TTL))
        assert epoch is not None
        assert epoch > self.ledger.epoch
        with pytest.raises(LeaseLost):
            self._runner.run(self.city.commit(self.ledger.round([], epoch=epoch - 1)))
        self.ledger.epoch = epoch
        sealed = self.ledger.round([])
        self._runner.run(self.city.commit(sealed))
        self.ledger.commit(sealed)

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

    def teardown(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()
