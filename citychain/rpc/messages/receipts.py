"""Receipts."""

from __future__ import annotations

from citychain.crypto.signatures import PUBLIC_KEY_BYTES
from citychain.errors import InvalidReceipt, VerificationError
from citychain.receipt import Receipt
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.fields import ID_BYTES, at_most, exact, optional
from citychain.rpc.messages.graph import decode_parents, encode_parents
from citychain.rpc.messages.rounds import (
    CHECKPOINT_BYTES_MAX,
    HASHES_MAX,
    decode_certificate,
    encode_certificate,
)
from citychain.types import Rejection

__all__ = ["decode_receipt", "encode_receipt"]


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
    )
    if receipt.envelope is not None:
        message.transaction.ParseFromString(receipt.envelope)
    if receipt.node_id is not None:
        message.node.node_id = receipt.node_id
        message.node.tx_id = receipt.tx_id
        message.node.round = receipt.round
        message.node.seq = receipt.seq
        message.node.pop = receipt.pop or b""
        message.node.parents.extend(encode_parents(receipt.parents))
    if receipt.rejection is not None:
        message.rejection.code, message.rejection.reason = receipt.rejection
    return message


def decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    """A receipt in its form; what it claims is for `ReceiptVerifier` to check.

    Raises:
        InvalidReceipt: with the check ``format``; the detail names the field.
    """
    try:
        return _decode_receipt(message)
    except VerificationError as error:
        raise InvalidReceipt("format", str(error)) from None


def _decode_receipt(message: ledger_pb2.Receipt) -> Receipt:
    if message.handovers:
        raise VerificationError("handovers: a change of committee cannot be verified yet")
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
        envelope=(
            message.transaction.SerializeToString() if message.HasField("transaction") else None
        ),
        public_key=optional(message.public_key, PUBLIC_KEY_BYTES, "public_key"),
        round=message.round,
        seq=message.seq,
        node_id=exact(node.node_id, ID_BYTES, "node.node_id") if node else None,
        parents=decode_parents(node.parents) if node else (),
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
    )
