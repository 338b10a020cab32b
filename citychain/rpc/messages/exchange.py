"""Between cities: remittances, their outcomes, peers and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from citychain.between_cities import Decided, Outgoing, RemittanceState
from citychain.errors import VerificationError
from citychain.handler import PeerStatus, RemittanceStatus
from citychain.rpc._generated.citychain.v1 import services_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact, optional
from citychain.types import Rejection

__all__ = [
    "AnchorStatus",
    "decode_anchor",
    "decode_deliveries",
    "decode_peers",
    "decode_remittance",
    "encode_anchor",
    "encode_deliveries",
    "encode_peers",
    "encode_remittance",
]

PEERS_MAX = 100_000


class AnchorStatus(NamedTuple):
    """The latest checkpoint of a city that its parent has."""

    parent: bytes
    """Genesis id."""
    name: str
    """The parent's slug."""
    endpoints: tuple[str, ...]
    """Where the parent is served; empty where the same server has it."""
    tx_id: bytes
    """The parent's approved transaction with the checkpoint."""
    round: int
    """The checkpoint's."""
    size: int
    """Of the log after that round."""


def encode_remittance(status: RemittanceStatus) -> services_pb2.RemittanceStatus:
    """What became of a remittance."""
    outgoing = status.outgoing
    code, reason = status.refusal or ("", "")
    return services_pb2.RemittanceStatus(
        tx_id=outgoing.tx_id,
        state=services_pb2.RemittanceState.ValueType(outgoing.state),
        payer=outgoing.payer,
        city=outgoing.city,
        to=outgoing.to,
        asset=outgoing.asset,
        amount=outgoing.amount,
        code=code,
        reason=reason,
        settlement=status.settlement or b"",
    )


def decode_remittance(message: services_pb2.RemittanceStatus) -> RemittanceStatus:
    """What became of a remittance."""
    try:
        state = RemittanceState(message.state)
    except ValueError:
        raise VerificationError(f"state: {message.state} is unknown") from None
    outgoing = Outgoing(
        tx_id=exact(message.tx_id, ID_BYTES, "tx_id"),
        state=state,
        payer=exact(message.payer, ID_BYTES, "payer"),
        city=exact(message.city, ID_BYTES, "city"),
        to=exact(message.to, ID_BYTES, "to"),
        amount=message.amount,
        asset=message.asset,
    )
    return RemittanceStatus(
        outgoing,
        optional(message.settlement, ID_BYTES, "settlement"),
        Rejection(message.code, message.reason) if message.code else None,
    )


def encode_deliveries(decided: Sequence[Decided]) -> services_pb2.GetDeliveriesResponse:
    """What a city decided about remittances, in order; an empty id where nothing is decided."""
    return services_pb2.GetDeliveriesResponse(
        deliveries=[
            services_pb2.Delivered(tx_id=one.tx_id, accepted=one.accepted) for one in decided
        ]
    )


def decode_deliveries(
    message: services_pb2.GetDeliveriesResponse, tx_ids: Sequence[bytes]
) -> dict[bytes, Decided]:
    """What is decided about these remittances."""
    if len(message.deliveries) != len(tx_ids):
        raise VerificationError(f"deliveries: {len(message.deliveries)} for {len(tx_ids)} ids")
    return {
        tx_id: Decided(one.accepted, exact(one.tx_id, ID_BYTES, "deliveries.tx_id"))
        for tx_id, one in zip(tx_ids, message.deliveries, strict=True)
        if one.tx_id
    }


def encode_peers(peers: Sequence[PeerStatus]) -> services_pb2.ListPeersResponse:
    """The cities that one exchanges with."""
    return services_pb2.ListPeersResponse(
        peers=[services_pb2.PeerStatus(**peer._asdict()) for peer in peers]
    )


def decode_peers(message: services_pb2.ListPeersResponse) -> list[PeerStatus]:
    """The cities that one exchanges with."""
    at_most(len(message.peers), PEERS_MAX, "peers")
    return [
        PeerStatus(
            name=peer.name,
            genesis=exact(peer.genesis, ID_BYTES, "peers.genesis"),
            pinned=peer.pinned,
            endpoints=tuple(peer.endpoints),
            pending=peer.pending,
            trouble=peer.trouble,
        )
        for peer in message.peers
    ]


def encode_anchor(anchor: AnchorStatus | None) -> services_pb2.GetAnchorResponse:
    """Where a city's latest anchored checkpoint is."""
    if anchor is None:
        return services_pb2.GetAnchorResponse()
    return services_pb2.GetAnchorResponse(**anchor._asdict())


def decode_anchor(message: services_pb2.GetAnchorResponse) -> AnchorStatus | None:
    """Where a city's latest anchored checkpoint is; ``None`` where none is."""
    if not message.parent:
        return None
    return AnchorStatus(
        parent=exact(message.parent, ID_BYTES, "parent"),
        name=message.name,
        endpoints=tuple(message.endpoints),
        tx_id=exact(message.tx_id, ID_BYTES, "tx_id"),
        round=message.round,
        size=message.size,
    )
