"""Between the model and the wire: one pair of functions a message.

The server and the client share it, so it knows protobuf and nothing of grpc.
``encode_*`` never fails. ``decode_*`` reads what somebody else wrote: every id,
key and signature must have its length and every list its bound; what does not
raises `VerificationError` naming the field.
"""

from typing import Final

from citychain.rpc.messages.cities import decode_city, encode_city
from citychain.rpc.messages.fields import ID_BYTES
from citychain.rpc.messages.graph import LinkedNode, decode_node, encode_node
from citychain.rpc.messages.handovers import decode_handovers, encode_handover
from citychain.rpc.messages.receipts import decode_receipt, encode_receipt, parse_receipt
from citychain.rpc.messages.rounds import (
    decode_certificate,
    decode_round,
    encode_certificate,
    encode_round,
)
from citychain.rpc.messages.submissions import (
    Refused,
    decode_acknowledgement,
    decode_results,
    encode_acknowledgement,
    encode_results,
    encode_submission,
)
from citychain.rpc.messages.transactions import (
    EVENTS_MAX,
    decode_events,
    decode_transaction,
    encode_events,
    encode_transaction,
)
from citychain.rpc.messages.votes import (
    decode_cast_vote,
    decode_committee,
    decode_objection,
    decode_outcomes,
    encode_cast_vote,
    encode_committee,
    encode_objection,
    encode_outcomes,
)

__all__ = [
    "EVENTS_MAX",
    "ID_BYTES",
    "RESPONSE_BYTES",
    "LinkedNode",
    "Refused",
    "decode_acknowledgement",
    "decode_cast_vote",
    "decode_certificate",
    "decode_city",
    "decode_committee",
    "decode_events",
    "decode_handovers",
    "decode_node",
    "decode_objection",
    "decode_outcomes",
    "decode_receipt",
    "decode_results",
    "decode_round",
    "decode_transaction",
    "encode_acknowledgement",
    "encode_cast_vote",
    "encode_certificate",
    "encode_city",
    "encode_committee",
    "encode_events",
    "encode_handover",
    "encode_node",
    "encode_objection",
    "encode_outcomes",
    "encode_receipt",
    "encode_results",
    "encode_round",
    "encode_submission",
    "encode_transaction",
    "parse_receipt",
]

RESPONSE_BYTES: Final = 2 << 20
"""Lists of large items are told in responses of about this size, at least one item each."""
