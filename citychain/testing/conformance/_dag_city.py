"""The city of a rule that is tested: it is asked about rounds, and each answer is checked."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import pytest
from pydantic import BaseModel, ValidationError

from citychain._native.transactions import Transaction
from citychain.consensus.steps import SealedByHistory
from citychain.crypto.signatures import SigningKey
from citychain.genesis import Genesis
from citychain.hooks.definitions import DagDefinition
from citychain.ports import (
    Compute,
    DagHandler,
    Judgement,
    RoundContext,
    StateView,
    StoredRound,
)
from citychain.testing.conformance._dag_ledger import LedgerModel, Question, place_of
from citychain.testing.conformance._dag_view import Clockless, View
from citychain.testing.conformance._rounds import (
    AUTHORS,
    OPERATOR,
    Ordinary,
    Played,
    Rounds,
    Traffic,
    new_genesis,
)
from citychain.types import Certificate, Decision, ObjectWrite, Rejection, Verdict

__all__ = ["HELD", "REFUSAL", "DagCity", "Part", "difference", "entered"]

HELD: Final = Rejection("HELD", "waits")
"""What `DagCity.said` gives for a transaction that is held."""
REFUSAL: Final = Rejection("REFUSED", "by the consensus step")
ACTIONS: Final = frozenset(
    ("presence", "candidacy", "withdrawal", "witness", "equivocation", "recovery")
)


class Judge(SealedByHistory):
    """A consensus step that refuses the transactions that a test tells it to."""

    refusals: Mapping[bytes, tuple[int, Rejection]]

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        refused = _refused(self.refusals, round.round, candidates)
        return Judgement(self.city.genesis.seats, refused=refused, actions=ACTIONS)

    async def approve(self, round: StoredRound) -> Certificate:
        raise NotImplementedError("nobody asks for it")


def _refused(
    refusals: Mapping[bytes, tuple[int, Rejection]], round: int, candidates: Sequence[Transaction]
) -> dict[int, Rejection]:
    return {
        index: refusal[1]
        for index, candidate in enumerate(candidates)
        if (refusal := refusals.get(candidate.tx_id)) is not None and refusal[0] <= round
    }


class _Decided:
    """A `DagHandler` whose decision was made."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    async def decide(self, *asked: object) -> Decision:
        return self._decision


class Part:
    """The rule that is tested, as its definition offers it, with its options.

    Args:
        ordinary: Makes actions that the rule has nothing against.
        authors: Who signs; at least three.
    """

    def __init__(
        self,
        definition: DagDefinition,
        options: BaseModel,
        ordinary: Ordinary,
        authors: Sequence[SigningKey] = AUTHORS,
    ) -> None:
        self.definition = definition
        self.options = options
        self.ordinary = ordinary
        self.authors = authors

    def genesis(self, **fields: Any) -> Genesis:
        """Of a city that goes by the rule."""
        try:
            return new_genesis(
                self.authors,
                rule=self.definition.rule,
                rule_options=self.options.model_dump(mode="json"),
                **fields,
            )
        except ValidationError as error:
            raise AssertionError(f"no genesis can pin this rule and its options: {error}") from None


class DagCity:
    """A city whose next round the rule is asked about.

    Args:
        fields: Of the genesis.
    """

    def __init__(self, part: Part, compute: Compute, **fields: Any) -> None:
        self.part = part
        self.clock = Clockless()
        self.rounds = Rounds(part.genesis(**fields), compute, part.authors)
        self.model = LedgerModel(self.rounds.genesis)
        self._refusals: dict[bytes, tuple[int, Rejection]] = {}
        """By transaction id, what the consensus step refuses, and from which round on."""
        self._choose = random.Random(0)

    # --- the rule

    def make(
        self, *, server: bool = False, compute: Compute | None = None, options: Any = None
    ) -> DagHandler:
        """A new instance, that of a server or that of somebody who follows the city; it is
        not entered."""
        context = self.rounds.context(
            clock=self.clock,
            compute=compute,
            operator=OPERATOR if server else None,
            representatives=(OPERATOR,) if server else (),
            with_storage=server,
        )
        return self.part.definition.factory(
            self.part.options if options is None else options, context
        )

    @asynccontextmanager
    async def rule(self, **how: Any) -> AsyncIterator[DagHandler]:
        """A new instance, entered if that is what it is for. See `make`."""
        async with entered(self.make(**how)) as rule:
            yield rule

    # --- transactions

    def note(self, author: int = 0, **fields: Any) -> Transaction:
        """An ordinary transaction; see `Signer`."""
        key = self.part.authors[author]
        return self.rounds.sign(key, self.part.ordinary(self._choose), **fields)

    def traffic(self, seed: int) -> Traffic:
        """Random transactions for this city."""
        return Traffic(self.rounds, seed, self.part.ordinary)

    async def needs(self, transaction: Transaction, what: str) -> None:
        """Skip the test if the rule rejects such a transaction by itself."""
        async with self.rule() as rule:
            verdict = self.said(await self.ask(rule, [transaction]), transaction)
        if verdict is not None:
            pytest.skip(f"the rule does not approve {what} ({verdict.code}: {verdict.reason})")

    def refuse(self, tx_id: bytes, refusal: Rejection = REFUSAL) -> None:
        """Have the consensus step refuse it from the next round on."""
        self._refusals.setdefault(tx_id, (self.rounds.round.round, refusal))

    # --- rounds

    def question(self, new: Sequence[Transaction]) -> Question:
        """About the next round, with these new candidates."""
        candidates = self.rounds.candidates(new)
        refused = _refused(self._refusals, self.rounds.round.round, candidates.transactions)
        return Question(self.rounds.round, candidates.transactions, candidates.held_since, refused)

    async def ask(
        self,
        rule: DagHandler,
        new: Sequence[Transaction] | Question,
        view: StateView | None = None,
    ) -> Decision:
        """The rule's decision on the next round; nothing is sealed.

        Raises:
            AssertionError: it is not what every rule must keep.
        """
        asked = new if isinstance(new, Question) else self.question(new)
        window = view or View(self.rounds.storage)
        decision = await rule.decide(
            asked.round, asked.candidates, asked.held_since, asked.refused, window
        )
        assert isinstance(decision, Decision), (
            f"decide returned {type(decision).__name__}, not a citychain Decision"
        )
        assert not self.clock.asked, "the rule asked city.clock: it may use round.time_ms alone"
        self.model.check(asked, decision)
        return decision

    async def seal(self, rule: DagHandler, new: Sequence[Transaction] = ()) -> Decision:
        """Have the rule decide the next round, and commit it."""
        decision = await self.ask(rule, new)
        await self.commit(decision, new)
        return decision

    async def settle(self, rule: DagHandler, new: Sequence[Transaction]) -> list[Verdict]:
        """Seal these, and empty rounds until nothing waits; the verdict on each."""
        await self.seal(rule, new)
        for _ in range(self.rounds.genesis.hold_rounds):
            await self.seal(rule)
        sealed = await self.rounds.storage.find([item.tx_id for item in new])
        return [sealed[item.tx_id].rejection for item in new]

    async def commit(self, decision: Decision, new: Sequence[Transaction]) -> Played:
        """Commit the next round as it was decided."""
        played = await self.rounds.seal(_Decided(decision), self._judge(), new)
        nodes = await self.rounds.storage.round_nodes(played.sealed.round)
        self.model.commit(played.sealed, nodes)
        return played

    async def replay(self) -> None:
        """Have another instance repeat the whole city from what is published."""
        async with self.rule() as rule:
            await self.rounds.replay(rule, self._judge())

    def said(self, decision: Decision, transaction: Transaction) -> Verdict:
        """The verdict on a candidate; `HELD` if it is held."""
        said: Mapping[bytes, Verdict] = {
            item.tx_id: verdict
            for item, verdict in zip(decision.order, decision.verdicts, strict=True)
        }
        return said.get(transaction.tx_id, HELD)

    def _judge(self) -> Judge:
        judge = Judge(self.rounds.context())
        judge.refusals = self._refusals
        return judge


@asynccontextmanager
async def entered(made: DagHandler) -> AsyncIterator[DagHandler]:
    """Enter and leave it if it is an async context manager, as a city does."""
    if isinstance(made, AbstractAsyncContextManager):
        async with made as rule:
            yield rule
    else:
        yield made


def difference(first: Decision, second: Decision) -> str | None:
    """The first thing in which two decisions differ."""
    for name in ("order", "verdicts", "parents", "held", "writes"):
        one, other = list(getattr(first, name)), list(getattr(second, name))
        if name in ("order", "held"):
            one, other = ([item.tx_id for item in items] for items in (one, other))
        if one != other:
            for index, (here, there) in enumerate(zip(one, other, strict=False)):
                if here != there:
                    return f"{name}[{index}] was {_shown(here)} and then {_shown(there)}"
            return f"`{name}` had {len(one)} entries and then {len(other)}"
    return None


def _shown(entry: object) -> str:
    """An entry of a decision, short."""
    if isinstance(entry, bytes):
        return f"transaction {entry.hex()[:12]}"
    if isinstance(entry, tuple) and not isinstance(entry, (Rejection, ObjectWrite)):
        return f"[{', '.join(map(place_of, entry))}]"
    return repr(entry)
