"""Votes, objections, and who is in office."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from citychain.crypto.signatures import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from citychain.errors import VerificationError
from citychain.ports import CommitteeStatus, RepresentativeStatus
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact
from citychain.types import CastVote, ConflictingVotes, Objection, Vote, VoteOutcome

__all__ = [
    "decode_cast_vote",
    "decode_committee",
    "decode_objection",
    "decode_outcomes",
    "encode_cast_vote",
    "encode_committee",
    "encode_objection",
    "encode_outcomes",
]

ROUND_MAX: Final = (1 << 63) - 1
MEMBERS_MAX: Final = 1_024
CONFLICTING_MAX: Final = 1_024
CHECK_BYTES_MAX: Final = 32
DETAIL_BYTES_MAX: Final = 512


def encode_cast_vote(cast: CastVote) -> ledger_pb2.CastVote:
    """A vote on its way."""
    return ledger_pb2.CastVote(
        round=cast.round,
        checkpoint_hash=cast.checkpoint_hash,
        vote=ledger_pb2.Vote(key_id=cast.vote.key_id, signature=cast.vote.signature),
    )


def decode_cast_vote(message: ledger_pb2.CastVote, field: str) -> CastVote:
    """A vote in its form; whether it holds is for others to say."""
    return CastVote(
        _round(message.round, f"{field}.round"),
        exact(message.checkpoint_hash, ID_BYTES, f"{field}.checkpoint_hash"),
        Vote(
            exact(message.vote.key_id, ID_BYTES, f"{field}.vote.key_id"),
            exact(message.vote.signature, SIGNATURE_BYTES, f"{field}.vote.signature"),
        ),
    )


def encode_objection(objection: Objection) -> ledger_pb2.Objection:
    """An objection on its way."""
    return ledger_pb2.Objection(
        round=objection.round,
        checkpoint_hash=objection.checkpoint_hash,
        check=objection.check,
        detail=objection.detail,
        key_id=objection.key_id,
        signature=objection.signature,
    )


def decode_objection(message: ledger_pb2.Objection, field: str) -> Objection:
    """An objection in its form; whether it holds is for others to say."""
    at_most(len(message.check.encode()), CHECK_BYTES_MAX, f"{field}.check")
    at_most(len(message.detail.encode()), DETAIL_BYTES_MAX, f"{field}.detail")
    if not message.check:
        raise VerificationError(f"{field}.check: must be given")
    return Objection(
        _round(message.round, f"{field}.round"),
        exact(message.checkpoint_hash, ID_BYTES, f"{field}.checkpoint_hash"),
        message.check,
        message.detail,
        exact(message.key_id, ID_BYTES, f"{field}.key_id"),
        exact(message.signature, SIGNATURE_BYTES, f"{field}.signature"),
    )


def encode_outcomes(outcomes: Iterable[VoteOutcome]) -> list[services_pb2.VoteOutcome.ValueType]:
    """What became of votes; the numbers are the same."""
    return [services_pb2.VoteOutcome.ValueType(outcome) for outcome in outcomes]


def decode_outcomes(outcomes: Sequence[int], votes: int) -> list[VoteOutcome]:
    """What became of so many votes."""
    if len(outcomes) != votes:
        raise VerificationError(f"outcomes: {len(outcomes)} for {votes} votes")
    try:
        return [VoteOutcome(outcome) for outcome in outcomes]
    except ValueError as error:
        raise VerificationError(f"outcomes: {error}") from None


def encode_committee(status: CommitteeStatus) -> services_pb2.GetCommitteeResponse:
    """Who is in office, without how they came there."""
    return services_pb2.GetCommitteeResponse(
        round=status.round,
        members=[
            services_pb2.CommitteeMember(
                key_id=member.key_id,
                stake=member.stake,
                last_round=member.last_round,
                objection=encode_objection(member.objection) if member.objection else None,
            )
            for member in status.members
        ],
        stake_for=status.stake_for,
        stake_needed=status.stake_needed,
        sealed_round=status.sealed_round,
        approved_round=status.approved_round,
        conflicting=[
            ledger_pb2.ConflictingVotes(
                public_key=conflict.public_key,
                first=encode_cast_vote(conflict.first),
                second=encode_cast_vote(conflict.second),
            )
            for conflict in status.conflicting
        ],
    )


def decode_committee(message: services_pb2.GetCommitteeResponse) -> CommitteeStatus:
    """Who a server says is in office."""
    at_most(len(message.members), MEMBERS_MAX, "members")
    at_most(len(message.conflicting), CONFLICTING_MAX, "conflicting")
    return CommitteeStatus(
        round=message.round,
        members=[
            RepresentativeStatus(
                key_id=exact(member.key_id, ID_BYTES, f"members[{index}].key_id"),
                stake=member.stake,
                last_round=member.last_round,
                objection=(
                    decode_objection(member.objection, f"members[{index}].objection")
                    if member.HasField("objection")
                    else None
                ),
            )
            for index, member in enumerate(message.members)
        ],
        stake_for=message.stake_for,
        stake_needed=message.stake_needed,
        sealed_round=message.sealed_round,
        approved_round=message.approved_round,
        conflicting=[
            _conflict(conflict, f"conflicting[{index}]")
            for index, conflict in enumerate(message.conflicting)
        ],
    )


def _conflict(message: ledger_pb2.ConflictingVotes, field: str) -> ConflictingVotes:
    return ConflictingVotes(
        exact(message.public_key, PUBLIC_KEY_BYTES, f"{field}.public_key"),
        decode_cast_vote(message.first, f"{field}.first"),
        decode_cast_vote(message.second, f"{field}.second"),
    )


def _round(number: int, field: str) -> int:
    if not 1 <= number <= ROUND_MAX:
        raise VerificationError(f"{field}: is {number}; rounds are numbered from 1")
    return number
