"""City tests: any sequence of what people do, compared with a dict of ids and states."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from citychain.client.transactions import SignedTransaction
from citychain.handler import Received
from citychain.receipt import Receipt
from citychain.rpc.messages import Refused
from citychain.testing.conformance._city_history import sealed_ids, verify
from citychain.testing.conformance._city_session import Cities, Serving, Sign
from citychain.types import State

__all__ = ["CityMachine"]


class CityMachine(RuleBasedStateMachine):
    """A city's life. The model: what was submitted, and what of it is known to be final."""

    def subject(self) -> tuple[Cities, Sign]:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.cities, self.sign = self.subject()
        self.city = self.cities()
        self.sent: dict[bytes, SignedTransaction] = {}
        self.final: set[bytes] = set()
        self.receipts: dict[bytes, Receipt] = {}
        self._runner = asyncio.Runner()
        self._runner.run(self._open())

    async def _open(self) -> None:
        self._serving: AbstractAsyncContextManager[Serving] = self.city.serve()
        self.serving = await self._serving.__aenter__()

    async def _close(self) -> None:
        await self._serving.__aexit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        """With something: most of what can be done is about what was submitted."""
        self._runner.run(self._submit(2, key=0))

    @rule(number=st.integers(1, 4), key=st.integers(0, 2))
    def submit(self, number: int, key: int) -> None:
        self._runner.run(self._submit(number, key))

    async def _submit(self, number: int, key: int) -> None:
        batch = await self.sign(self.serving.client, number, key=key)
        results = await self.serving.client.submit(batch)
        assert results == [Received(it.tx_id, State.RECEIVED, False) for it in batch]
        self.sent.update({signed.tx_id: signed for signed in batch})

    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        order = list(self.sent)
        indexes = data.draw(st.lists(st.integers(0, len(order) - 1), min_size=1, max_size=4))
        again = [self.sent[order[index]] for index in indexes]
        results = self._runner.run(self.serving.client.submit(again))
        for signed, result in zip(again, results, strict=True):
            assert isinstance(result, Received), f"a repeat was refused: {result}"
            assert (result.tx_id, result.duplicate) == (signed.tx_id, True)
            self._note(signed.tx_id, result.state)

    @rule(garbage=st.binary(max_size=40))
    def submit_garbage(self, garbage: bytes) -> None:
        [result] = self._runner.run(self.serving.client.submit([garbage]))
        assert isinstance(result, Refused), f"{garbage!r} was received"

    @precondition(lambda self: self.sent.keys() - self.final)
    @rule()
    def wait(self) -> None:
        events = self._runner.run(self.serving.client.wait(list(self.sent)))
        for tx_id in self.sent:
            self._note(tx_id, events[tx_id].state)
            assert tx_id in self.final

    @rule()
    def read_states(self) -> None:
        unknown = os.urandom(32)
        states = self._runner.run(self.serving.client.status([*self.sent, unknown]))
        assert states.keys() == self.sent.keys()
        for tx_id, status in states.items():
            self._note(tx_id, status.state)

    @rule()
    def read_receipts(self) -> None:
        self._runner.run(self._read_receipts())

    async def _read_receipts(self) -> None:
        receipts = await self.serving.client.receipts([*self.sent, os.urandom(32)])
        assert self.final <= receipts.keys() <= self.sent.keys(), (
            "what is final has a receipt, and nothing else has"
        )
        verify(receipts, await self.serving.genesis())
        for tx_id, receipt in receipts.items():
            assert self.receipts.setdefault(tx_id, receipt) == receipt, "a receipt changed"
            self._note(tx_id, State.APPROVED if receipt.node_id else State.REJECTED)

    @rule()
    def restart(self) -> None:
        self._runner.run(self._close())
        self._runner.run(self._open())

    def _note(self, tx_id: bytes, state: State) -> None:
        assert state is State.APPROVED or (state < State.APPROVED and tx_id not in self.final), (
            f"a transaction is {state.name} that should be approved"
            + (", and was" if tx_id in self.final else "")
        )
        if state is State.APPROVED:
            self.final.add(tx_id)

    def teardown(self) -> None:
        try:
            if self.sent:
                self.wait()
            sealed = self._runner.run(sealed_ids(self.serving.client))
            ours = sorted(tx_id for tx_id in sealed if tx_id in self.sent)
            assert ours == sorted(self.sent), "not everything stands in the ledger once"
        finally:
            self._runner.run(self._close())
            self._runner.run(self.city.close())
            self._runner.close()
