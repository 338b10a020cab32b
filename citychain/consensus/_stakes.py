"""Who stands for election: candidacies and withdrawals.

Of each key a round takes one candidacy or withdrawal, so that whatever the DAG rule makes
of the others, every candidate in ``$candidates`` has the least stake at least.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from citychain import election
from citychain._native.transactions import Transaction
from citychain.consensus._ledger_before import LedgerBefore, Wanted
from citychain.consensus._poh_pop_options import PohPopOptions
from citychain.consensus._rejections import reject
from citychain.genesis import balance_object
from citychain.types import Rejection, Seat, Stake

__all__ = ["StakeJudge", "candidates_bytes", "excluded_object", "folded", "stakes_of"]


def excluded_object(key: bytes) -> str:
    """Object id of a key's exclusion; its value is the id of the proving transaction."""
    return f"$excluded/{key.hex()}"


class StakeJudge:
    """Judges a round's candidacies and withdrawals.

    Args:
        before: The ledger before the round, with all that `want` names.
        excluded: Keys that take no more part, by this round's own proofs.
        serving: Keys whose stake must stay.
    """

    def __init__(
        self,
        options: PohPopOptions,
        before: LedgerBefore,
        excluded: Collection[bytes],
        serving: Collection[bytes],
    ) -> None:
        self._options = options
        self._before = before
        self._excluded = excluded
        self._serving = serving
        self._stakes = stakes_of(before)

    @staticmethod
    def want(moves: Iterable[Transaction], options: PohPopOptions, wanted: Wanted) -> None:
        """Add what judging these reads."""
        for transaction in moves:
            wanted.objects.add(excluded_object(transaction.author))
            if transaction.action == "candidacy":
                wanted.objects.add(balance_object(options.stake_asset, transaction.author))

    def judge(self, moves: Mapping[int, Transaction]) -> dict[int, Rejection]:
        """Judge those that are not rejected already, by index, in order of transaction id."""
        rejections: dict[int, Rejection] = {}
        moving: set[bytes] = set()
        new: dict[int, Transaction] = {}
        for index, transaction in moves.items():
            if rejection := self._judge(transaction, moving):
                rejections[index] = rejection
                continue
            moving.add(transaction.author)
            if transaction.action == "candidacy" and transaction.author not in self._stakes:
                new[index] = transaction
        room = max(0, self._options.candidates_max - len(self._stakes))
        # Who can pay goes first: else candidacies without money would keep others out.
        for index in sorted(new, key=lambda index: not self._is_funded(new[index]))[room:]:
            rejections[index] = reject(
                "CANDIDATES_FULL", f"this city takes {self._options.candidates_max}"
            )
        return rejections

    def _judge(self, transaction: Transaction, moving: Collection[bytes]) -> Rejection | None:
        author, stake = transaction.author, transaction.stake
        assert stake is not None
        held = self._stakes.get(author, 0)
        if stake.asset != self._options.stake_asset:
            return reject("WRONG_ASSET", f"stakes are in {self._options.stake_asset}")
        if author in self._excluded or self._before.value(excluded_object(author)):
            return reject("EXCLUDED", "the key takes no more part, and its stake stays")
        if author in moving:
            return reject("STAKE_BUSY", "send it again for a later round")
        if transaction.action == "withdrawal":
            return _judge_withdrawal(self._options, stake, held, author in self._serving)
        if held + stake.amount < self._options.stake_min:
            return reject(
                "STAKE_TOO_SMALL",
                f"{held + stake.amount} in all; at least {self._options.stake_min} is asked",
            )
        return None

    def _is_funded(self, transaction: Transaction) -> bool:
        assert transaction.stake is not None
        balance = self._before.value(balance_object(self._options.stake_asset, transaction.author))
        return int.from_bytes(balance, "big") >= transaction.stake.amount


def stakes_of(before: LedgerBefore) -> dict[bytes, int]:
    """Stakes of the candidates before the round, by key id."""
    value = before.value(election.CANDIDATES)
    return dict(election.decode_candidates(value)) if value else {}


def _judge_withdrawal(
    options: PohPopOptions, stake: Stake, held: int, serving: bool
) -> Rejection | None:
    rest = held - stake.amount
    if rest < 0:
        return reject("NO_STAKE", f"the key's stake is {held}")
    if serving:
        return reject("SERVING", "in office, or less than an epoch ago, or standing in an election")
    if 0 < rest < options.stake_min:
        return reject(
            "STAKE_TOO_SMALL",
            f"{rest} would be left; leave {options.stake_min} at least, or nothing",
        )
    return None


def folded(
    stakes: Mapping[bytes, int], approved: Iterable[Transaction], excluded: Collection[bytes]
) -> dict[bytes, int]:
    """Stakes of the candidates after a round.

    Args:
        excluded: Keys that the round excludes.
    """
    after = dict(stakes)
    for transaction in approved:
        if stake := transaction.stake:
            sign = -1 if transaction.action == "withdrawal" else 1
            after[transaction.author] = after.get(transaction.author, 0) + sign * stake.amount
    return {key: stake for key, stake in after.items() if stake and key not in excluded}


def candidates_bytes(stakes: Mapping[bytes, int]) -> bytes:
    """Value of the object with the candidates."""
    return election.encode_candidates(Seat(key, stake) for key, stake in stakes.items())
