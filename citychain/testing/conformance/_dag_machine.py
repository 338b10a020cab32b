"""DAG tests: any sequence of rounds, each held to the model, and in the end repeated as a whole."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from citychain._native.transactions import Transaction
from citychain.client.actions import Transfer
from citychain.testing.conformance._dag_city import DagCity, Part, difference
from citychain.testing.conformance._dag_view import View
from citychain.testing.conformance._purity import InTurn
from citychain.testing.conformance._rounds import ASSET, FUNDS, id_of

__all__ = ["DagMachine"]

people = st.integers(0, 2)
objects = st.dictionaries(st.sampled_from(["a", "b", "ü"]), st.integers(0, 3), max_size=2)


class DagMachine(RuleBasedStateMachine):
    """Residents write, pay, and depend on each other, and rounds are decided by an instance that
    lives as long as the city, and by one that is new each time."""

    def part(self) -> Part:
        """The rule that is tested."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._whole = False
        """Each round so far was decided as it must be."""

    @initialize(hold_rounds=st.integers(1, 4))
    def found(self, hold_rounds: int) -> None:
        self.city = DagCity(self.part(), InTurn(), hold_rounds=hold_rounds)
        self.rule = self._runner.run(
            self._stack.enter_async_context(self.city.rule(server=True, compute=InTurn()))
        )
        self.new: list[Transaction] = []
        """What waits for its first round."""
        self.late: list[Transaction] = []
        """What others may depend on, and nobody has sent."""
        self.known: list[bytes] = []
        self._whole = True

    # --- residents

    def _dependencies(self, picks: list[int]) -> list[bytes]:
        known = self.known[-10:]
        return list(dict.fromkeys(known[pick % len(known)] for pick in picks)) if known else []

    def _made(self, transaction: Transaction, late: bool) -> None:
        (self.late if late else self.new).append(transaction)
        self.known.append(transaction.tx_id)

    @rule(
        author=people,
        picks=st.lists(st.integers(0, 9), max_size=3),
        reads=objects,
        writes=objects,
        valid_ms=st.none() | st.integers(-1, 4_000),
        late=st.booleans(),
    )
    def write(
        self,
        author: int,
        picks: list[int],
        reads: dict[str, int],
        writes: dict[str, int],
        valid_ms: int | None,
        late: bool,
    ) -> None:
        """Somebody records something."""
        until = None if valid_ms is None else self.city.rounds.time_ms + valid_ms
        note = self.city.note(
            author,
            depends_on=self._dependencies(picks),
            reads=reads,
            writes=writes,
            valid_until_ms=until,
        )
        self._made(note, late)

    @rule(
        payer=people,
        payee=people,
        amount=st.sampled_from([1, 30, FUNDS, FUNDS + 1, (1 << 64) - 1]),
        picks=st.lists(st.integers(0, 9), max_size=1),
        late=st.booleans(),
    )
    def pay(self, payer: int, payee: int, amount: int, picks: list[int], late: bool) -> None:
        """Somebody pays, himself too."""
        keys = self.city.part.authors
        transfer = Transfer(ASSET, id_of(keys[payee]), amount)
        depends_on = self._dependencies(picks)
        self._made(self.city.rounds.sign(keys[payer], transfer, depends_on=depends_on), late)

    @precondition(lambda self: self.late)
    @rule(pick=st.integers(0, 9))
    def arrive(self, pick: int) -> None:
        """What others wait for comes."""
        self.new.append(self.late.pop(pick % len(self.late)))

    @precondition(lambda self: self.known)
    @rule(pick=st.integers(0, 9))
    def refuse(self, pick: int) -> None:
        """The consensus step finds something wrong with it, from the next round on."""
        self.city.refuse(self.known[-1 - pick % len(self.known)])

    # --- the city

    @rule(seed=st.integers(0, 1 << 16), later_ms=st.sampled_from([0, 1, 2_000]))
    def decide(self, seed: int, later_ms: int) -> None:
        """A round, of what has come, in any order."""
        batch, self.new = self.new, []
        choose = random.Random(seed)
        choose.shuffle(batch)
        self.city.rounds.time_ms += later_ms
        self._whole = False
        self._runner.run(self._decide(batch, choose))
        self._whole = True

    async def _decide(self, batch: list[Transaction], choose: random.Random) -> None:
        asked = self.city.question(batch)
        decision = await self.city.ask(self.rule, asked)
        async with self.city.rule(compute=InTurn()) as other:
            view = View(self.city.rounds.storage, order=choose)
            differs = difference(await self.city.ask(other, asked, view), decision)
        assert differs is None, f"where an instance that is new says the former, {differs}"
        await self.city.commit(decision, batch)

    def teardown(self) -> None:
        """Repeat the whole city."""
        try:
            if self._whole:
                self._runner.run(self.city.replay())
        finally:
            self._runner.run(self._stack.aclose())
            self._runner.close()
