"""Fields that others wrote: what does not fit raises `VerificationError`."""

from __future__ import annotations

from typing import Final

from citychain.errors import VerificationError
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.types import State

__all__ = ["ID_BYTES", "at_most", "exact", "optional", "read_state", "wire_state"]

ID_BYTES: Final = 32


def wire_state(state: State) -> ledger_pb2.State.ValueType:
    """A state as the wire's type; the numbers are the same."""
    return ledger_pb2.State.ValueType(state)


_STATES: Final = {state.value: state for state in State}


def read_state(state: int) -> State:
    """A state of the wire, unless it is unspecified or unknown."""
    try:
        return _STATES[state]
    except KeyError:
        raise VerificationError(f"state: {state} is unknown") from None


def exact(value: bytes, length: int, field: str) -> bytes:
    """Bytes of this length."""
    if len(value) != length:
        raise VerificationError(f"{field}: {len(value)} bytes, not {length}")
    return value


def optional(value: bytes, length: int, field: str) -> bytes | None:
    """Bytes of this length, or ``None`` where there are none."""
    return exact(value, length, field) if value else None


def at_most(count: int, maximum: int, field: str) -> None:
    """Refuse more than so many."""
    if count > maximum:
        raise VerificationError(f"{field}: {count}; at most {maximum} are allowed")
