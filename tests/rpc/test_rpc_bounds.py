"""Every bound in the comments of the protos is enforced, and names its field."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from rpc.fakes import digest

from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc
from citychain.rpc._generated.citychain.v1.ledger_pb2 import CastVote, Objection, Vote
from citychain.rpc._generated.citychain.v1.transaction_pb2 import SignedTransaction

ID = digest(0)
CITY = {"city": "kanazawa"}
SIGNATURE = bytes(4_627)
VOTE = {"round": 1, "checkpoint_hash": ID, "vote": Vote(key_id=ID, signature=SIGNATURE)}
OBJECTION = {
    "round": 1,
    "checkpoint_hash": ID,
    "check": "x",
    "key_id": ID,
    "signature": SIGNATURE,
}


def cast_votes(votes: int = 1, **changed: Any) -> pb.CastVotesRequest:
    """The last of so many votes is changed."""
    last = CastVote(**VOTE | changed)
    return pb.CastVotesRequest(**CITY, votes=[*[CastVote(**VOTE)] * (votes - 1), last])


def object_to(objections: int = 1, **changed: Any) -> pb.CastVotesRequest:
    """The last of so many objections is changed."""
    last = Objection(**OBJECTION | changed)
    all = [*[Objection(**OBJECTION)] * (objections - 1), last]
    return pb.CastVotesRequest(**CITY, objections=all)


def recover(keys: int = 1, **changed: Any) -> pb.RecoverRequest:
    fields = {
        "transaction": SignedTransaction(body=b"x"),
        "public_keys": [bytes(2_592)] * keys,
    }
    return pb.RecoverRequest(**CITY, **fields | changed)


BOUNDS: list[tuple[str, Any, str]] = [
    ("ListCities", pb.ListCitiesRequest(page_size=1_001), "page_size"),
    ("ListCities", pb.ListCitiesRequest(page_token="x" * 64), "page_token"),
    ("ListCities", pb.ListCitiesRequest(query="x" * 257), "query"),
    ("GetCity", pb.GetCityRequest(), "city"),
    ("GetCity", pb.GetCityRequest(city="x" * 257), "city"),
    ("GetObjects", pb.GetObjectsRequest(objects=["a"]), "city"),
    ("GetObjects", pb.GetObjectsRequest(**CITY, objects=["a"] * 257), "objects"),
    ("GetObjects", pb.GetObjectsRequest(**CITY, objects=["a", ""]), "objects[1]"),
    ("GetObjects", pb.GetObjectsRequest(**CITY, objects=["金" * 86]), "objects[0]"),
    ("Submit", pb.SubmitRequest(transaction=SignedTransaction(body=b"x")), "city"),
    ("Submit", pb.SubmitRequest(**CITY), "transaction"),
    ("SubmitBatch", pb.SubmitBatchRequest(transactions=[b"x"]), "city"),
    ("SubmitBatch", pb.SubmitBatchRequest(**CITY, transactions=[b"x"] * 1_001), "transactions"),
    ("SubmitStream", pb.SubmitStreamRequest(transactions=[b"x"]), "city"),
    ("SubmitStream", pb.SubmitStreamRequest(**CITY, transactions=[b"x"] * 1_001), "transactions"),
    ("GetTransaction", pb.GetTransactionRequest(tx_id=ID), "city"),
    ("GetTransaction", pb.GetTransactionRequest(**CITY, tx_id=ID[1:]), "tx_id"),
    ("GetRemittance", pb.GetRemittanceRequest(tx_id=ID), "city"),
    ("GetRemittance", pb.GetRemittanceRequest(**CITY, tx_id=ID[1:]), "tx_id"),
    ("GetDeliveries", pb.GetDeliveriesRequest(source=ID, tx_ids=[ID]), "city"),
    ("GetDeliveries", pb.GetDeliveriesRequest(**CITY, source=b"x", tx_ids=[ID]), "source"),
    ("GetDeliveries", pb.GetDeliveriesRequest(**CITY, source=ID), "tx_ids"),
    ("GetDeliveries", pb.GetDeliveriesRequest(**CITY, source=ID, tx_ids=[ID] * 257), "tx_ids"),
    ("GetDeliveries", pb.GetDeliveriesRequest(**CITY, source=ID, tx_ids=[b""]), "tx_ids[0]"),
    ("ListPeers", pb.ListPeersRequest(), "city"),
    ("GetAnchor", pb.GetAnchorRequest(), "city"),
    ("GetReceipts", pb.GetReceiptsRequest(tx_ids=[ID]), "city"),
    ("GetReceipts", pb.GetReceiptsRequest(**CITY), "tx_ids"),
    ("GetReceipts", pb.GetReceiptsRequest(**CITY, tx_ids=[ID] * 257), "tx_ids"),
    ("GetReceipts", pb.GetReceiptsRequest(**CITY, tx_ids=[ID, b""]), "tx_ids[1]"),
    ("Watch", pb.WatchRequest(everything=True), "city"),
    ("Watch", pb.WatchRequest(**CITY), "subject"),
    ("Watch", pb.WatchRequest(**CITY, everything=False), "subject"),
    ("Watch", pb.WatchRequest(**CITY, author=b"x"), "author"),
    ("Watch", pb.WatchRequest(**CITY, transactions=pb.TxIds()), "transactions.tx_ids"),
    (
        "Watch",
        pb.WatchRequest(**CITY, transactions=pb.TxIds(tx_ids=[ID] * 10_001)),
        "transactions.tx_ids",
    ),
    (
        "Watch",
        pb.WatchRequest(**CITY, transactions=pb.TxIds(tx_ids=[ID, ID[1:]])),
        "transactions.tx_ids[1]",
    ),
    ("Watch", pb.WatchRequest(**CITY, everything=True, from_state=1), "from_state"),
    ("Watch", pb.WatchRequest(**CITY, everything=True, from_state=4), "from_state"),
    ("Watch", pb.WatchRequest(**CITY, everything=True, from_state=9), "from_state"),
    (
        "Watch",
        pb.WatchRequest(**CITY, transactions=pb.TxIds(tx_ids=[ID]), after_position=1),
        "after_position",
    ),
    ("Watch", pb.WatchRequest(**CITY, everything=True, after_position=1 << 63), "after_position"),
    ("GetNode", pb.GetNodeRequest(node_id=ID), "city"),
    ("GetNode", pb.GetNodeRequest(**CITY, node_id=b"x" * 33), "node_id"),
    ("ListParents", pb.ListParentsRequest(node_id=ID), "city"),
    ("ListParents", pb.ListParentsRequest(**CITY), "node_id"),
    ("ListChildren", pb.ListChildrenRequest(node_id=ID), "city"),
    ("ListChildren", pb.ListChildrenRequest(**CITY), "node_id"),
    ("ListChildren", pb.ListChildrenRequest(**CITY, node_id=ID, page_size=1_001), "page_size"),
    *(
        ("ListChildren", pb.ListChildrenRequest(**CITY, node_id=ID, page_token=token), "page_token")
        for token in ("x", "1", "1.", "0.1", "1.-1", "²." + "1", "9" * 20 + ".1", "1.1.1")
    ),
    ("ListNodes", pb.ListNodesRequest(round=1), "city"),
    ("ListNodes", pb.ListNodesRequest(**CITY), "round"),
    ("ListNodes", pb.ListNodesRequest(**CITY, round=1, page_size=1_001), "page_size"),
    ("ListRounds", pb.ListRoundsRequest(from_round=1), "city"),
    ("ListRounds", pb.ListRoundsRequest(**CITY), "from_round"),
    ("ListRounds", pb.ListRoundsRequest(**CITY, from_round=1 << 63), "from_round"),
    ("ListRounds", pb.ListRoundsRequest(**CITY, from_round=1, page_size=101), "page_size"),
    ("StreamRounds", pb.StreamRoundsRequest(from_round=1), "city"),
    ("StreamRounds", pb.StreamRoundsRequest(**CITY), "from_round"),
    ("GetCheckpoint", pb.GetCheckpointRequest(), "city"),
    ("GetCheckpoint", pb.GetCheckpointRequest(**CITY, round=1 << 63), "round"),
    ("GetInclusionProof", pb.GetInclusionProofRequest(), "city"),
    ("GetInclusionProof", pb.GetInclusionProofRequest(**CITY, size=1 << 63), "size"),
    ("GetInclusionProof", pb.GetInclusionProofRequest(**CITY, leaf_index=3, size=3), "leaf_index"),
    ("GetInclusionProof", pb.GetInclusionProofRequest(**CITY, leaf_index=1 << 63), "leaf_index"),
    ("GetConsistencyProof", pb.GetConsistencyProofRequest(first_size=1, second_size=1), "city"),
    ("GetConsistencyProof", pb.GetConsistencyProofRequest(**CITY, second_size=1), "first_size"),
    (
        "GetConsistencyProof",
        pb.GetConsistencyProofRequest(**CITY, first_size=2, second_size=1),
        "first_size",
    ),
    (
        "GetConsistencyProof",
        pb.GetConsistencyProofRequest(**CITY, first_size=2, second_size=1 << 63),
        "second_size",
    ),
    ("GetPublicKeys", pb.GetPublicKeysRequest(key_ids=[ID]), "city"),
    ("GetPublicKeys", pb.GetPublicKeysRequest(**CITY, key_ids=[ID] * 257), "key_ids"),
    ("GetPublicKeys", pb.GetPublicKeysRequest(**CITY, key_ids=[ID, b"x"]), "key_ids[1]"),
    ("CastVotes", pb.CastVotesRequest(votes=[CastVote(**VOTE)]), "city"),
    ("CastVotes", cast_votes(65), "votes"),
    ("CastVotes", cast_votes(2, round=0), "votes[1].round"),
    ("CastVotes", cast_votes(round=1 << 63), "votes[0].round"),
    ("CastVotes", cast_votes(checkpoint_hash=ID[1:]), "votes[0].checkpoint_hash"),
    ("CastVotes", cast_votes(vote=None), "votes[0].vote.key_id"),
    (
        "CastVotes",
        cast_votes(vote=Vote(key_id=ID, signature=SIGNATURE[1:])),
        "votes[0].vote.signature",
    ),
    ("CastVotes", object_to(17), "objections"),
    ("CastVotes", object_to(2, round=0), "objections[1].round"),
    ("CastVotes", object_to(checkpoint_hash=b""), "objections[0].checkpoint_hash"),
    ("CastVotes", object_to(check=""), "objections[0].check"),
    ("CastVotes", object_to(check="金" * 11), "objections[0].check"),
    ("CastVotes", object_to(detail="x" * 513), "objections[0].detail"),
    ("CastVotes", object_to(key_id=b""), "objections[0].key_id"),
    ("CastVotes", object_to(signature=b""), "objections[0].signature"),
    ("GetCommittee", pb.GetCommitteeRequest(), "city"),
    ("Recover", pb.RecoverRequest(transaction=SignedTransaction(body=b"x")), "city"),
    ("Recover", recover(transaction=None), "transaction"),
    ("Recover", recover(transaction=SignedTransaction(body=bytes(64 << 10))), "transaction"),
    ("Recover", recover(257), "public_keys"),
    ("Recover", recover(public_keys=[bytes(2_592), bytes(2_591)]), "public_keys[1]"),
]


def method(channel: Any, name: str) -> Any:
    for stub in (
        services_pb2_grpc.CityServiceStub(channel),
        services_pb2_grpc.TransactionServiceStub(channel),
        services_pb2_grpc.DagServiceStub(channel),
        services_pb2_grpc.VoteServiceStub(channel),
        services_pb2_grpc.ExchangeServiceStub(channel),
    ):
        if hasattr(stub, name):
            return getattr(stub, name)
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "request_message", "field"),
    BOUNDS,
    ids=[f"{index}-{name}-{field}" for index, (name, _, field) in enumerate(BOUNDS)],
)
async def test_a_bound_is_enforced_and_names_its_field(
    channel: Any, name: str, request_message: Any, field: str
) -> None:
    rpc = method(channel, name)
    if name == "SubmitStream":
        call = rpc()
        await call.write(request_message)
    else:
        call = rpc(request_message)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    metadata = dict([*caught.value.trailing_metadata()])
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert bad.field_violations[0].field == field


NOT_FOUND: list[tuple[str, Any, str]] = [
    ("GetTransaction", pb.GetTransactionRequest(**CITY, tx_id=ID), f"no transaction '{ID.hex()}'"),
    ("GetRemittance", pb.GetRemittanceRequest(**CITY, tx_id=ID), f"no remittance '{ID.hex()}'"),
    ("GetNode", pb.GetNodeRequest(**CITY, node_id=ID), f"no node '{ID.hex()}'"),
    ("ListParents", pb.ListParentsRequest(**CITY, node_id=ID), f"no node '{ID.hex()}'"),
    ("ListChildren", pb.ListChildrenRequest(**CITY, node_id=ID), f"no node '{ID.hex()}'"),
    ("GetCheckpoint", pb.GetCheckpointRequest(**CITY), "no round 'latest approved'"),
    ("GetCheckpoint", pb.GetCheckpointRequest(**CITY, round=5), "no round '5'"),
]


@pytest.mark.parametrize(
    ("name", "request_message", "message"), NOT_FOUND, ids=lambda value: str(value)[:20]
)
async def test_what_does_not_exist_is_not_found(
    channel: Any, name: str, request_message: Any, message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(channel, name)(request_message)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == message


def test_every_method_with_a_city_demands_it() -> None:
    """So that a new method is not forgotten above."""
    bounded = {name for name, _, field in BOUNDS if field == "city"}
    methods = {
        method.name
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if "city" in method.input_type.fields_by_name
    }
    # It is asked in two steps: tests/moving.
    assert methods - {"MoveCity"} == bounded
