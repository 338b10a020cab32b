"""Receipts that lead up to a country, a continent or the world: fetched, kept and verified.

A file is the protobuf JSON form of ``citychain.v1.LevelReceipt``, strict as receipt files are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.protobuf import json_format

from citychain.city.names import normalise
from citychain.client.city import CityClient, CityInfo
from citychain.client.files import read_bounded, write_whole
from citychain.client.receipts import FILE_BYTES_MAX, parse_file, read_genesis
from citychain.errors import NotFound, VerificationError
from citychain.genesis import Genesis
from citychain.levels import LEVELS_MAX, NO_CERTIFICATE, LevelReceipt, verify_levels
from citychain.receipt import Receipt
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages.exchange import AnchorStatus
from citychain.rpc.messages.levels import decode_level_receipt, encode_level_receipt

__all__ = [
    "fetch_level_receipt",
    "is_level_receipt",
    "level_receipt_json",
    "load_level_receipt",
    "save_level_receipt",
    "verify_level_receipt",
]

POLL_SECONDS: Final = (0.1, 2.0)
"""First and longest pause between two looks at what the parent has."""

FETCH_SECONDS: Final = 10.0
"""What fetching may take after the last wait."""

Connect = Callable[[str, Sequence[str]], CityClient]


async def fetch_level_receipt(
    city: CityClient, tx_id: bytes, top: str, connect: Connect, *, timeout: timedelta
) -> LevelReceipt:
    """The receipt of a final transaction, up to a city above its own.

    Each level takes until the parent has anchored a checkpoint that has the transaction.

    Args:
        top: Any name of the top city, or its genesis id.
        connect: Makes a client of a city by its name and the endpoints that serve it; none where
            they are those of the city below.
        timeout: How long all of it may take.

    Raises:
        NotFound: the transaction is unknown, or no city above is called so.
        TimeoutError: a parent has not anchored what it must, in time.
    """
    levels: list[Receipt] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout.total_seconds()
    async with asyncio.timeout_at(deadline + FETCH_SECONDS), AsyncExitStack() as stack:
        while True:
            info = await city.info()
            await city.wait([tx_id])
            receipt = (await city.receipts([tx_id]))[tx_id]
            if _is(info, top):
                return LevelReceipt(tuple(levels), receipt)
            if info.listing.parent is None or len(levels) == LEVELS_MAX:
                raise NotFound("city above", top)
            anchor = await _anchored(city, receipt.round, info, deadline)
            proof = await city.inclusion_proof(receipt.leaf_index, anchor.size)
            levels.append(
                replace(
                    receipt,
                    inclusion=tuple(proof.proof),
                    checkpoint=b"",
                    certificate=NO_CERTIFICATE,
                    handovers=(),
                )
            )
            name = anchor.name or info.listing.parent
            city = await stack.enter_async_context(connect(name, anchor.endpoints))
            if (above := (await city.info()).genesis) != anchor.parent:
                raise VerificationError(
                    f"{name} has genesis {above.hex()[:16]}…, and {anchor.parent.hex()[:16]}… "
                    "has the checkpoint"
                )
            tx_id = anchor.tx_id


async def _anchored(city: CityClient, round: int, info: CityInfo, deadline: float) -> AnchorStatus:
    """The latest anchor, once it has a round."""
    pause = POLL_SECONDS[0]
    while (anchor := await city.anchor()) is None or anchor.round < round:
        if asyncio.get_running_loop().time() > deadline:
            listing = info.listing
            last = f"round {anchor.round} is the latest" if anchor is not None else "none is"
            raise TimeoutError(
                f"round {round} of {listing.slug} is not anchored at {listing.parent} yet: {last}"
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, POLL_SECONDS[1])
    return anchor


def _is(info: CityInfo, name: str) -> bool:
    listing = info.listing
    names = (listing.slug, *listing.aliases, *listing.titles.values(), info.genesis.hex())
    return normalise(name) in map(normalise, names)


def level_receipt_json(receipt: LevelReceipt) -> str:
    """What the file has."""
    return json_format.MessageToJson(encode_level_receipt(receipt), indent=1) + "\n"


def save_level_receipt(path: Path | str, receipt: LevelReceipt) -> None:
    """Write the file, whole or not at all; an older one is replaced."""
    write_whole(path, level_receipt_json(receipt))


def is_level_receipt(path: Path | str) -> bool:
    """Whether a file is of a receipt through levels, rather than of one city's.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        members = json.loads(read_bounded(path, FILE_BYTES_MAX))
    except ValueError:
        return False
    return isinstance(members, dict) and "top" in members


def load_level_receipt(path: Path | str) -> LevelReceipt:
    """Read a file. What it claims is not checked: see `verify_level_receipt`.

    Raises:
        ConfigurationError: the file cannot be read.
        InvalidReceipt: with the check ``form``; it is no receipt through levels.
    """
    return decode_level_receipt(parse_file(path, ledger_pb2.LevelReceipt()))


def verify_level_receipt(
    receipt: LevelReceipt | Path | str, top: Genesis | bytes | Path | str
) -> None:
    """Check that a receipt proves what it claims, with the top city's genesis file alone.

    Args:
        receipt: A receipt through levels, or its file.
        top: The genesis, the content of its file, or the file.

    Raises:
        InvalidReceipt: naming the first check that does not hold.
        ConfigurationError: a file cannot be read, or the genesis is none.
    """
    if isinstance(receipt, Path | str):
        receipt = load_level_receipt(receipt)
    verify_levels(receipt, read_genesis(top))
