"""`VoteService`, and the wire of votes and committees."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpc.fakes import FakeCity, digest, make_round

from citychain.errors import VerificationError
from citychain.ports import CommitteeStatus, RepresentativeStatus
from citychain.rpc import messages
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, services_pb2_grpc
from citychain.rpc._generated.citychain.v1.transaction_pb2 import SignedTransaction
from citychain.rpc.messages import RESPONSE_BYTES
from citychain.types import CastVote, ConflictingVotes, Handover, Objection, Vote, VoteOutcome

ids = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=32, max_size=32).map(lambda seed: (seed * 145)[:4_627])
numbers = st.integers(1, (1 << 63) - 1)
stakes = st.integers(0, (1 << 64) - 1)
casts = st.builds(CastVote, numbers, ids, st.builds(Vote, ids, signatures))
objections = st.builds(
    Objection,
    numbers,
    ids,
    st.text(st.characters(codec="ascii"), min_size=1, max_size=32),
    st.text(st.characters(codec="utf-8"), max_size=128),
    ids,
    signatures,
)
statuses = st.builds(
    CommitteeStatus,
    round=numbers,
    members=st.lists(
        st.builds(RepresentativeStatus, ids, stakes, numbers, st.none() | objections), max_size=3
    ),
    stake_for=stakes,
    stake_needed=stakes,
    sealed_round=numbers,
    approved_round=numbers,
    conflicting=st.lists(
        st.builds(ConflictingVotes, ids.map(lambda key: key * 81), casts, casts), max_size=2
    ),
)


@pytest.fixture
def votes(channel: Any) -> Any:
    return services_pb2_grpc.VoteServiceStub(channel)


def make_vote(round: int = 1) -> CastVote:
    return CastVote(round, digest("checkpoint", round), Vote(digest("key"), b"s" * 4_627))


def make_handover(number: int, keys: int = 1) -> Handover:
    return Handover((bytes(2_592),) * keys, b"checkpoint %d" % number, make_round(1).certificate)


def make_objection() -> Objection:
    return Objection(1, digest("c"), "replay", "金沢", digest("key"), b"s" * 4_627)


@given(casts)
def test_a_vote_survives_the_wire(cast: CastVote) -> None:
    assert messages.decode_cast_vote(messages.encode_cast_vote(cast), "vote") == cast


@given(objections)
def test_an_objection_survives_the_wire(objection: Objection) -> None:
    message = messages.encode_objection(objection)
    assert messages.decode_objection(message, "objection") == objection


@given(statuses)
def test_a_committee_survives_the_wire(status: CommitteeStatus) -> None:
    wire = messages.encode_committee(status).SerializeToString()
    read = services_pb2.GetCommitteeResponse.FromString(wire)
    assert messages.decode_committee(read) == status


def test_outcomes_must_be_one_a_vote_and_known() -> None:
    assert messages.decode_outcomes([1, 8], 2) == [VoteOutcome.COUNTED, VoteOutcome.EQUIVOCATION]
    with pytest.raises(VerificationError, match="outcomes: 1 for 2 votes"):
        messages.decode_outcomes([1], 2)
    with pytest.raises(VerificationError, match="outcomes: 9"):
        messages.decode_outcomes([9], 1)


@pytest.mark.parametrize(
    ("status", "field"),
    [
        (
            services_pb2.GetCommitteeResponse(members=[services_pb2.CommitteeMember()]),
            r"members\[0\]\.key_id",
        ),
        (
            services_pb2.GetCommitteeResponse(
                conflicting=[ledger_pb2.ConflictingVotes(public_key=b"x")]
            ),
            r"conflicting\[0\]\.public_key",
        ),
        (
            services_pb2.GetCommitteeResponse(
                members=[
                    services_pb2.CommitteeMember(key_id=bytes(32), objection=ledger_pb2.Objection())
                ]
            ),
            r"members\[0\]\.objection\.check",
        ),
    ],
)
def test_a_committee_that_is_none_names_the_field(
    status: services_pb2.GetCommitteeResponse, field: str
) -> None:
    with pytest.raises(VerificationError, match=field):
        messages.decode_committee(status)


async def test_votes_and_objections_reach_the_consensus_step(votes: Any, city: FakeCity) -> None:
    cast, objection = [make_vote(1), make_vote(2)], make_objection()
    response = await votes.CastVotes(
        services_pb2.CastVotesRequest(
            city="金沢",
            votes=map(messages.encode_cast_vote, cast),
            objections=[messages.encode_objection(objection)],
        )
    )
    assert [*response.outcomes] == [VoteOutcome.COUNTED] * 2
    assert city.voting is not None
    assert (city.voting.votes, city.voting.objections) == (cast, [objection])


async def test_the_committee_comes_without_how_it_came_there(votes: Any, city: FakeCity) -> None:
    assert city.voting is not None
    city.voting.status = CommitteeStatus(
        round=2,
        members=[RepresentativeStatus(digest("key"), 3, 1, make_objection())],
        stake_for=1,
        stake_needed=2,
        sealed_round=2,
        approved_round=1,
        conflicting=[],
    )
    city.changes = [make_handover(1)]
    request = services_pb2.GetCommitteeRequest(city="kanazawa")
    response = await votes.GetCommittee(request)
    assert messages.decode_committee(response) == city.voting.status
    assert not response.handovers
    request.handovers = True
    response = await votes.GetCommittee(request)
    assert messages.decode_committee(response) == city.voting.status
    assert messages.decode_handovers(response.handovers) == tuple(city.changes)
    assert not response.next_page_token


async def test_as_many_handovers_come_as_fit_in_a_response(votes: Any, city: FakeCity) -> None:
    city.changes = [make_handover(number, keys=20) for number in range(100)]
    request = services_pb2.GetCommitteeRequest(city="kanazawa", handovers=True, known_round=3)
    told: list[Handover] = []
    pages = 0
    while pages == 0 or request.page_token:
        response = await votes.GetCommittee(request)
        assert RESPONSE_BYTES // 2 < response.ByteSize() < RESPONSE_BYTES or pages
        assert response.handovers
        told += messages.decode_handovers(response.handovers)
        request.page_token = response.next_page_token
        pages += 1
    assert told == city.changes[3:]
    assert pages == 3
    # One that is larger than a page comes all the same.
    city.changes = [make_handover(number, keys=RESPONSE_BYTES // 2_592 + 1) for number in (1, 2)]
    request = services_pb2.GetCommitteeRequest(city="kanazawa", handovers=True)
    response = await votes.GetCommittee(request)
    assert messages.decode_handovers(response.handovers) == (city.changes[0],)
    assert response.next_page_token


@pytest.mark.parametrize("token", ["-1", "x", "1.0", "１", "9" * 10])
async def test_a_page_token_of_others_is_refused(votes: Any, token: str) -> None:
    request = services_pb2.GetCommitteeRequest(city="kanazawa", page_token=token)
    with pytest.raises(grpc.aio.AioRpcError, match="page_token") as caught:
        await votes.GetCommittee(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_recovery_reaches_the_consensus_step(votes: Any, city: FakeCity) -> None:
    transaction = SignedTransaction(body=b"body", scheme=1, key_id=digest("operator"))
    keys = [bytes([number]) * 2_592 for number in range(2)]
    await votes.Recover(
        services_pb2.RecoverRequest(city="kanazawa", transaction=transaction, public_keys=keys)
    )
    assert city.voting is not None
    assert city.voting.recoveries == [(transaction.SerializeToString(), keys)]


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("CastVotes", services_pb2.CastVotesRequest(city="kanazawa")),
        ("GetCommittee", services_pb2.GetCommitteeRequest(city="kanazawa")),
        (
            "Recover",
            services_pb2.RecoverRequest(
                city="kanazawa", transaction=SignedTransaction(), public_keys=[bytes(2_592)]
            ),
        ),
    ],
)
async def test_a_city_that_takes_no_votes_says_so(
    votes: Any, city: FakeCity, method: str, request_message: Any
) -> None:
    city.voting = None
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(votes, method)(request_message)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == (
        "the consensus step solo/1 of this city takes no votes from elsewhere"
    )
