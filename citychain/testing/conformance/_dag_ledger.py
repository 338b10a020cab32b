"""What every rule must keep, as a plain model that no rule can argue with.

It decides nothing: it is shown a decision and says what is wrong with it. Which of several
transactions are approved, in what order, with which parents, is the rule's to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from citychain._native.transactions import Transaction
from citychain.genesis import Genesis, balance_object, stake_account
from citychain.ports import RoundContext
from citychain.testing.conformance._between import settle_between
from citychain.types import Decision, NodeRef, Parent, Rejection, SealedNode, SealedRound

__all__ = ["LedgerModel", "Question", "place_of"]

PARENTS_MAX: Final = 8
CODE: Final = re.compile(r"[A-Z0-9_]{1,32}")
REASON_BYTES_MAX: Final = 255
SETTLED: Final = (
    "$balance/",
    "$peer/",
    "$peer-name/",
    "$outbox/",
    "$inbox/",
    "$anchor/",
    "$reward/",
)
"""How names of objects begin that change by what is settled alone."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a rule is asked about a round, but for the ledger."""

    round: RoundContext
    candidates: Sequence[Transaction]
    held_since: Sequence[int]
    refused: Mapping[int, Rejection]


def _name_of(transaction: Transaction) -> str:
    """How messages speak of it."""
    return f"transaction {transaction.tx_id.hex()[:12]}"


def place_of(parent: object) -> str:
    """How messages speak of a parent."""
    if isinstance(parent, NodeRef):
        return f"({parent.round}, {parent.seq}, {parent.node_id.hex()[:12]})"
    return repr(parent)


class LedgerModel:
    """The ledger before a round, kept in plain dicts."""

    def __init__(self, genesis: Genesis) -> None:
        self._hold_rounds = genesis.hold_rounds
        self._root = NodeRef(0, 0, genesis.id)
        self._linked: set[NodeRef] = set()
        self._approved: dict[bytes, bool] = {}
        """Sealed transactions: whether they were approved."""
        self._objects = {write[0]: (write[1], write[2]) for write in genesis.initial_objects()}

    def commit(self, sealed: SealedRound, nodes: Sequence[SealedNode]) -> None:
        """Move on to after a round that was checked."""
        self._linked.update(node.ref for node in nodes if node.rejection is None)
        self._approved.update((node.tx_id, node.rejection is None) for node in nodes)
        self._objects.update({write[0]: (write[1], write[2]) for write in sealed.writes})

    def check(self, asked: Question, decision: Decision) -> None:
        """Fail unless the decision keeps what every rule must keep."""
        order = decision.order
        assert len(order) == len(decision.verdicts) == len(decision.parents), (
            f"the rule sealed {len(order)} transactions with {len(decision.verdicts)} verdicts "
            f"and {len(decision.parents)} parents: there must be one of each for each"
        )
        self._check_placed_once(asked, decision)
        self._check_held(asked, decision)
        self._check_verdicts(asked, decision)
        self._check_parents(asked, decision)
        self._check_writes(decision, self._settled(asked, decision))

    def _check_placed_once(self, asked: Question, decision: Decision) -> None:
        placed = Counter(item.tx_id for item in (*decision.order, *decision.held))
        for index, candidate in enumerate(asked.candidates):
            count = placed.pop(candidate.tx_id, 0)
            assert count > 0, (
                f"the rule lost candidates[{index}] ({_name_of(candidate)}, held since round "
                f"{asked.held_since[index]}): each candidate must be in `order` or in `held`"
            )
            assert count == 1, (
                f"the rule placed candidates[{index}] ({_name_of(candidate)}) {count} times: each "
                "candidate must be in `order` or in `held`, once"
            )
        assert not placed, f"the rule made up {len(placed)} transactions that are no candidates"

    def _check_held(self, asked: Question, decision: Decision) -> None:
        since_by_id = {
            candidate.tx_id: since
            for candidate, since in zip(asked.candidates, asked.held_since, strict=True)
        }
        for transaction in decision.held:
            since = since_by_id[transaction.tx_id]
            assert since == 0 or asked.round.round < since + self._hold_rounds, (
                f"the rule holds {_name_of(transaction)} in round {asked.round.round}, since round "
                f"{since}: it must be sealed, if need be rejected, by round "
                f"{since + self._hold_rounds} (Genesis.hold_rounds is {self._hold_rounds})"
            )

    def _check_verdicts(self, asked: Question, decision: Decision) -> None:
        verdicts = {
            item.tx_id: verdict
            for item, verdict in zip(decision.order, decision.verdicts, strict=True)
        }
        for index, refusal in asked.refused.items():
            refused = asked.candidates[index]
            assert refused.tx_id in verdicts, (
                f"the rule holds {_name_of(refused)}, which the consensus step refused: it must be "
                "rejected in this round"
            )
            assert verdicts[refused.tx_id] == refusal, (
                f"the consensus step refused {_name_of(refused)} with {refusal!r}; the rule says "
                f"{verdicts[refused.tx_id]!r}: a refusal must stand as it is"
            )
        for verdict in verdicts.values():
            if verdict is None:
                continue
            assert isinstance(verdict, Rejection), (
                f"the verdict {verdict!r} is neither None nor a citychain.Rejection"
            )
            assert CODE.fullmatch(verdict.code), (
                f"the code {verdict.code!r} is not 1 to 32 characters of A-Z, 0-9 and _"
            )
            assert len(verdict.reason.encode()) <= REASON_BYTES_MAX, (
                f"the reason {verdict.reason!r} has more than {REASON_BYTES_MAX} bytes of UTF-8"
            )

    def _check_parents(self, asked: Question, decision: Decision) -> None:
        for seq, parents in enumerate(decision.parents):
            node = f"{_name_of(decision.order[seq])} at seq {seq}"
            if decision.verdicts[seq] is not None:
                assert not parents, f"{node} is rejected and has parents: it must have none, ()"
                continue
            assert 1 <= len(parents) <= PARENTS_MAX, (
                f"{node} is approved and has {len(parents)} parents: a node has 1 to "
                f"{PARENTS_MAX}; the genesis, NodeRef(0, 0, round.genesis), where there is no other"
            )
            assert len(set(parents)) == len(parents), f"{node} has the same parent twice"
            for parent in parents:
                wrong = self._wrong_parent(parent, seq, decision)
                assert wrong is None, f"{node} has the parent {place_of(parent)}, {wrong}"

    def _wrong_parent(self, parent: Parent, seq: int, decision: Decision) -> str | None:
        if isinstance(parent, NodeRef):
            if parent == self._root or parent in self._linked:
                return None
            return "which is no linked node of an earlier round and not the genesis"
        if not isinstance(parent, int) or isinstance(parent, bool):
            return "which is neither a NodeRef nor the seq of an earlier node of this round"
        if not 0 <= parent < seq:
            return "which does not come before it: a parent has a smaller (round, seq)"
        if decision.verdicts[parent] is not None:
            return "which is rejected: only a linked node can be a parent"
        return None

    def _settled(self, asked: Question, decision: Decision) -> dict[str, tuple[int, bytes]]:
        """The objects that those approved leave changed, one after the other."""
        approved = dict(self._approved)
        changed: dict[str, tuple[int, bytes]] = {}
        for transaction, verdict in zip(decision.order, decision.verdicts, strict=True):
            if verdict is None:
                against = self._apply(transaction, asked.round.time_ms, approved, changed)
                assert against is None, f"{_name_of(transaction)} was approved, though {against}"
            approved[transaction.tx_id] = verdict is None
        return changed

    def _apply(
        self,
        transaction: Transaction,
        now_ms: int,
        approved: Mapping[bytes, bool],
        changed: dict[str, tuple[int, bytes]],
    ) -> str | None:
        """Note what an approved transaction changes, or say what speaks against it."""
        until = transaction.valid_until_ms
        if until is not None and until < now_ms:
            return f"it was valid until {until} ms and the round is at {now_ms} ms"
        for tx_id in transaction.depends_on:
            if not approved.get(tx_id, False):
                what = "was rejected" if tx_id in approved else "has no place before it"
                return f"its dependency {tx_id.hex()[:12]} {what}"
        for name, version in (*transaction.reads, *transaction.writes):
            stands = self._get(name, changed)[0]
            if stands != version:
                return f"{name!r} stands at version {stands}, not {version}"
        for payer, payee, asset, amount in _payments(transaction):
            left = self._move(balance_object(asset, payer), -amount, changed)
            if left < 0:
                return f"it moves {amount} {asset} where there are {left + amount}"
            had = self._move(balance_object(asset, payee), amount, changed)
            if had >= 1 << 64:
                return "the payee's balance does not fit into 64 bits"
        against = settle_between(
            transaction,
            lambda name: self._value(name, changed),
            lambda name, value: self._put(name, value, changed),
            lambda name, amount: self._moved(name, amount, changed),
        )
        if against is not None:
            return against
        for name, version in transaction.writes:
            changed[name] = (version + 1, transaction.tx_id)
        return None

    def _get(self, name: str, changed: Mapping[str, tuple[int, bytes]]) -> tuple[int, bytes]:
        return changed.get(name) or self._objects.get(name) or (0, b"")

    def _value(self, name: str, changed: Mapping[str, tuple[int, bytes]]) -> bytes | None:
        version, value = self._get(name, changed)
        return value if version else None

    def _put(self, name: str, value: bytes, changed: dict[str, tuple[int, bytes]]) -> None:
        changed[name] = (self._get(name, changed)[0] + 1, value)

    def _moved(self, name: str, amount: int, changed: dict[str, tuple[int, bytes]]) -> str | None:
        balance = self._move(name, amount, changed)
        return None if 0 <= balance < 1 << 64 else f"{name} would come to {balance}"

    def _move(self, name: str, amount: int, changed: dict[str, tuple[int, bytes]]) -> int:
        version, value = self._get(name, changed)
        balance = int.from_bytes(value) + amount
        if 0 <= balance < 1 << 64:
            changed[name] = (version + 1, balance.to_bytes(8))
        return balance

    def _check_writes(self, decision: Decision, due: Mapping[str, tuple[int, bytes]]) -> None:
        names = [write.object for write in decision.writes]
        assert names == sorted(set(names)), "`writes` must be sorted by object, each object once"
        written = {write.object: (write.version, write.value) for write in decision.writes}
        for name in sorted(due.keys() | written.keys()):
            if name in due:
                assert written.get(name) == due[name], (
                    f"the round writes {name!r} as {_shown(written.get(name))}; what it approved "
                    f"leaves it as {_shown(due[name])}"
                )
                continue
            before = self._get(name, {})[0]
            own = name.startswith("$") and not name.startswith(SETTLED)
            assert own, f"the round writes {name!r}, which nothing that it approved changes"
            assert written[name][0] > before, (
                f"the round writes {name!r} at version {written[name][0]}, where it stands at "
                f"{before}: versions grow"
            )


def _payments(transaction: Transaction) -> Iterator[tuple[bytes, bytes, str, int]]:
    """What it moves: from whose balance to whose, the asset, the amount."""
    author, stake = transaction.author, transaction.stake
    if transaction.transfer is not None:
        asset, payee, amount = transaction.transfer
        yield author, payee, asset, amount
    elif stake is not None:
        accounts = (author, stake_account(author))
        payer, payee = accounts if transaction.action == "candidacy" else accounts[::-1]
        yield payer, payee, stake.asset, stake.amount


def _shown(state: tuple[int, bytes] | None) -> str:
    return "nothing" if state is None else f"version {state[0]}, value {state[1].hex()}"
