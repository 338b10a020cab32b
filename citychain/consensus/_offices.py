"""The committee and what it answers to: witnesses, proofs of two votes, recoveries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from citychain import checkpoint, election
from citychain._native.transactions import Transaction
from citychain.consensus._ledger_before import LedgerBefore, Wanted
from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.consensus._rejections import reject
from citychain.consensus._stakes import excluded_object
from citychain.consensus._terms import ELECTED, RECOVERED, Order, elected_bytes, latest, order_of
from citychain.crypto import signatures
from citychain.crypto.keys import key_id
from citychain.genesis import Genesis
from citychain.ports import RoundContext
from citychain.presence import witness_object
from citychain.types import Equivocation, Rejection, Seat

__all__ = ["OfficeJudge"]


class OfficeJudge:
    """Judges witnesses, equivocations and recoveries of a city."""

    def __init__(self, options: PohPopOptions, genesis: Genesis) -> None:
        self._options = options
        self._genesis = genesis

    def want(self, round: int, candidates: Iterable[Transaction], wanted: Wanted) -> None:
        """Add what the methods read."""
        wanted.objects.add(election.COMMITTEE)
        for candidate in candidates:
            if proof := candidate.equivocation:
                wanted.objects.add(excluded_object(key_id(proof.public_key)))
            if (recovery := candidate.recovery) and self._may_recover(candidate, round):
                wanted.rounds.add(recovery.from_round - 1)
                wanted.objects.update((ELECTED, RECOVERED))

    def committee(self, before: LedgerBefore) -> tuple[Seat, ...]:
        """In office for the round."""
        value = before.value(election.COMMITTEE)
        return election.decode_committee(value) if value else self._genesis.seats

    # --- equivocations

    def judge_proofs(
        self,
        proofs: Mapping[int, Transaction],
        before: LedgerBefore,
        representatives: Collection[bytes],
    ) -> tuple[dict[int, Rejection], set[bytes]]:
        """Rejections by index, and the keys that are proven to have voted twice.

        Args:
            proofs: In order of transaction id.
            representatives: Keys that have a seat, or stand for one.
        """
        rejections: dict[int, Rejection] = {}
        accused: dict[int, tuple[bytes, Equivocation]] = {}
        for index, transaction in proofs.items():
            proof = transaction.equivocation
            assert proof is not None
            key = key_id(proof.public_key)
            if before.value(excluded_object(key)):
                rejections[index] = reject("EXCLUDED", "the key is excluded already")
            elif key not in representatives:
                rejections[index] = reject(
                    "EQUIVOCATION_UNPROVEN", "the key has no seat and stands for none"
                )
            else:
                accused[index] = key, proof
        holds = signatures.verify_batch(
            [vote for _, proof in accused.values() for vote in self._votes(proof)]
        )
        proven: set[bytes] = set()
        for (index, (key, _)), first, second in zip(
            accused.items(), holds[::2], holds[1::2], strict=True
        ):
            if not (first and second):
                which = "second" if first else "first"
                rejections[index] = reject(
                    "EQUIVOCATION_UNPROVEN", f"the {which} signature does not hold"
                )
            elif key in proven:
                rejections[index] = reject("EXCLUDED", "another proof excludes the key")
            else:
                proven.add(key)
        return rejections, proven

    def _votes(self, proof: Equivocation) -> list[tuple[bytes, bytes, bytes, bytes]]:
        return [
            (
                proof.public_key,
                checkpoint.vote_message(self._genesis.id, proof.round, hash),
                checkpoint.VOTE_CONTEXT,
                signature,
            )
            for hash, signature in (
                (proof.first_hash, proof.first_signature),
                (proof.second_hash, proof.second_signature),
            )
        ]

    # --- what is the operator's

    def judge_orders(
        self, round: RoundContext, orders: Mapping[int, Transaction], before: LedgerBefore
    ) -> dict[int, Rejection]:
        """Rejections of witnesses and recoveries by index, given in order of transaction id."""
        rejections: dict[int, Rejection] = {}
        for index, transaction in orders.items():
            if transaction.author != self._genesis.operator_id:
                rejections[index] = reject("NOT_OPERATOR", "the genesis names the operator's key")
            elif transaction.recovery and (fault := self._misfit(round, transaction, before)):
                rejections[index] = reject("RECOVERY_MISFIT", fault)
        return rejections

    def _may_recover(self, transaction: Transaction, round: int) -> bool:
        recovery = transaction.recovery
        return (
            recovery is not None
            and transaction.author == self._genesis.operator_id
            and recovery.from_round <= round
        )

    def _misfit(
        self, round: RoundContext, transaction: Transaction, before: LedgerBefore
    ) -> str | None:
        recovery = transaction.recovery
        assert recovery is not None
        first = recovery.from_round
        if first > round.round:
            return f"from round {first} on, which is later than this round, {round.round}"
        previous = before.checkpoint_hash(first - 1) if first > 1 else self._genesis.id
        if recovery.previous != previous:
            return f"previous is not the hash of round {first - 1}'s checkpoint"
        elected = int.from_bytes(before.value(ELECTED), "big")
        if elected >= first:
            return f"since round {first} a committee was elected, in {elected}: recover that one"
        later = Order.from_bytes(before.value(RECOVERED))
        if order_of(transaction) <= later:
            return f"one from round {later.from_round} on, signed at {later.created_at_ms}, goes on"
        return None

    # --- what the round writes

    def writes(
        self, round: int, approved: Sequence[Transaction], elected: tuple[Seat, ...] | None
    ) -> dict[str, bytes]:
        """What approved transactions leave, and an election, which a recovery does not undo."""
        values: dict[str, bytes] = {}
        if (order := latest(approved)) is not None:
            assert order.recovery is not None
            values[RECOVERED] = order_of(order).to_bytes()
            values[election.COMMITTEE] = election.encode_committee(order.recovery.seats)
        for transaction in approved:
            if registered := transaction.witness:
                public_key, revoked = registered
                values[witness_object(key_id(public_key))] = b"" if revoked else public_key
            elif proof := transaction.equivocation:
                values[excluded_object(key_id(proof.public_key))] = transaction.tx_id
        if elected is not None:
            values[ELECTED] = elected_bytes(round)
            values[election.COMMITTEE] = election.encode_committee(elected)
        return values
