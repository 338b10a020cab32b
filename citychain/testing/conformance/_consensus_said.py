"""What a consensus step said of a round: to be compared, and held to its layout."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from citychain._native.transactions import Transaction
from citychain.ports import Compute, ConsensusStep, Judgement, RoundContext, StateView
from citychain.types import Rejection, Seat

__all__ = ["Said", "ask", "check_committee", "check_judgement", "check_written"]

PLAIN: Final = frozenset(("data", "transfer"))
ACTIONS: Final = frozenset(
    ("presence", "candidacy", "withdrawal", "witness", "equivocation", "recovery")
)
"""What a step can give a meaning to."""

SEATS_MAX: Final = 1_024
STAKE_MAX: Final = (1 << 63) - 1
CODE: Final = re.compile(r"[A-Z0-9_]{1,32}")
REASON_BYTES_MAX: Final = 255
OBJECT_BYTES_MAX: Final = 255
VALUE_BYTES_MAX: Final = 16_384
OF_RULES: Final = (
    "$balance/",
    "$peer/",
    "$peer-name/",
    "$outbox/",
    "$inbox/",
    "$anchor/",
    "$reward/",
)
"""How names of objects begin that the DAG rule writes."""


@dataclass(frozen=True)
class Said:
    """A judgement, by transaction id where it was by index, with what its effects write if
    all that it lets pass is approved."""

    committee: tuple[Seat, ...]
    next_committee: tuple[Seat, ...] | None
    refused: Mapping[bytes, Rejection]
    pops: Mapping[bytes, bytes] | None
    actions: frozenset[str]
    written: Mapping[str, bytes]

    def difference(self, other: Said) -> str:
        """In what two differ, empty if in nothing."""
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if one == two:
                continue
            name = "effects" if field.name == "written" else field.name
            if isinstance(one, Mapping) and isinstance(two, Mapping):
                key = min(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))
                return f"{name} of {_shown(key)}: {one.get(key)!r}, and {two.get(key)!r}"
            return f"{name}: {one!r}, and {two!r}"
        return ""

    def text(self) -> str:
        """One line for each field, the same wherever the same was said."""
        return "\n".join(f"{it.name} {_plain(getattr(self, it.name))}" for it in fields(self))


def _shown(value: object) -> str:
    return f"{value.hex()[:16]}…" if isinstance(value, bytes) else repr(value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        value = sorted((_key(key), repr(item)) for key, item in value.items())
    elif isinstance(value, frozenset):
        value = sorted(value)
    else:
        value = repr(value)
    return json.dumps(value)


def _key(key: Any) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


async def ask(
    step: ConsensusStep,
    round: RoundContext,
    candidates: Sequence[Transaction],
    state: StateView,
    compute: Compute,
) -> Said:
    """Have a round judged, and its effects made."""
    judgement = await step.judge(round, candidates, state)
    check_judgement(judgement, candidates)
    written = {}
    if judgement.effects is not None:
        written = dict(await compute(judgement.effects, let_pass(judgement, candidates)))
    return Said(
        committee=judgement.committee,
        next_committee=judgement.next_committee,
        refused={candidates[index].tx_id: it for index, it in judgement.refused.items()},
        pops=None
        if judgement.pops is None
        else {it.tx_id: pop for it, pop in zip(candidates, judgement.pops, strict=True)},
        actions=frozenset(judgement.actions),
        written=written,
    )


def let_pass(judgement: Judgement, candidates: Sequence[Transaction]) -> list[Transaction]:
    """What a rule may approve, in order of transaction id."""
    passed = [
        candidate
        for index, candidate in enumerate(candidates)
        if index not in judgement.refused and candidate.action in PLAIN | judgement.actions
    ]
    return sorted(passed, key=lambda candidate: candidate.tx_id)


# --- layouts


def check_committee(seats: tuple[Seat, ...], name: str) -> None:
    """Hold a committee to what a checkpoint can name and a certificate can be made of."""
    assert seats, f"{name} is empty: nobody could approve a round"
    assert isinstance(seats, tuple), f"{name} must be a tuple of Seat, is {type(seats).__name__}"
    assert len(seats) <= SEATS_MAX, f"{name} has {len(seats)} seats, at most {SEATS_MAX} fit"
    keys = [seat.key_id for seat in seats]
    assert all(len(key) == 32 for key in keys), f"a key id in {name} has not 32 bytes"
    assert len(set(keys)) == len(keys), f"a key has two seats in {name}: add its stakes up"
    assert all(1 <= seat.stake <= STAKE_MAX for seat in seats), (
        f"a seat in {name} has no stake, or more than 63 bits hold: {[s.stake for s in seats]}"
    )


def check_judgement(
    judgement: Judgement,
    candidates: Sequence[Transaction],
    codes: Collection[str] | None = None,
) -> None:
    """Hold a judgement to the layouts of what is made of it."""
    check_committee(judgement.committee, "committee")
    if judgement.next_committee is not None:
        check_committee(judgement.next_committee, "next_committee")
    for index, rejection in judgement.refused.items():
        assert type(index) is int, f"refused is by index into the candidates, not by {index!r}"
        assert 0 <= index < len(candidates), (
            f"refused names candidate {index} of {len(candidates)}: it is by index, from 0"
        )
        assert isinstance(rejection, Rejection), f"refused[{index}] is no Rejection: {rejection!r}"
        assert CODE.fullmatch(rejection.code), (
            f"refused[{index}] has the code {rejection.code!r}: 1 to 32 of A-Z, 0-9 and _; what "
            "differs from one transaction to the next belongs into the reason"
        )
        assert codes is None or rejection.code in codes, (
            f"refused[{index}] has the code {rejection.code!r}, which the fixture `codes` does not "
            "list: programs go by codes, so document each of them"
        )
        size = len(rejection.reason.encode())
        assert size <= REASON_BYTES_MAX, f"a reason of {size} bytes; at most {REASON_BYTES_MAX} fit"
    if judgement.pops is not None:
        count = len(judgement.pops)
        assert count == len(candidates), f"pops has {count} hashes for {len(candidates)} candidates"
        assert all(isinstance(pop, bytes) and len(pop) == 32 for pop in judgement.pops), (
            "each of pops is a hash of 32 bytes, also for a candidate that is refused"
        )
    unknown = set(judgement.actions) - ACTIONS - PLAIN
    assert not unknown, f"no transaction has the action {min(unknown)!r}: {sorted(ACTIONS)} exist"


def check_written(written: Mapping[str, bytes], initial: Collection[str]) -> None:
    """Hold effects to what a record can keep, and to what is the step's own.

    Args:
        initial: Objects that the genesis made.
    """
    for object, value in written.items():
        assert object.startswith("$"), (
            f"effects write {object!r}: a step has only objects whose name begins with $; others "
            "are written by transactions"
        )
        is_of_rule = object.startswith(OF_RULES) or object in initial
        assert not is_of_rule, (
            f"effects write {object!r}, which is the DAG rule's: balances, and what is kept of "
            "other cities, change by what the rule settles alone"
        )
        assert 1 <= len(object.encode()) <= OBJECT_BYTES_MAX, (
            f"effects write an object with a name of {len(object.encode())} bytes, 255 fit"
        )
        assert isinstance(value, bytes), f"effects leave {object!r} with {value!r}, not bytes"
        assert len(value) <= VALUE_BYTES_MAX, (
            f"effects leave {object!r} with {len(value)} bytes, {VALUE_BYTES_MAX} fit"
        )
