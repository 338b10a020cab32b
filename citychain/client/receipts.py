"""Receipts on disk, and their verification without any server.

A receipt file is the protobuf JSON form of ``citychain.v1.Receipt``: members in any order and
with any white space between them, but each written in the one way that `receipt_json` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from citychain.client.files import read_bounded, write_whole
from citychain.errors import ConfigurationError, InvalidReceipt
from citychain.genesis import Genesis
from citychain.receipt import Receipt, ReceiptVerifier
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages import decode_receipt, encode_receipt

__all__ = [
    "load_receipt",
    "parse_file",
    "read_genesis",
    "receipt_json",
    "save_receipt",
    "verify_receipt",
]

FILE_BYTES_MAX: Final = 32 << 20

M = TypeVar("M", bound=Message)


def receipt_json(receipt: Receipt) -> str:
    """What a receipt file has."""
    return json_format.MessageToJson(encode_receipt(receipt), indent=1) + "\n"


def save_receipt(path: Path | str, receipt: Receipt) -> None:
    """Write a receipt file, whole or not at all; an older one is replaced."""
    write_whole(path, receipt_json(receipt))


def load_receipt(path: Path | str) -> Receipt:
    """Read a receipt file. What it claims is not checked: see `verify_receipt`.

    Raises:
        ConfigurationError: the file cannot be read.
        InvalidReceipt: with the check ``form``; it is no receipt.
    """
    return decode_receipt(parse_file(path, ledger_pb2.Receipt()))


def parse_file(path: Path | str, message: M) -> M:
    """A message from a file in the one way that its JSON form is written.

    Raises:
        ConfigurationError: the file cannot be read.
        InvalidReceipt: with the check ``form``.
    """
    content = read_bounded(path, FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise InvalidReceipt("form", f"{path}: more than {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode()
        json_format.Parse(text, message)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidReceipt("form", f"{path}: {error}") from None
    # Protobuf's parser takes numbers as text, other alphabets of base64, and more.
    if _ordered(json.loads(text)) != _ordered(json_format.MessageToDict(message)):
        raise InvalidReceipt("form", f"{path}: is not written as receipts are")
    return message


def _ordered(value: Any) -> str:
    """A text for each value: Python itself holds 1, 1.0 and true for equal."""
    return json.dumps(value, sort_keys=True)


def verify_receipt(receipt: Receipt | Path | str, genesis: Genesis | bytes | Path | str) -> None:
    """Check that a receipt proves what it claims, with the city's genesis file alone.

    For many receipts of one city `citychain.receipt.ReceiptVerifier` is faster.

    Args:
        receipt: A receipt, or its file.
        genesis: The genesis, the content of its file, or the file.

    Raises:
        InvalidReceipt: naming the first check that does not hold.
        ConfigurationError: a file cannot be read, or the genesis is none.
    """
    if isinstance(receipt, Path | str):
        receipt = load_receipt(receipt)
    ReceiptVerifier(read_genesis(genesis)).verify(receipt)


def read_genesis(genesis: Genesis | bytes | Path | str) -> Genesis:
    """A genesis, given as such, by the content of its file, or by its file.

    Raises:
        ConfigurationError: the file cannot be read, or is no genesis.
    """
    if isinstance(genesis, Genesis):
        return genesis
    if isinstance(genesis, bytes):
        return Genesis.from_bytes(genesis)
    try:
        return Genesis.read(Path(genesis))
    except OSError as error:
        raise ConfigurationError(f"{genesis}: cannot be read: {error.strerror}") from error
