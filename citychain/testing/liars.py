"""Sequencers that lie: parts that stand in front of the real ones and bend what they say.

Given as overrides, like the fakes of `citychain.testing`::

    overrides={"tokyo": {"dag": LyingDag("approve what is rejected")}}

An honest representative must find each of them out; `DAG_LIES` and `CONSENSUS_LIES`
name them all. A lie is told as soon as a round gives the occasion. `false_vote` is how
a representative lies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from citychain import checkpoint
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.nearest import unknown
from citychain.ports import ConsensusStep, DagHandler, Judgement
from citychain.testing.recording import Call, Recording
from citychain.types import (
    CastVote,
    Decision,
    NodeRef,
    ObjectWrite,
    Parent,
    PohEntry,
    Rejection,
    Seat,
    Vote,
)

__all__ = ["CONSENSUS_LIES", "DAG_LIES", "LyingConsensus", "LyingDag", "false_vote"]

Change = Callable[[Decision], Decision | None]


def _approve(decision: Decision) -> Decision | None:
    """A rejected transaction is passed off as approved."""
    rejected = [seq for seq, verdict in enumerate(decision.verdicts) if verdict is not None]
    if not rejected:
        return None
    verdicts, parents = list(decision.verdicts), list(decision.parents)
    verdicts[rejected[0]] = None
    parents[rejected[0]] = _earlier_only(decision, ())
    return replace(decision, verdicts=verdicts, parents=parents)


def _reject(decision: Decision) -> Decision | None:
    """A good transaction is turned away."""
    leaves = _without_children(decision)
    if not leaves:
        return None
    verdicts, parents = list(decision.verdicts), list(decision.parents)
    verdicts[leaves[-1]] = Rejection("CONFLICT", "because I say so")
    parents[leaves[-1]] = ()
    return replace(decision, verdicts=verdicts, parents=parents)


def _alter_reason(decision: Decision) -> Decision | None:
    """A rejection is given another reason than the rules give."""
    verdicts = list(decision.verdicts)
    for seq, verdict in enumerate(verdicts):
        if verdict is not None:
            verdicts[seq] = Rejection(verdict.code, verdict.reason + " (more or less)")
            return replace(decision, verdicts=verdicts)
    return None


def _drop(decision: Decision) -> Decision | None:
    """A transaction that could be sealed is left waiting."""
    leaves = _without_children(decision)
    if not leaves or leaves[-1] != len(decision.order) - 1:
        return None
    return replace(
        decision,
        order=decision.order[:-1],
        verdicts=decision.verdicts[:-1],
        parents=decision.parents[:-1],
        held=[*decision.held, decision.order[-1]],
    )


def _reorder(decision: Decision) -> Decision | None:
    """A transaction is put before one that it depends on."""
    place = {item.tx_id: seq for seq, item in enumerate(decision.order)}
    for seq, item in enumerate(decision.order):
        befores = [place[tx_id] for tx_id in item.depends_on if tx_id in place]
        if befores and decision.verdicts[seq] is None:
            order = list(range(len(decision.order)))
            order.insert(min(befores), order.pop(seq))
            return replace(
                decision,
                order=[decision.order[index] for index in order],
                verdicts=[decision.verdicts[index] for index in order],
                parents=[
                    parents and _earlier_only(decision, parents)
                    for parents in (decision.parents[index] for index in order)
                ],
            )
    return None


def _alter_parents(decision: Decision) -> Decision | None:
    """A node is linked otherwise than the rule says."""
    for seq, parents in enumerate(decision.parents):
        if len(parents) > 1:
            changed = list(decision.parents)
            changed[seq] = parents[:-1]
            return replace(decision, parents=changed)
    return None


def _alter_balance(decision: Decision) -> Decision | None:
    """A balance is left larger than it is."""
    writes = list(decision.writes)
    for index, (object, version, value) in enumerate(writes):
        if object.startswith("$balance/"):
            more = int.from_bytes(value, "big") + 1_000
            writes[index] = ObjectWrite(object, version, more.to_bytes(8, "big"))
            return replace(decision, writes=writes)
    return None


def _without_children(decision: Decision) -> list[int]:
    """Approved ones, by seq, that nothing else of the round hangs on."""
    named = {
        parent for parents in decision.parents for parent in parents if isinstance(parent, int)
    }
    return [
        seq
        for seq, (item, verdict) in enumerate(zip(decision.order, decision.verdicts, strict=True))
        if verdict is None and seq not in named and item.action == "data" and not item.writes
    ]


def _earlier_only(decision: Decision, parents: tuple[Parent, ...]) -> tuple[Parent, ...]:
    """Parents of earlier rounds, or the genesis."""
    earlier = tuple(parent for parent in parents if not isinstance(parent, int))
    return earlier or (NodeRef(0, 0, decision.order[0].genesis),)


DAG_LIES: Final[Mapping[str, Change]] = {
    "approve what is rejected": _approve,
    "reject what is good": _reject,
    "alter a reason": _alter_reason,
    "keep one back": _drop,
    "put one before what it depends on": _reorder,
    "link one otherwise": _alter_parents,
    "make money": _alter_balance,
}
"""What a lying DAG handler can do, by name."""


def false_vote(key: SigningKey, genesis: bytes, round: int) -> CastVote:
    """A vote, well signed, for a checkpoint of a round that nobody sealed."""
    checkpoint_hash = b"\x77" * 32
    message = checkpoint.vote_message(genesis, round, checkpoint_hash)
    signature = key.sign(message, checkpoint.VOTE_CONTEXT)
    return CastVote(round, checkpoint_hash, Vote(key_id(key.public_key), signature))


class _Lying(Recording):
    """Bends what a part says, and counts how often."""

    def __init__(self, lie: str, lies: Collection[str]) -> None:
        if lie not in lies:
            raise ValueError(unknown("lie", lie, lies))
        super().__init__()
        self.told = 0
        """How many rounds held the lie."""

    def _after(self, call: Call, result: Any) -> Any:
        bent = self._bent(call.name, result)
        if bent is None or bent == result:
            return result
        self.told += 1
        return bent

    def _bent(self, method: str, said: Any) -> Any:
        """Something else than what a method said; ``None`` where it is no occasion."""
        raise NotImplementedError


class LyingDag(_Lying):
    """A DAG handler whose decisions are bent, whenever they can be."""

    _port = DagHandler

    def __init__(self, lie: str) -> None:
        super().__init__(lie, DAG_LIES)
        self._change = DAG_LIES[lie]

    def _bent(self, method: str, said: Any) -> Any:
        return self._change(said) if method == "decide" else None


def _forget_refusals(judgement: Judgement) -> Judgement:
    """Whoever was nowhere is let in."""
    return replace(judgement, refused={})


def _seat_a_stranger(judgement: Judgement) -> Judgement:
    """Another committee is named for the next epoch."""
    return replace(judgement, next_committee=(Seat(b"\x77" * 32, 1),))


def _alter_pop(judgement: Judgement) -> Judgement:
    """A judgement of place is made up."""
    return replace(judgement, pops=[b"\x77" * 32 for _ in judgement.pops or ()])


JUDGEMENT_LIES: Final[Mapping[str, Callable[[Judgement], Judgement]]] = {
    "let anybody in": _forget_refusals,
    "seat a stranger": _seat_a_stranger,
    "make up a presence": _alter_pop,
}
SEAL_LIES: Final[Mapping[str, Callable[[PohEntry], PohEntry]]] = {
    "make up the hashing": lambda entry: entry._replace(hash=b"\x77" * 32),
    "hash less": lambda entry: entry._replace(num_hashes=max(1, entry.num_hashes - 1)),
}
CONSENSUS_LIES: Final[Sequence[str]] = (*JUDGEMENT_LIES, *SEAL_LIES)
"""What a lying consensus step can do, by name."""


class LyingConsensus(_Lying):
    """A consensus step whose judgement or sealing is bent, whenever it can be."""

    _port = ConsensusStep

    def __init__(self, lie: str) -> None:
        super().__init__(lie, CONSENSUS_LIES)
        self._judgement_lie = JUDGEMENT_LIES.get(lie)
        self._seal_lie = SEAL_LIES.get(lie)

    def _bent(self, method: str, said: Any) -> Any:
        lie = {"judge": self._judgement_lie, "seal": self._seal_lie}.get(method)
        return lie and lie(said)
