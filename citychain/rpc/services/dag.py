"""`DagService`: the graph, the rounds, and proofs about the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from citychain import record
from citychain.errors import InvalidRequest, NotFound, StorageError
from citychain.handler import CityHandler
from citychain.ports import StoredRound
from citychain.rpc import requests
from citychain.rpc._generated.citychain.v1 import ledger_pb2, services_pb2, services_pb2_grpc
from citychain.rpc.directory import CityDirectory
from citychain.rpc.draining import Drain, closing
from citychain.rpc.messages import RESPONSE_BYTES, LinkedNode, encode_node, encode_round
from citychain.rpc.services.round_parts import RoundParts
from citychain.types import NodeRef, SealedNode

__all__ = ["DagService"]

ROUNDS_STEP: Final = 4
KEYS_MAX: Final = 256
INTEGER_MAX: Final = (1 << 63) - 1


class DagService(services_pb2_grpc.DagServiceServicer):
    """See `proto/citychain/v1/services.proto`."""

    def __init__(self, directory: CityDirectory, drain: Drain) -> None:
        self._directory = directory
        self._drain = drain
        self._parts = RoundParts()

    async def GetNode(
        self, request: services_pb2.GetNodeRequest, context: Any
    ) -> services_pb2.GetNodeResponse:
        name = requests.text(request.city, "city")
        node_id = requests.id_bytes(request.node_id, "node_id")
        handler = await self._directory.handler(name)
        [node] = await _encode_nodes(handler, [await _node(handler, node_id)])
        return services_pb2.GetNodeResponse(node=node)

    async def ListParents(
        self, request: services_pb2.ListParentsRequest, context: Any
    ) -> services_pb2.ListParentsResponse:
        name = requests.text(request.city, "city")
        node_id = requests.id_bytes(request.node_id, "node_id")
        handler = await self._directory.handler(name)
        node = await _node(handler, node_id)
        parents = [parent.node_id for parent in node.parents]
        found = await handler.storage.nodes(parents)
        # The genesis is a parent and no node.
        nodes = [found[parent] for parent in parents if parent in found]
        return services_pb2.ListParentsResponse(parents=await _encode_nodes(handler, nodes))

    async def ListChildren(
        self, request: services_pb2.ListChildrenRequest, context: Any
    ) -> services_pb2.ListChildrenResponse:
        name = requests.text(request.city, "city")
        node_id = requests.id_bytes(request.node_id, "node_id")
        limit = requests.page_size(request.page_size, 100, 1_000)
        after = _place(request.page_token)
        handler = await self._directory.handler(name)
        parent = NodeRef(0, 0, node_id)
        if node_id != handler.genesis.id:
            parent = (await _node(handler, node_id)).ref
        children = await handler.storage.children(parent, after, limit + 1)
        more = len(children) > limit
        children = children[:limit]
        return services_pb2.ListChildrenResponse(
            children=await _encode_nodes(handler, children),
            next_page_token=f"{children[-1].round}.{children[-1].seq}" if more else "",
        )

    async def ListNodes(
        self, request: services_pb2.ListNodesRequest, context: Any
    ) -> services_pb2.ListNodesResponse:
        name = requests.text(request.city, "city")
        number = requests.round_number(request.round, "round")
        limit = requests.page_size(request.page_size, 100, 1_000)
        handler = await self._directory.handler(name)
        stored = await _round(handler, number)
        # A round may have ten times what a page has: its record says which nodes those are.
        decided = await asyncio.to_thread(record.decode, stored.record)
        pairs = zip(decided.tx_ids, decided.verdicts, strict=True)
        linked = (tx_id for tx_id, verdict in islice(pairs, request.from_seq, None) if not verdict)
        tx_ids = [*islice(linked, limit)]
        found = await handler.storage.find(tx_ids)
        if len(found) < len(tx_ids):
            raise StorageError(f"of round {number}, not all nodes are visible yet")
        rule, time_ms, poh = handler.genesis.rule, stored.time_ms, decided.poh.hash
        return services_pb2.ListNodesResponse(
            nodes=[encode_node(LinkedNode(found[it], rule, time_ms, poh)) for it in tx_ids]
        )

    async def ListRounds(
        self, request: services_pb2.ListRoundsRequest, context: Any
    ) -> services_pb2.ListRoundsResponse:
        name = requests.text(request.city, "city")
        first = requests.round_number(request.from_round, "from_round")
        limit = requests.page_size(request.page_size, 10, 100)
        handler = await self._directory.handler(name)
        response = services_pb2.ListRoundsResponse()
        size = 0
        # A record can be large, so they are read a few at a time.
        for start in range(first, first + limit, ROUNDS_STEP):
            step = min(ROUNDS_STEP, first + limit - start)
            stored = await handler.storage.rounds(start, step)
            for message in map(encode_round, stored):
                size += message.ByteSize()
                if size > RESPONSE_BYTES and response.rounds:
                    return response
                response.rounds.append(message)
            if len(stored) < step:
                break
        return response

    async def StreamRounds(  # type: ignore[override]  # see transactions.py
        self, request: services_pb2.StreamRoundsRequest, context: Any
    ) -> None:
        name = requests.text(request.city, "city")
        first = requests.round_number(request.from_round, "from_round")
        async with self._drain.stream():
            handler = await self._directory.handler(name)
            rounds = handler.stream_rounds(first, sealed=request.sealed)
            async with closing(rounds):
                async for stored in rounds:
                    message = encode_round(stored)
                    await context.write(services_pb2.StreamRoundsResponse(round=message))
                    if request.transactions:
                        async for part in self._parts.of(handler, stored):
                            await context.write(part)

    async def GetPublicKeys(
        self, request: services_pb2.GetPublicKeysRequest, context: Any
    ) -> services_pb2.GetPublicKeysResponse:
        name = requests.text(request.city, "city")
        requests.at_most(request.key_ids, "key_ids", KEYS_MAX, "ids")
        key_ids = [
            requests.id_bytes(key_id, f"key_ids[{index}]")
            for index, key_id in enumerate(request.key_ids)
        ]
        handler = await self._directory.handler(name)
        found = await handler.storage.keys(key_ids)
        return services_pb2.GetPublicKeysResponse(
            public_keys=[found.get(key_id, b"") for key_id in key_ids]
        )

    async def GetCheckpoint(
        self, request: services_pb2.GetCheckpointRequest, context: Any
    ) -> services_pb2.GetCheckpointResponse:
        name = requests.text(request.city, "city")
        number = requests.round_number(request.round, "round") if request.round else 0
        handler = await self._directory.handler(name)
        number = number or (await handler.head()).certified_round
        stored = await _round(handler, number)
        return services_pb2.GetCheckpointResponse(round=encode_round(stored, with_record=False))

    async def GetInclusionProof(
        self, request: services_pb2.GetInclusionProofRequest, context: Any
    ) -> services_pb2.GetInclusionProofResponse:
        name = requests.text(request.city, "city")
        leaf_index, size = request.leaf_index, request.size
        if size > INTEGER_MAX:
            raise InvalidRequest("size", f"is {size}; at most {INTEGER_MAX} is allowed")
        if leaf_index >= (size or INTEGER_MAX):
            raise InvalidRequest("leaf_index", f"is {leaf_index}; it must be below the size")
        handler = await self._directory.handler(name)
        proof = await handler.inclusion_proof(leaf_index, size)
        return services_pb2.GetInclusionProofResponse(
            leaf_hash=proof.leaf_hash, size=proof.size, root=proof.root, proof=proof.proof
        )

    async def GetConsistencyProof(
        self, request: services_pb2.GetConsistencyProofRequest, context: Any
    ) -> services_pb2.GetConsistencyProofResponse:
        name = requests.text(request.city, "city")
        first, second = request.first_size, request.second_size
        if second > INTEGER_MAX:
            raise InvalidRequest("second_size", f"is {second}; at most {INTEGER_MAX} is allowed")
        if not 1 <= first <= second:
            raise InvalidRequest("first_size", f"is {first}; it must be 1 to second_size")
        handler = await self._directory.handler(name)
        first_root, second_root, proof = await handler.consistency_proof(first, second)
        return services_pb2.GetConsistencyProofResponse(
            first_root=first_root, second_root=second_root, proof=proof
        )


async def _node(handler: CityHandler, node_id: bytes) -> SealedNode:
    node = (await handler.storage.nodes([node_id])).get(node_id)
    if node is None:
        raise NotFound("node", node_id.hex())
    return node


async def _round(handler: CityHandler, number: int) -> StoredRound:
    stored = await handler.storage.rounds(number, 1) if number else ()
    if not stored or stored[0].round != number:
        raise NotFound("round", str(number) if number else "latest approved")
    return stored[0]


async def _encode_nodes(handler: CityHandler, nodes: Sequence[SealedNode]) -> list[ledger_pb2.Node]:
    """Nodes with what their rounds say of them."""
    statuses = await handler.status([node.tx_id for node in nodes])
    rule = handler.genesis.rule
    return [
        encode_node(LinkedNode(node, rule, status.time_ms, status.poh))
        for node in nodes
        for status in (statuses[node.tx_id],)
    ]


def _place(page_token: str) -> tuple[int, int]:
    """The place after which a page of children begins."""
    if not page_token:
        return (0, 0)
    round, _, seq = requests.at_most(page_token, "page_token", 32, "characters").partition(".")
    if not (round.isdecimal() and seq.isdecimal() and round.isascii() and seq.isascii()):
        raise InvalidRequest("page_token", "is not of a page before")
    return requests.round_number(int(round), "page_token"), min(int(seq), INTEGER_MAX)
