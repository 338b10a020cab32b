"""Receipts.

A receipt has one form: what `encode_receipt` makes of it. Any other that says the same,
or says more (fields that are unknown, or that a receipt leaves empty), is refused.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from citychain.crypto.signatures import PUBLIC_KEY_BYTES
from citychain.errors import InvalidReceipt, VerificationError
from citychain.receipt import Receipt
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact, optional
from citychain.rpc.messages.graph import PARENTS_MAX
from citychain.rpc.messages.handovers import decode_handovers, encode_handover
from citychain.rpc.messages.rounds import (
    CHECKPOINT_BYTES_MAX,
    HASHES_MAX,
    decode_certificate,
    encode_certificate,
)
from citychain.types import Rejection

__all__ = ["decode_receipt", "encode_receipt", "parse_receipt"]


def encode_receipt(receipt: Receipt) -> ledger_pb2.Receipt:
    """A transaction's final state and its proof."""
    message = ledger_pb2.Receipt(
        genesis=receipt.genesis,
        tx_id=receipt.tx_id,
        public_key=receipt.public_key or b"",
        round=receipt.round,
        seq=receipt.seq,
        leaf_index=receipt.leaf_index,
        inclusion=receipt.inclusion,
        checkpoint=receipt.checkpoint,
        certificate=encode_certificate(receipt.certificate),
        handovers=map(encode_handover, receipt.handovers),
    )
    if receipt.envelope is not None:
        message.transaction.ParseFromString(receipt.envelope)
    if receipt.node_id is not None:
        message.node.node_id = receipt.node_id
        message.node.tx_id = receipt.tx_id
        message.node.round = receipt.round
        message.node.seq = receipt.seq
        message.node.pop = receipt.pop or b""
        for parent in receipt.parents:
            message.node.parents.add(node_id=parent)
    if receipt.rejection is not None:
        message.rejection.code, message.rejection.reason = receipt.rejection
    return message


def decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    """A receipt in its form; what it claims is for `ReceiptVerifier` to check.

    Raises:
        InvalidReceipt: with the check ``form``; the detail names the field.
    """
    try:
        receipt = _decode_receipt(message)
    except VerificationError as error:
        raise InvalidReceipt("form", str(error)) from None
    said = encode_receipt(receipt)
    said.DiscardUnknownFields()  # The transaction was taken as it is.
    if wire_form(said) != wire_form(message):
        raise InvalidReceipt("form", "has more than a receipt says")
    return receipt


def parse_receipt(data: bytes) -> Receipt:
    """A receipt from its wire form: protobuf's, fields in order of number, none that is unknown
    or holds its default.

    Raises:
        InvalidReceipt: with the check ``form``.
    """
    try:
        message = ledger_pb2.Receipt.FromString(data)
    except DecodeError as error:
        raise InvalidReceipt("form", str(error)) from None
    receipt = decode_receipt(message)
    if wire_form(message) != data:
        raise InvalidReceipt("form", "is not written as receipts are")
    return receipt


def wire_form(message: ledger_pb2.Receipt) -> bytes:
    """The bytes of a receipt, in the one form that `parse_receipt` takes."""
    return message.SerializeToString(deterministic=True)


def _decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    at_most(len(message.inclusion), HASHES_MAX, "inclusion")
    at_most(len(message.checkpoint), CHECKPOINT_BYTES_MAX, "checkpoint")
    node = message.node if message.HasField("node") else None
    if node is not None:
        for name in ("tx_id", "round", "seq"):
            if getattr(node, name) != getattr(message, name):
                raise VerificationError(f"node.{name}: not the receipt's {name}")
    return Receipt(
        genesis=exact(message.genesis, ID_BYTES, "genesis"),
        tx_id=exact(message.tx_id, ID_BYTES, "tx_id"),
        envelope=message.transaction.SerializeToString() or None,
        public_key=optional(message.public_key, PUBLIC_KEY_BYTES, "public_key"),
        round=message.round,
        seq=message.seq,
        node_id=exact(node.node_id, ID_BYTES, "node.node_id") if node else None,
        parents=_decode_parents(node) if node else (),
        rejection=(
            Rejection(message.rejection.code, message.rejection.reason)
            if message.HasField("rejection")
            else None
        ),
        pop=optional(node.pop, ID_BYTES, "node.pop") if node else None,
        leaf_index=message.leaf_index,
        inclusion=tuple(
            exact(digest, ID_BYTES, f"inclusion[{index}]")
            for index, digest in enumerate(message.inclusion)
        ),
        checkpoint=message.checkpoint,
        certificate=decode_certificate(message.certificate),
        handovers=decode_handovers(message.handovers),
    )


def _decode_parents(node: ledger_pb2.Node) -> tuple[bytes, ...]:
    at_most(len(node.parents), PARENTS_MAX, "node.parents")
    return tuple(
        exact(parent.node_id, ID_BYTES, f"node.parents[{index}].node_id")
        for index, parent in enumerate(node.parents)
    )
