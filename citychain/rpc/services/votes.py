"""`VoteService`: between representatives and the city that they approve the rounds of."""

from __future__ import annotations

from typing import Any, Final

from citychain.crypto.signatures import PUBLIC_KEY_BYTES
from citychain.errors import InvalidRequest, NotSupported
from citychain.handler import CityHandler
from citychain.ports import SupportsVotes
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory
from citychain.rpc.messages import (
    RESPONSE_BYTES,
    decode_cast_vote,
    decode_objection,
    encode_committee,
    encode_handover,
    encode_outcomes,
)

__all__ = ["VoteService"]

VOTES_MAX: Final = 64
OBJECTIONS_MAX: Final = 16
SEATS_MAX: Final = 256
RECOVERY_BYTES_MAX: Final = 64 << 10


class VoteService(services_pb2_grpc.VoteServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory) -> None:
        self._directory = directory

    async def CastVotes(
        self, request: services_pb2.CastVotesRequest, context: Any
    ) -> services_pb2.CastVotesResponse:
        name = requests.text(request.city, "city")
        requests.at_most(request.votes, "votes", VOTES_MAX, "votes")
        requests.at_most(request.objections, "objections", OBJECTIONS_MAX, "objections")
        votes = [
            requests.decoded(decode_cast_vote, vote, f"votes[{index}]")
            for index, vote in enumerate(request.votes)
        ]
        objections = [
            requests.decoded(decode_objection, objection, f"objections[{index}]")
            for index, objection in enumerate(request.objections)
        ]
        voting = _voting(await self._directory.handler(name))
        outcomes = await voting.cast(votes) if votes else []
        if objections:
            await voting.object(objections)
        return services_pb2.CastVotesResponse(outcomes=encode_outcomes(outcomes))

    async def GetCommittee(
        self, request: services_pb2.GetCommitteeRequest, context: Any
    ) -> services_pb2.GetCommitteeResponse:
        name = requests.text(request.city, "city")
        handler = await self._directory.handler(name)
        told = requests.offset(request.page_token)
        response = encode_committee(await _voting(handler).committee())
        if not request.handovers:
            return response
        size = 0
        changes = await handler.handovers(request.known_round)
        for handover in changes[told:]:
            message = encode_handover(handover)
            size += message.ByteSize()
            if size > RESPONSE_BYTES and response.handovers:
                response.next_page_token = str(told + len(response.handovers))
                break
            response.handovers.append(message)
        return response

    async def Recover(
        self, request: services_pb2.RecoverRequest, context: Any
    ) -> services_pb2.RecoverResponse:
        name = requests.text(request.city, "city")
        if not request.HasField("transaction"):
            raise InvalidRequest("transaction", "must be given")
        envelope = request.transaction.SerializeToString()
        requests.at_most(envelope, "transaction", RECOVERY_BYTES_MAX, "bytes")
        requests.at_most(request.public_keys, "public_keys", SEATS_MAX, "keys")
        for index, public_key in enumerate(request.public_keys):
            if len(public_key) != PUBLIC_KEY_BYTES:
                raise InvalidRequest(
                    f"public_keys[{index}]",
                    f"has {len(public_key)} bytes; a public key has {PUBLIC_KEY_BYTES}",
                )
        handler = await self._directory.handler(name)
        await _voting(handler).recover(envelope, list(request.public_keys))
        return services_pb2.RecoverResponse()


def _voting(handler: CityHandler) -> SupportsVotes:
    if (voting := handler.voting) is None:
        raise NotSupported(
            f"the consensus step {handler.genesis.consensus} of this city takes no votes from "
            "elsewhere"
        )
    return voting
