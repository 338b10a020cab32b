"""Repeats a city's rounds from what was published, and names the first thing that does not hold.

What representatives do before they vote, what an audit does with a whole city, and
what the sequencer does for the representatives inside its server. The same code
as the sequencer's decides, from nothing but the genesis, the rounds' records and
their transactions; then every byte of record and checkpoint is compared.

The checks, by the name that `InvalidRound.check` gives, in order:

============ =================================================================
layout       record and checkpoint are in their layouts
genesis      both are of this city
round        both are of the round after the one before
transactions the record's transactions are there, whole, and signed
poh          the proof-of-history entry takes the genesis' number of hashes, mixes
             in the checkpoint, is right, and goes on from the one before
time         the round's time does not go back
order        they stand in the order that the rules give
held         those that wait are those that must
verdict      each is approved, or rejected with the code and reason, as the rules say
writes       the round leaves the objects as the rules say
record       nothing else differs
root         the log is extended by exactly these nodes: ids, parents, judgements
committee    the committees in office and next are those elected
checkpoint   nothing else differs
============ =================================================================

The order in which transactions arrived is the sequencer's word: what can be checked
is that the rest follows from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from citychain import checkpoint, record
from citychain._native.transactions import Limits, Refusal, Transaction, check_batch, decode_batch
from citychain.checkpoint import Checkpoint
from citychain.city.pool import Candidates
from citychain.city.sealing import complete_round, decide_round
from citychain.crypto import merkle, poh
from citychain.crypto.signatures import KeyCache
from citychain.errors import ConsensusError, InvalidRound, VerificationError
from citychain.genesis import Genesis
from citychain.ports import (
    CityStorage,
    Compute,
    ConsensusStep,
    DagHandler,
    RoundContext,
    StateView,
    StoredRound,
)
from citychain.record import RoundRecord
from citychain.types import Head, SealedRound, Verdict

__all__ = ["PublicKeys", "PublishedRound", "Replay", "held_since"]

CHUNK: Final = 1_024
"""Transactions checked in one call."""
WIDEST: Final = Limits(body_bytes_max=4 << 20)
"""The format's own bounds; a city's narrower ones are for admission alone."""

PublicKeys = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, bytes]]]
"""Gives public keys by key id; unknown ones are absent."""


@dataclass(frozen=True, slots=True)
class PublishedRound:
    """A round that was read: its parts agree with each other."""

    stored: StoredRound
    record: RoundRecord
    checkpoint: Checkpoint
    transactions: Sequence[Transaction]
    """Those that the record seals, in order of seq, then those that it newly holds."""


class Replay:
    """Checks rounds one after the other; `advance` moves on to the next.

    Args:
        state: The ledger before the next round; who calls `advance` moves it on too.
        keys: Where public keys are kept prepared.
        public_keys: Asked for keys that are not in ``keys``; what it gives must hash to the id.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        dag: DagHandler,
        consensus: ConsensusStep,
        state: StateView,
        compute: Compute,
        keys: KeyCache,
        public_keys: PublicKeys,
    ) -> None:
        self._genesis = genesis
        self._dag = dag
        self._consensus = consensus
        self._state = state
        self._compute = compute
        self._keys = keys
        self._public_keys = public_keys
        self._tree = merkle.Tree()
        self._previous_poh = genesis.id
        self._held: dict[bytes, tuple[Transaction, int]] = {}
        self.head = Head()
        """Where the ledger stands: everything up to here was checked, or was begun from."""

    async def resume(self, storage: CityStorage) -> None:
        """Go on from where a storage stands, whose rounds were checked before."""
        self.head = head = await storage.head()
        self._tree = merkle.Tree(head.size, head.peaks)
        if head.round:
            self._previous_poh = checkpoint.decode(head.checkpoint).poh.hash
        held = await held_since(storage, head.round, self._genesis.hold_rounds, self._compute)
        raw = await storage.raw(list(held))
        transactions = await self._compute(decode_batch, [raw[tx_id].envelope for tx_id in held])
        self._held = {item.tx_id: (item, held[item.tx_id]) for item in transactions}

    async def read(
        self, published: StoredRound, envelopes: Sequence[bytes], *, signatures: bool = True
    ) -> PublishedRound:
        """Check what needs no ledger: layouts, transactions, hashing. Rounds can be read
        ahead, several at once.

        Args:
            envelopes: In their stored form, those that the record seals, then those that
                it newly holds.
            signatures: Check them, and the proof-of-history entry's hash. Without, the
                round is believed in these two alone.

        Raises:
            InvalidRound: naming the first check that does not hold.
        """
        decided, claimed = await self._decoded(published)
        transactions = await self._transactions(published.round, decided, envelopes, signatures)
        await self._check_poh(published, decided, claimed, hashing=signatures)
        return PublishedRound(published, decided, claimed, transactions)

    async def read_admitted(
        self, published: StoredRound, transactions: Sequence[Transaction]
    ) -> PublishedRound:
        """`read` a round that was made in this process, of transactions that it admitted: their
        signatures were checked then.

        Raises:
            InvalidRound: naming the first check that does not hold.
        """
        decided, claimed = await self._decoded(published)
        _check_ids(published.round, decided, transactions)
        await self._check_poh(published, decided, claimed, hashing=True)
        return PublishedRound(published, decided, claimed, transactions)

    async def admit(self, envelopes: Sequence[bytes]) -> list[Transaction]:
        """Open transactions in their stored form that wait for the next round.

        Raises:
            InvalidRound: a signature does not hold.
        """
        return await self._signed(self.head.round + 1, envelopes)

    async def _decoded(self, published: StoredRound) -> tuple[RoundRecord, Checkpoint]:
        number = published.round
        try:
            decided, claimed = await self._compute(_decode, published)
        except VerificationError as error:
            raise InvalidRound(number, "layout", str(error)) from None
        ids = [*decided.tx_ids, *decided.held]
        if len(set(ids)) != len(ids):
            raise InvalidRound(number, "layout", "the record names a transaction twice")
        if max(decided.time_ms, decided.epoch) >= 1 << 63:
            raise InvalidRound(number, "layout", "a time or a lease epoch that cannot be")
        genesis = self._genesis.id
        if (decided.genesis, claimed.genesis) != (genesis, genesis):
            raise InvalidRound(number, "genesis", "it is another city's")
        if (decided.round, claimed.round) != (number, number):
            raise InvalidRound(
                number, "round", f"record and checkpoint are {decided.round} and {claimed.round}"
            )
        return decided, claimed

    async def _check_poh(
        self, published: StoredRound, decided: RoundRecord, claimed: Checkpoint, *, hashing: bool
    ) -> None:
        number, entry, required = published.round, claimed.poh, self._genesis.num_hashes
        if decided.poh != entry:
            raise InvalidRound(number, "poh", "record and checkpoint have different entries")
        if entry.num_hashes != required:
            raise InvalidRound(
                number, "poh", f"{entry.num_hashes} hashes; the genesis says {required}"
            )
        if entry.mixin != checkpoint.mixin(checkpoint.without_poh(published.checkpoint)):
            raise InvalidRound(number, "poh", "the entry mixes in another checkpoint")
        if hashing:
            try:
                await self._compute(poh.verify, [entry], max_num_hashes=required)
            except VerificationError as error:
                raise InvalidRound(number, "poh", str(error)) from None

    async def check(self, published: PublishedRound) -> SealedRound:
        """Check the next round against the ledger, and return it as it was derived anew.

        Raises:
            InvalidRound: naming the first check that does not hold.
        """
        decided, claimed = published.record, published.checkpoint
        number = self.head.round + 1
        if decided.round != number:
            raise InvalidRound(decided.round, "round", f"it does not follow round {number - 1}")
        if decided.time_ms < self.head.time_ms:
            raise InvalidRound(
                number,
                "time",
                f"{decided.time_ms} ms is before the previous round's {self.head.time_ms} ms",
            )
        if decided.epoch < self.head.epoch:
            raise InvalidRound(
                number, "round", f"lease epoch {decided.epoch} after {self.head.epoch}"
            )
        if claimed.poh.prev != self._previous_poh:
            raise InvalidRound(number, "poh", "the entry does not go on from the one before")
        sealed = await self._derive(decided, published.transactions)
        difference = await self._compute(_difference, published, sealed)
        if difference is not None:
            raise InvalidRound(number, *difference)
        return complete_round(sealed, claimed.poh)

    def advance(self, sealed: SealedRound) -> None:
        """Move on to after a round that was checked."""
        self._tree = merkle.Tree(sealed.first_index + len(sealed.transactions), sealed.peaks)
        self._previous_poh = record.poh_of(sealed.record).hash
        for transaction in sealed.transactions:
            self._held.pop(transaction.tx_id, None)
        for transaction in self._newly_held:
            self._held[transaction.tx_id] = (transaction, sealed.round)
        self._newly_held = ()
        self.head = replace(
            self.head,
            round=sealed.round,
            time_ms=sealed.time_ms,
            epoch=sealed.epoch,
            size=self._tree.size,
            peaks=sealed.peaks,
            checkpoint=sealed.checkpoint,
            checkpoint_hash=sealed.checkpoint_hash,
        )

    # --- the checks

    _newly_held: Sequence[Transaction] = ()

    async def _transactions(
        self, number: int, decided: RoundRecord, envelopes: Sequence[bytes], signatures: bool
    ) -> list[Transaction]:
        transactions: list[Transaction] = []
        for start in range(0, len(envelopes), CHUNK):
            chunk = envelopes[start : start + CHUNK]
            if signatures:
                transactions += await self._signed(number, chunk)
            else:
                try:
                    transactions += await self._compute(decode_batch, chunk)
                except ValueError as error:
                    raise InvalidRound(number, "transactions", str(error)) from None
        _check_ids(number, decided, transactions)
        return transactions

    async def _signed(self, number: int, envelopes: Sequence[bytes]) -> list[Transaction]:
        """Check signatures, with keys that are asked for once where they are not known."""
        checked = await self._check_batch(envelopes, self._keys)
        unknown = {
            item.key_id
            for item in checked
            if isinstance(item, Refusal) and item.code == "UNKNOWN_KEY" and item.key_id is not None
        }
        if unknown:
            # The shared cache may be too small for so many at once.
            fetched = KeyCache(len(unknown), len(unknown))
            for key_id, public_key in (await self._public_keys(sorted(unknown))).items():
                fetched.add_public_key(key_id, public_key)
                self._keys.add_public_key(key_id, public_key)
            again = [
                index
                for index, item in enumerate(checked)
                if isinstance(item, Refusal) and item.code == "UNKNOWN_KEY"
            ]
            missing = [envelopes[index] for index in again]
            for index, item in zip(again, await self._check_batch(missing, fetched), strict=True):
                checked[index] = item
        transactions = []
        for item in checked:
            if isinstance(item, Refusal):
                name = item.tx_id.hex() if item.tx_id else "one"
                raise InvalidRound(
                    number, "transactions", f"{name}: {item.code}: {item.field} {item.detail}"
                )
            transactions.append(item)
        return transactions

    async def _check_batch(
        self, envelopes: Sequence[bytes], keys: KeyCache
    ) -> list[Transaction | Refusal]:
        # Whether one came in time for its round is the rule's to say, so the clock here is 0.
        return await self._compute(check_batch, envelopes, self._genesis.id, keys, WIDEST, 0)

    async def _derive(
        self, decided: RoundRecord, transactions: Sequence[Transaction]
    ) -> SealedRound:
        """The round as it must be, but for the proof-of-history entry."""
        number = self.head.round + 1
        sealed, self._newly_held = (
            transactions[: len(decided.tx_ids)],
            transactions[len(decided.tx_ids) :],
        )
        new = _interleaved(sealed, self._newly_held, decided.held_places, self._held.keys())
        candidates = Candidates(
            [*(item for item, _ in self._held.values()), *new],
            [
                *(since for _, since in self._held.values()),
                *[0] * len(new),
            ],
        )
        ids = [item.tx_id for item in candidates.transactions]
        repeated = len(set(ids)) != len(ids)
        known = await self._state.find([item.tx_id for item in new])
        if repeated or known:
            name = next(iter(known)).hex() if known else "a transaction"
            raise InvalidRound(number, "order", f"{name} stands in the ledger twice")
        context = RoundContext(
            genesis=self._genesis.id,
            round=number,
            time_ms=decided.time_ms,
            previous_root=self._tree.root(),
            previous_poh=self._previous_poh,
            previous_checkpoint=self.head.checkpoint_hash or self._genesis.id,
        )
        try:
            draft = await decide_round(
                context,
                candidates,
                rule=self._genesis.rule,
                operator=self._genesis.operator_id,
                epoch=decided.epoch,
                head=self.head,
                tree=self._tree,
                dag=self._dag,
                consensus=self._consensus,
                state=self._state,
                compute=self._compute,
            )
        except (ConsensusError, ValueError, OverflowError) as error:
            raise InvalidRound(number, "verdict", f"the rules give no round: {error}") from error
        return draft.sealed


def _interleaved(
    sealed: Sequence[Transaction],
    held: Sequence[Transaction],
    places: Sequence[int],
    known: Collection[bytes],
) -> list[Transaction]:
    """New candidates in the order in which they stood, as far as it matters."""
    new = [transaction for transaction in sealed if transaction.tx_id not in known]
    order: list[Transaction] = []
    waiting = deque(zip(held, places, strict=True))
    # Held ones stand before all new candidates, wherever the rule sealed them.
    for place, transaction in enumerate(new, start=len(sealed) - len(new)):
        while waiting and waiting[0][1] <= place:
            order.append(waiting.popleft()[0])
        order.append(transaction)
    return [*order, *(transaction for transaction, _ in waiting)]


async def held_since(
    storage: CityStorage, last: int, hold_rounds: int, compute: Compute
) -> dict[bytes, int]:
    """Ids that the last rounds hold and none has sealed since, in the order in which they were
    first held."""
    held: dict[bytes, int] = {}
    for stored in await storage.rounds(max(1, last - hold_rounds + 1), hold_rounds):
        decoded = await compute(record.decode, stored.record)
        held |= dict.fromkeys(decoded.held, stored.round)
        for tx_id in decoded.tx_ids:
            held.pop(tx_id, None)
    return held


def _decode(published: StoredRound) -> tuple[RoundRecord, Checkpoint]:
    return record.decode(published.record), checkpoint.decode(published.checkpoint)


def _check_ids(number: int, decided: RoundRecord, transactions: Sequence[Transaction]) -> None:
    """Hold transactions to those that the record seals and newly holds."""
    tx_ids = [*decided.tx_ids, *decided.held]
    if len(transactions) != len(tx_ids):
        raise InvalidRound(
            number,
            "transactions",
            f"{len(transactions)} of {len(tx_ids)} were given; were the others pruned, the archive "
            "has them",
        )
    for tx_id, transaction in zip(tx_ids, transactions, strict=True):
        if transaction.tx_id != tx_id:
            raise InvalidRound(
                number,
                "transactions",
                f"{tx_id.hex()} was recorded, {transaction.tx_id.hex()} was given",
            )


def _difference(published: PublishedRound, sealed: SealedRound) -> tuple[str, str] | None:
    """The first thing in which a published round is not the one that the rules give."""
    if record.without_poh(published.stored.record) != sealed.record:
        return _record_difference(published.record, sealed)
    if checkpoint.without_poh(published.stored.checkpoint) != sealed.checkpoint:
        return _checkpoint_difference(published.checkpoint, sealed)
    return None


def _record_difference(decided: RoundRecord, sealed: SealedRound) -> tuple[str, str]:
    expected = [item.tx_id for item in sealed.transactions]
    if decided.tx_ids != expected:
        for seq, (is_there, must_be) in enumerate(zip(decided.tx_ids, expected, strict=False)):
            if is_there != must_be:
                return "order", f"{is_there.hex()} stands at seq {seq}, where {must_be.hex()} must"
        missing = set(expected) ^ set(decided.tx_ids)
        return "order", f"{min(missing).hex()} is sealed or left waiting against the rules"
    if list(decided.held) != list(sealed.held):
        odd = set(decided.held) ^ set(sealed.held)
        return "held", f"{min(odd).hex() if odd else 'what waits'} is held against the rules"
    for tx_id, told, due in zip(expected, decided.verdicts, sealed.verdicts, strict=True):
        if told != due:
            return (
                "verdict",
                f"{tx_id.hex()} is recorded as {_told(told)}; by the rules it is {_told(due)}",
            )
    written = {write.object: write for write in decided.writes}
    to_write = {write.object: write for write in sealed.writes}
    for object in sorted(written.keys() | to_write.keys()):
        if written.get(object) != to_write.get(object):
            return "writes", f"{object} is left as the rules do not say"
    return "record", "it is not what the rules give"


def _checkpoint_difference(claimed: Checkpoint, sealed: SealedRound) -> tuple[str, str]:
    due = checkpoint.decode_body(sealed.checkpoint)
    for check, name, what in (
        ("round", "previous", "previous checkpoint"),
        ("root", "root", "log root"),
        ("root", "size", "log size"),
        ("committee", "committee", "committee in office"),
        ("committee", "next_committee", "next committee"),
        ("checkpoint", "rule", "rule"),
        ("record", "record_hash", "hash of the record"),
    ):
        if getattr(claimed, name) != getattr(due, name):
            return check, f"the {what} is not the one that the rules give"
    return "checkpoint", "it is not what the rules give"


def _told(verdict: Verdict) -> str:
    return "APPROVED" if verdict is None else f"REJECTED ({verdict.code}: {verdict.reason})"
