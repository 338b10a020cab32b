"""From a decision to a sealed round: ids, log, record, checkpoint.

Pure but for the proof-of-history entry, which is asked of the consensus step;
a verifier repeats it from the round record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from citychain import checkpoint, record
from citychain._native import link
from citychain._native.transactions import Transaction
from citychain.city.pool import Candidates
from citychain.crypto import merkle
from citychain.errors import ConsensusError
from citychain.exchange import judge as exchange
from citychain.ports import (
    SETTLED_ACTIONS,
    Compute,
    ConsensusStep,
    DagHandler,
    Judgement,
    RoundContext,
    StateView,
    StoredRound,
    settled_actions,
)
from citychain.types import (
    Decision,
    Head,
    NodeRef,
    ObjectWrite,
    Parent,
    PohEntry,
    Rejection,
    SealedRound,
    SubtreeHash,
)

__all__ = ["Draft", "complete_round", "decide_round", "seal_round", "stored_round"]

TRANSACTIONS_MAX: Final = 1 << 20
PARENTS_MAX: Final = 8
CODE: Final = re.compile(r"[A-Z0-9_]{1,32}")
REASON_BYTES_MAX: Final = 255
OBJECT_BYTES_MAX: Final = 255
VALUE_BYTES_MAX: Final = 16_384
PLAIN_ACTIONS: Final = frozenset(("data", "transfer"))
"""Actions that need neither a consensus step nor another city to mean something."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A round without its proof-of-history entry."""

    sealed: SealedRound
    """``record``, ``checkpoint`` are bodies yet, ``checkpoint_hash`` is empty."""
    mixin: bytes


async def decide_round(
    context: RoundContext,
    candidates: Candidates,
    *,
    rule: str,
    operator: bytes,
    epoch: int,
    head: Head,
    tree: merkle.Tree,
    dag: DagHandler,
    consensus: ConsensusStep,
    state: StateView,
    compute: Compute,
) -> Draft:
    """Judge, decide and draft a round; whoever repeats it gets the same.

    Args:
        operator: Id of the operator's key.
        head: Where the ledger stands before the round.
        tree: The log before the round; it is left as it is.

    Raises:
        ConsensusError: a part breaks its contract.
    """
    transactions = candidates.transactions
    judgement = await consensus.judge(context, transactions, state)
    refused, foreign = await compute(_sorted_out, transactions, judgement, settled_actions(dag))
    judged = await exchange.judge(context.genesis, operator, foreign, state, compute)
    refused |= judged.refused
    decision = await dag.decide(context, transactions, candidates.held_since, refused, state)
    _check_decision(decision, transactions, refused)
    decision = await _with_effects(decision, judgement, state, compute)
    decision = await _with_shown(decision, transactions, judged, state)
    _check_writes(decision.writes)
    return await compute(
        _draft_round,
        context=context,
        rule=rule,
        epoch=epoch,
        head=head,
        tree=tree.copy(),
        candidates=transactions,
        decision=decision,
        judgement=judgement,
        known_held=candidates.held_ids,
    )


def _sorted_out(
    transactions: Sequence[Transaction], judgement: Judgement, settled: frozenset[str]
) -> tuple[dict[int, Rejection], dict[int, Transaction]]:
    """What is refused, and what is left to judge of that which any consensus lets pass."""
    refused = {}
    foreign = {}
    for index, transaction in enumerate(transactions):
        if (action := transaction.action) in PLAIN_ACTIONS:
            continue
        if action in settled:
            if index not in judgement.refused:
                foreign[index] = transaction
        elif action in SETTLED_ACTIONS:
            reason = f"this city's rule knows no {action}"
            refused[index] = Rejection("UNSUPPORTED_ACTION", reason)
        elif action not in judgement.actions:
            reason = f"this city's consensus knows no {action}"
            refused[index] = Rejection("UNSUPPORTED_ACTION", reason)
    return refused | dict(judgement.refused), foreign


def _check_decision(
    decision: Decision, candidates: Sequence[Transaction], refused: Mapping[int, Rejection]
) -> None:
    """Hold a DAG handler to its contract before anything is made of its decision.

    Raises:
        ConsensusError: saying what the handler did wrong.
    """
    sealed = len(decision.order)
    if not len(decision.verdicts) == len(decision.parents) == sealed:
        raise ConsensusError("the DAG handler's columns differ in length")
    if sealed > TRANSACTIONS_MAX:
        raise ConsensusError(f"the DAG handler sealed more than {TRANSACTIONS_MAX} transactions")
    decided = [transaction.tx_id for transaction in (*decision.order, *decision.held)]
    if len(decided) != len(candidates) or set(decided) != {item.tx_id for item in candidates}:
        raise ConsensusError("the DAG handler lost, repeated or invented a transaction")
    refused_ids = {candidates[index].tx_id for index in refused}
    for transaction, parents, verdict in zip(
        decision.order, decision.parents, decision.verdicts, strict=True
    ):
        if bool(parents) == (verdict is not None) or len(parents) > PARENTS_MAX:
            raise ConsensusError(f"the DAG handler gave a node {len(parents)} parents")
        if verdict is None and transaction.tx_id in refused_ids:
            raise ConsensusError("the DAG handler approved what the consensus step refused")
        if verdict is not None and not (
            CODE.fullmatch(verdict.code) and len(verdict.reason.encode()) <= REASON_BYTES_MAX
        ):
            raise ConsensusError(
                f"{transaction.tx_id.hex()} was rejected with code {verdict.code!r} and a reason "
                f"of {len(verdict.reason.encode())} bytes; a code is 1 to 32 of A-Z, 0-9 and _, "
                f"a reason has at most {REASON_BYTES_MAX} bytes"
            )


def _check_writes(writes: Sequence[ObjectWrite]) -> None:
    """Hold what a round writes to the layout of the record.

    Raises:
        ConsensusError: naming the object.
    """
    for object, version, value in writes:
        if not (
            1 <= len(object.encode()) <= OBJECT_BYTES_MAX
            and 1 <= version < 1 << 63
            and len(value) <= VALUE_BYTES_MAX
        ):
            raise ConsensusError(f"object {object!r} cannot be written at version {version}")


async def _with_effects(
    decision: Decision, judgement: Judgement, state: StateView, compute: Compute
) -> Decision:
    """Add what the consensus step writes."""
    if judgement.effects is None:
        return decision
    approved = [
        transaction
        for transaction, verdict in zip(decision.order, decision.verdicts, strict=True)
        if verdict is None
    ]
    values = await compute(judgement.effects, approved)
    if foreign := [object for object in values if not object.startswith("$")]:
        raise ConsensusError(f"the consensus step writes {min(foreign)}, which is no $-object")
    before = await state.objects(list(values))
    writes = {write.object: write for write in decision.writes}
    if shared := writes.keys() & values.keys():
        raise ConsensusError(f"both the DAG handler and the consensus step write {min(shared)}")
    for object, value in values.items():
        version = before[object].version if object in before else 0
        writes[object] = ObjectWrite(object, version + 1, value)
    return replace(decision, writes=[writes[object] for object in sorted(writes)])


async def _with_shown(
    decision: Decision,
    candidates: Sequence[Transaction],
    judged: exchange.Judged,
    state: StateView,
) -> Decision:
    """Add the other cities' committees that proofs of this round have shown; they never change."""
    if not judged.shown:
        return decision
    sealed = {transaction.tx_id for transaction in decision.order}
    values = {
        object: value
        for index, shown in judged.shown.items()
        if candidates[index].tx_id in sealed
        for object, value in shown.items()
    }
    before = await state.objects(list(values))
    new = [ObjectWrite(object, 1, values[object]) for object in values if object not in before]
    return replace(decision, writes=sorted([*decision.writes, *new]))


def _draft_round(
    *,
    context: RoundContext,
    rule: str,
    epoch: int,
    head: Head,
    tree: merkle.Tree,
    candidates: Sequence[Transaction],
    decision: Decision,
    judgement: Judgement,
    known_held: frozenset[bytes],
) -> Draft:
    """Number a decision's nodes, append them to the log, write record and checkpoint.

    Args:
        tree: The log before the round; it is appended to.
        known_held: Ids that earlier rounds hold.
    """
    tx_ids = [transaction.tx_id for transaction in decision.order]
    approved = [verdict is None for verdict in decision.verdicts]
    pops = None
    if judgement.pops is not None:
        by_id = {item.tx_id: pop for item, pop in zip(candidates, judgement.pops, strict=True)}
        pops = [by_id[tx_id] for tx_id in tx_ids]
    node_ids = link.node_ids(
        rule=rule,
        genesis=context.genesis,
        round=context.round,
        tx_ids=tx_ids,
        parents=decision.parents,
        approved=approved,
        pops=pops,
    )
    leaf_hashes = link.leaf_hashes(
        round=context.round, tx_ids=tx_ids, node_ids=node_ids, rejections=decision.verdicts
    )
    subtrees = [SubtreeHash(*subtree) for subtree in tree.append(leaf_hashes)]
    held, held_places = _newly_held(candidates, decision, known_held)
    record_body = record.body_bytes(
        genesis=context.genesis,
        round=context.round,
        time_ms=context.time_ms,
        epoch=epoch,
        tx_ids=tx_ids,
        verdicts=decision.verdicts,
        held=held,
        held_places=held_places,
        writes=decision.writes,
    )
    if len(record_body) + record.POH_BYTES > record.RECORD_BYTES_MAX:
        raise ConsensusError(f"the round record takes {len(record_body)} bytes")
    checkpoint_body = checkpoint.body_bytes(
        genesis=context.genesis,
        round=context.round,
        previous=head.checkpoint_hash or context.genesis,
        root=tree.root(),
        size=tree.size,
        rule=rule,
        record_hash=record.record_hash(record_body),
        committee=judgement.committee,
        next_committee=judgement.next_committee,
    )
    sealed = SealedRound(
        round=context.round,
        time_ms=context.time_ms,
        epoch=epoch,
        first_index=head.size,
        record=record_body,
        checkpoint=checkpoint_body,
        checkpoint_hash=b"",
        transactions=decision.order,
        verdicts=decision.verdicts,
        node_ids=node_ids,
        parents=_resolved(decision.parents, context.round, node_ids),
        pops=pops,
        held=held,
        writes=decision.writes,
        leaf_hashes=leaf_hashes,
        peaks=tree.peaks,
        subtrees=subtrees,
    )
    return Draft(sealed, checkpoint.mixin(checkpoint_body))


def _newly_held(
    candidates: Sequence[Transaction], decision: Decision, known_held: frozenset[bytes]
) -> tuple[list[bytes], list[int]]:
    """Ids held for the first time, and for each how many sealed candidates stand before it."""
    if not decision.held:
        return [], []
    waiting = {item.tx_id for item in decision.held}
    held, places, sealed = [], [], 0
    for candidate in candidates:
        if candidate.tx_id not in waiting:
            sealed += 1
        elif candidate.tx_id not in known_held:
            held.append(candidate.tx_id)
            places.append(sealed)
    return held, places


async def seal_round(draft: Draft, previous_poh: bytes, consensus: ConsensusStep) -> SealedRound:
    """Complete a draft with its proof-of-history entry."""
    poh = await consensus.seal(previous_poh, draft.mixin)
    if (poh.prev, poh.mixin) != (previous_poh, draft.mixin):
        raise ConsensusError("the consensus step sealed something else")
    return complete_round(draft.sealed, poh)


def complete_round(sealed: SealedRound, poh: PohEntry) -> SealedRound:
    """A round whose record and checkpoint are bodies yet, with its entry."""
    complete = checkpoint.with_poh(sealed.checkpoint, poh)
    return replace(
        sealed,
        record=record.with_poh(sealed.record, poh),
        checkpoint=complete,
        checkpoint_hash=checkpoint.checkpoint_hash(complete),
    )


def stored_round(sealed: SealedRound) -> StoredRound:
    """A sealed round as storage gives it back, without its certificate."""
    return StoredRound(
        round=sealed.round,
        time_ms=sealed.time_ms,
        first_index=sealed.first_index,
        size=sealed.first_index + len(sealed.transactions),
        record=sealed.record,
        checkpoint=sealed.checkpoint,
        checkpoint_hash=sealed.checkpoint_hash,
        peaks=sealed.peaks,
    )


def _resolved(
    parents: Sequence[tuple[Parent, ...]], round: int, node_ids: Sequence[bytes | None]
) -> list[tuple[NodeRef, ...]]:
    """Parents of the same round by their ids, now that these are known."""
    resolved: list[tuple[NodeRef, ...]] = []
    for node in parents:
        refs = []
        for parent in node:
            if isinstance(parent, int):
                node_id = node_ids[parent]
                assert node_id is not None
                refs.append(NodeRef(round, parent, node_id))
            else:
                refs.append(parent)
        resolved.append(tuple(refs))
    return resolved
