"""What a city's ledger keeps of other cities: names and layouts of its objects.

Integers are big-endian; ``<city>`` is a genesis id and ``<tx_id>`` a transaction id, in
hexadecimal::

    $peer-name/<network>/<slug> genesis id of the pinned city of this name
    $outbox/<tx_id>             a remittance to another city: status 1 (1 pending, 2 delivered,
                                3 returned) | payer 32 | city 32 | to 32 | amount 8 | asset
    $inbox/<city>/<tx_id>       a remittance from that city: outcome 1 (1 accepted, 2 refused)
                                | id 32 of the delivery that decided it
    $anchor/<city>              the latest checkpoint of a city below: round 8 | hash 32

The genesis files of pinned cities are in `citychain.exchange.peers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from citychain.errors import VerificationError
from citychain.layout import Reader

__all__ = [
    "OUTBOX",
    "Decided",
    "Outgoing",
    "RemittanceState",
    "anchor_object",
    "decode_anchor",
    "decode_inbox",
    "decode_outbox",
    "inbox_object",
    "outbox_object",
    "peer_name_object",
]

OUTBOX: Final = "$outbox/"


class RemittanceState(IntEnum):
    """What became of a remittance, as its own city's ledger has it; the numbers are those of the
    wire."""

    PENDING = 1
    """In escrow: the other city's answer is not in the ledger yet."""
    DELIVERED = 2
    """The other city credited the payee: its certified receipt says so."""
    RETURNED = 3
    """The other city refused: its certified receipt says so, and the payer has it again."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A remittance to another city."""

    tx_id: bytes
    state: RemittanceState
    payer: bytes
    city: bytes
    """Genesis id of the other city."""
    to: bytes
    """Key id of the payee there."""
    amount: int
    asset: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What the receiving city decided about a remittance."""

    accepted: bool
    """Credited to the payee; else refused."""
    tx_id: bytes
    """The delivery that decided it."""


def peer_name_object(network: str, slug: str) -> str:
    """Where the genesis id of the pinned city of a name stands."""
    return f"$peer-name/{network}/{slug}"


def outbox_object(tx_id: bytes) -> str:
    """Where a remittance of this city stands."""
    return f"{OUTBOX}{tx_id.hex()}"


def inbox_object(city: bytes, tx_id: bytes) -> str:
    """Where the outcome of another city's remittance stands."""
    return f"$inbox/{city.hex()}/{tx_id.hex()}"


def anchor_object(city: bytes) -> str:
    """Where the latest checkpoint of a city below stands."""
    return f"$anchor/{city.hex()}"


def decode_outbox(tx_id: bytes, value: bytes) -> Outgoing:
    """Read what stands in the outbox.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, "outbox")
    state = reader.integer(1)
    if state not in tuple(RemittanceState):
        raise VerificationError(f"outbox: status {state} is unknown")
    payer, city, to, amount = reader.take(32), reader.take(32), reader.take(32), reader.integer(8)
    asset = value[105:].decode("ascii", "replace")
    return Outgoing(tx_id, RemittanceState(state), payer, city, to, amount, asset)


def decode_inbox(value: bytes) -> Decided:
    """Read what stands in the inbox.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, "inbox")
    outcome, tx_id = reader.integer(1), reader.take(32)
    reader.end()
    if outcome not in (1, 2):
        raise VerificationError(f"inbox: outcome {outcome} is unknown")
    return Decided(outcome == 1, tx_id)


def decode_anchor(value: bytes) -> tuple[int, bytes]:
    """Round and checkpoint hash of what is anchored.

    Raises:
        VerificationError: it is not in this layout.
    """
    reader = Reader(value, "anchor")
    anchored = reader.integer(8), reader.take(32)
    reader.end()
    return anchored
