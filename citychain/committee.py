"""Who is in office: the committees of a city, each put there by the one before.

The genesis names the first committee. A *handover* names the next one:

========= =====================================================================
election  a checkpoint of round L that names the next committee, certified by the
          committee in office; the elected are in office from L + 1 on
recovery  the operator's signed transaction: where the committee in office is lost,
          its seats are in office from the round that it names
========= =====================================================================

Both come with the public keys of the new committee. Whoever holds the genesis follows
the chain from there and believes nobody: `CommitteeChain`.

A certificate is by the committee in office. The checkpoint that it is for names that
committee, but for rounds that were sealed before a recovery replaced it: those name
the committee that was replaced.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from citychain import checkpoint as checkpoints
from citychain._native import transactions
from citychain.checkpoint import Checkpoint
from citychain.crypto import signatures
from citychain.crypto.keys import key_id
from citychain.errors import InvalidReceipt, VerificationError
from citychain.genesis import Genesis
from citychain.layout import seats_bytes
from citychain.types import Certificate, Handover, Seat, Vote

__all__ = ["HANDOVERS_MAX", "CommitteeChain", "Replaced", "Term", "first_term", "term_of"]

HANDOVERS_MAX: Final = 1_024
"""Handovers in one proof; a longer chain is followed by proofs of rounds on the way."""
PREPARED_MAX: Final = 1_024
"""Keys kept prepared, 66 KB each."""


class Replaced(NamedTuple):
    """What is kept of a committee that a recovery replaced."""

    link: bytes
    seats: bytes
    """Hash of its seats, as checkpoints name them."""


@dataclass(frozen=True, slots=True)
class Term:
    """A committee's time in office, which ends where the next one's begins."""

    first_round: int
    seats: tuple[Seat, ...]
    public_keys: Mapping[bytes, bytes]
    """By key id."""
    link: bytes
    """What put it in office: the genesis id, the hash of the electing checkpoint, or the id
    of the recovery's transaction."""
    previous: bytes
    """Hash of the checkpoint of the round before the first; the genesis id before round 1."""
    handover: Handover | None = None
    """``None`` for the committee of the genesis, and for one that a chain starts from."""
    replaced: tuple[Replaced, ...] = ()
    """Where a chain starts from a recovered one: those that rounds may still name, the last
    first. Within a chain they are the terms before it."""

    @property
    def recovered(self) -> bool:
        """Whether the operator put it in office."""
        return bool(self.replaced) or (self.handover is not None and bool(self.handover.recovery))

    def as_replaced(self) -> Replaced:
        """What the recovery that replaces it keeps of it."""
        return Replaced(self.link, _seats_hash(self.seats))


class CommitteeChain:
    """The committees of one city, as far as they are known.

    Args:
        start: One that is known to be right; the genesis' if it is not given. Nothing before it
            is part of the chain.

    What does not hold raises `InvalidReceipt` with the check's name: ``handover`` for a
    handover or a committee that is not in office, else as `citychain.receipt` says.
    """

    def __init__(self, genesis: Genesis, start: Term | None = None) -> None:
        self._genesis = genesis
        self._terms: tuple[Term, ...] = (start or first_term(genesis),)
        self._latest = (0, genesis.id)
        self._prepared = signatures.KeyCache(PREPARED_MAX, 1)
        self._used: set[bytes] = set()

    @property
    def terms(self) -> Sequence[Term]:
        """All known, in order."""
        return self._terms

    @property
    def known_round(self) -> int:
        """The committee in office in this round, and all before, are known; 0 while only that
        of the genesis is."""
        return self._terms[-1].first_round if len(self._terms) > 1 else 0

    def recovered_rounds(self, round: int) -> list[int]:
        """First rounds, up to this one, of committees that the operator put in office."""
        return [
            term.first_round for term in self._terms if term.recovered and term.first_round <= round
        ]

    def in_office(self, round: int) -> Term:
        """The committee in office in a round, as far as is known."""
        return self._terms[self._index(round)]

    def _index(self, round: int) -> int:
        return max(bisect_right(self._terms, round, key=_first_round) - 1, 0)

    # --- certificates

    def verify_certificate(self, checkpoint: bytes, certificate: Certificate) -> Checkpoint:
        """Check that the committee in office certified a checkpoint, and return it decoded.

        Its proof-of-history entry is not looked at.
        """
        digest = _claimed_hash(checkpoint, certificate)
        decoded = _decoded(self._genesis, checkpoint)
        self._verify(decoded, digest, certificate, self._index(decoded.round))
        return decoded

    def advance(
        self, checkpoint: bytes, certificate: Certificate, public_keys: Mapping[bytes, bytes]
    ) -> Checkpoint:
        """`verify_certificate` of one round after the other; moves on where it elects.

        Args:
            public_keys: By key id; looked into for those of a next committee alone.
        """
        decoded = self.verify_certificate(checkpoint, certificate)
        if decoded.next_committee is not None:
            missing = [seat for seat in decoded.next_committee if seat.key_id not in public_keys]
            if missing:
                raise InvalidReceipt(
                    "handover", f"the public key of {missing[0].key_id.hex()[:16]}… is not given"
                )
            keys = tuple(public_keys[seat.key_id] for seat in decoded.next_committee)
            self.apply(Handover(keys, checkpoint, certificate))
        self._latest = (decoded.round, certificate.checkpoint_hash)
        return decoded

    def _verify(
        self, checkpoint: Checkpoint, digest: bytes, certificate: Certificate, index: int
    ) -> None:
        """Check a certificate by the committee of a term."""
        if certificate.round != checkpoint.round:
            raise InvalidReceipt("checkpoint", "the certificate is for another round")
        if checkpoint.round < self._terms[index].first_round:
            raise InvalidReceipt(
                "handover", f"round {checkpoint.round} was before the committee's first"
            )
        before = self._hash_of(checkpoint.round - 1)
        if before is not None and checkpoint.previous != before:
            raise InvalidReceipt("checkpoint", "it does not follow the round before")
        if not self._may_name(index, checkpoint.committee):
            raise InvalidReceipt(
                "handover",
                f"the checkpoint of round {checkpoint.round} names a committee that is not in "
                "office, or a handover is missing",
            )
        self._verify_votes(checkpoint, digest, certificate.votes, self._terms[index])

    def _may_name(self, index: int, committee: Sequence[Seat]) -> bool:
        """Whether checkpoints of a term may name a committee: its own, or one it replaced."""
        named = sorted(committee)
        while named != sorted(self._terms[index].seats):
            if not self._terms[index].recovered:
                return False
            if index == 0:
                digest = _seats_hash(named)
                return any(replaced.seats == digest for replaced in self._terms[0].replaced)
            index -= 1
        return True

    def _hash_of(self, round: int) -> bytes | None:
        """Hash of a round's checkpoint, where it is known by what has been verified."""
        if self._latest[0] == round:
            return self._latest[1]
        term = self._terms[self._index(round + 1)]
        return term.previous if term.first_round == round + 1 else None

    def _verify_votes(
        self, checkpoint: Checkpoint, digest: bytes, votes: Sequence[Vote], term: Term
    ) -> None:
        """Check that a quorum signed: each vote must hold, and cheap checks come first."""
        stakes = dict(term.seats)
        voters = {vote.key_id for vote in votes}
        if len(voters) < len(votes) or not voters <= stakes.keys():
            raise InvalidReceipt("quorum", "a vote by a key without a seat, or a second one")
        stake, total = sum(stakes[voter] for voter in voters), sum(stakes.values())
        if stake < checkpoints.quorum_stake(total, self._genesis.quorum):
            raise InvalidReceipt("quorum", f"stake {stake} of {total} signed")
        message = checkpoints.vote_message(checkpoint.genesis, checkpoint.round, digest)
        for vote, held in zip(votes, self._signed(votes, message, term), strict=True):
            if not held:
                raise InvalidReceipt(
                    "quorum", f"the vote of {vote.key_id.hex()[:16]}… does not hold"
                )

    def _signed(self, votes: Sequence[Vote], message: bytes, term: Term) -> list[bool]:
        """Whether each signature holds.

        A committee of which one certificate is seen, as those on the way to the present,
        is not worth preparing keys for.
        """
        if term.link not in self._used:
            self._used.add(term.link)
            return signatures.verify_batch(
                [
                    (term.public_keys[voter], message, checkpoints.VOTE_CONTEXT, signature)
                    for voter, signature in votes
                ]
            )
        return [self._holds(vote, message, term) for vote in votes]

    def _holds(self, vote: Vote, message: bytes, term: Term) -> bool:
        key = self._prepared.get(vote.key_id)
        if key is None:
            key = signatures.PreparedKey(term.public_keys[vote.key_id])
            self._prepared.insert(vote.key_id, key)
        try:
            key.verify(message, checkpoints.VOTE_CONTEXT, vote.signature)
        except VerificationError:
            return False
        return True

    # --- handovers

    def apply(self, handover: Handover) -> Term:
        """Verify a handover and put its committee in office; one that is known is checked.

        Returns:
            The new committee's term.
        """
        index = self._enter(handover, None)
        return self._terms[index]

    def follow(self, handovers: Sequence[Handover], round: int) -> None:
        """Verify the handovers that came with a proof of a round, and go along.

        They must follow one on the other, the first on a committee that is known, and lead
        to the one in office in that round: not past it.
        """
        if len(handovers) > HANDOVERS_MAX:
            raise InvalidReceipt("handover", f"{len(handovers)}; at most {HANDOVERS_MAX}")
        at: int | None = None
        for handover in handovers:
            expected = 1 if at is None else at + 1
            known = self._terms[expected].handover if expected < len(self._terms) else None
            at = expected if known == handover else self._enter(handover, at)
        if at is None:
            return
        if self._terms[at].first_round > round:
            raise InvalidReceipt("handover", f"one after round {round} has no part in it")
        if self._index(round) != at:
            raise InvalidReceipt("handover", f"none to the committee in office in round {round}")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Forget what was put in office within, if that ends by an exception."""
        terms = self._terms
        try:
            yield
        except BaseException:
            self._terms = terms
            raise

    def _enter(self, handover: Handover, after: int | None) -> int:
        """Verify a handover, put it in its place if it is new, and return its index."""
        try:
            term = term_of(self._genesis, handover)
            index = self._place(term)
            if index == 0 or (after is not None and index != after + 1):
                raise InvalidReceipt("handover", "it does not follow the one before")
            self._verify_handover(term, index)
        except InvalidReceipt as error:
            # All of these are one check for whoever reads the name of it.
            detail = error.detail if error.check == "handover" else str(error)
            raise InvalidReceipt("handover", detail) from None
        if index == len(self._terms) or self._terms[index].link != term.link:
            self._terms = (*self._terms[:index], term, *self._terms[index:])
        return index

    def _place(self, term: Term) -> int:
        """Index of a term if it is known, or else where it belongs by its first round; 0 if it
        stands before the chain.

        An election that a recovery replaced before any round was certified stands before it.
        """
        first = bisect_left(self._terms, term.first_round, key=_first_round)
        past = bisect_right(self._terms, term.first_round, key=_first_round)
        for index in range(first, past):
            if self._terms[index].link == term.link:
                return index
        if any(term.link == replaced.link for replaced in self._terms[0].replaced):
            return 0
        return max(past if term.recovered else first, 1)

    def _verify_handover(self, term: Term, index: int) -> None:
        """Check a handover from the committee before ``index``."""
        following = self._terms[index] if index < len(self._terms) else None
        # A recovery is the operator's word, whoever it replaced: that can be told of later.
        if following and following.link != term.link and not following.recovered:
            raise InvalidReceipt(
                "handover", f"another committee is in office from {following.first_round} on"
            )
        if term.first_round < self._terms[index - 1].first_round:
            raise InvalidReceipt("handover", "it does not follow the one before")
        known = self._hash_of(term.first_round - 1)
        if known is not None and known != term.previous:
            raise InvalidReceipt("handover", f"round {term.first_round - 1} was another one")
        handover = term.handover
        assert handover is not None
        if term.recovered:
            self._verify_operator(handover.recovery)
        else:
            assert handover.certificate is not None
            checkpoint = _decoded(self._genesis, handover.checkpoint)
            self._verify(checkpoint, term.link, handover.certificate, index - 1)

    def _verify_operator(self, envelope: bytes) -> None:
        [transaction] = transactions.decode_batch([envelope])
        try:
            signatures.verify(
                bytes.fromhex(self._genesis.operator),
                transaction.body,
                signatures.TRANSACTION_CONTEXT,
                transaction.signature,
            )
        except VerificationError:
            raise InvalidReceipt("handover", "the recovery is not signed by the operator") from None


def first_term(genesis: Genesis) -> Term:
    """The term of the genesis' committee."""
    keys = {member.key_id: bytes.fromhex(member.public_key) for member in genesis.committee}
    return Term(1, genesis.seats, keys, genesis.id, genesis.id)


def term_of(genesis: Genesis, handover: Handover) -> Term:
    """The term that a handover begins, if it holds: no signature is checked.

    Raises:
        InvalidReceipt: it is in itself none of this city.
    """
    return _recovery(genesis, handover) if handover.recovery else _election(genesis, handover)


def _election(genesis: Genesis, handover: Handover) -> Term:
    if handover.certificate is None:
        raise InvalidReceipt("handover", "neither an election nor a recovery")
    digest = _claimed_hash(handover.checkpoint, handover.certificate)
    checkpoint = _decoded(genesis, handover.checkpoint)
    if checkpoint.next_committee is None:
        raise InvalidReceipt("handover", f"round {checkpoint.round} elects nobody")
    keys = _keys_of_seats(checkpoint.next_committee, handover.public_keys)
    first_round = checkpoint.round + 1
    return Term(first_round, checkpoint.next_committee, keys, digest, digest, handover)


def _recovery(genesis: Genesis, handover: Handover) -> Term:
    if handover.checkpoint or handover.certificate is not None:
        raise InvalidReceipt("handover", "both an election and a recovery")
    try:
        [transaction] = transactions.decode_batch([handover.recovery])
    except ValueError as error:
        raise InvalidReceipt("handover", f"it cannot be read: {error}") from None
    recovery = transaction.recovery
    if recovery is None:
        raise InvalidReceipt("handover", "the operator's transaction is no recovery")
    if transaction.genesis != genesis.id:
        raise InvalidReceipt("handover", "the recovery is of another city")
    if transaction.author != genesis.operator_id:
        raise InvalidReceipt("handover", "the recovery is not the operator's")
    keys = _keys_of_seats(recovery.seats, handover.public_keys)
    return Term(
        recovery.from_round,
        recovery.seats,
        keys,
        transaction.tx_id,
        recovery.previous,
        handover,
    )


def _decoded(genesis: Genesis, checkpoint: bytes) -> Checkpoint:
    try:
        decoded = checkpoints.decode(checkpoint)
    except VerificationError as error:
        raise InvalidReceipt("checkpoint", str(error)) from None
    if decoded.genesis != genesis.id:
        raise InvalidReceipt("genesis", "the checkpoint is another city's")
    if decoded.rule != genesis.rule:
        raise InvalidReceipt("checkpoint", f"rule {decoded.rule}, not the genesis' one")
    if decoded.round < 1:
        raise InvalidReceipt("checkpoint", "rounds are numbered from 1")
    return decoded


def _seats_hash(seats: Sequence[Seat]) -> bytes:
    return hashlib.sha256(b"citychain/seats/v1\0" + seats_bytes(tuple(sorted(seats)))).digest()


def _first_round(term: Term) -> int:
    return term.first_round


def _claimed_hash(checkpoint: bytes, certificate: Certificate) -> bytes:
    digest = checkpoints.checkpoint_hash(checkpoint)
    if certificate.checkpoint_hash != digest:
        raise InvalidReceipt("checkpoint", "the certificate is for another one")
    return digest


def _keys_of_seats(seats: Sequence[Seat], public_keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Public keys by key id, given in order of the seats."""
    if len(public_keys) != len(seats):
        raise InvalidReceipt("handover", f"{len(public_keys)} keys for {len(seats)} seats")
    keys: dict[bytes, bytes] = {}
    for seat, public_key in zip(seats, public_keys, strict=True):
        if key_id(public_key) != seat.key_id:
            raise InvalidReceipt("handover", f"a key is not that of {seat.key_id.hex()[:16]}…")
        if seat.stake < 1 or seat.key_id in keys:
            raise InvalidReceipt("handover", "a seat without stake, or two of one key")
        keys[seat.key_id] = public_key
    return keys
