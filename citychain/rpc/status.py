"""The one table from errors and refusals to gRPC statuses; docs/errors.md tells it to people.

Every status carries google.rpc details: an ``ErrorInfo`` (reason, domain ``citychain``)
always, and what else helps a program: ``BadRequest`` for a field, ``ResourceInfo`` for what
does not exist, ``RetryInfo`` for how long to wait. What the caller cannot mend is told as an
error id alone; the log has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

from citychain import errors
from citychain.handler import Refusal
from citychain.rpc.messages import Refused

__all__ = [
    "DOMAIN",
    "ERRORS",
    "INTERNAL",
    "REFUSALS",
    "Row",
    "refusal_error",
    "refused",
    "row_of",
    "status_of",
    "trailing_metadata",
]

DOMAIN: Final = "citychain"
TEXT_CHARACTERS_MAX: Final = 256
"""Of each text in a status, in any script: all of it must fit into 8 KiB of metadata, where
one character of the message can take 12 bytes."""
PUSHBACK_MAX: Final = timedelta(milliseconds=500)
"""A client's channel repeats a call by itself after at most this long; a longer wait is the
application's to decide, which is told at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """What an error or refusal becomes."""

    code: grpc.StatusCode
    reason: str
    """Stable, for programs. `Overloaded` and `TransactionRefused` bring their own."""
    retry_after: timedelta | None = None
    """Set where the same request may succeed later: the least wait, if the error names none."""
    retry_changed: bool = False
    """The request may succeed once it is changed as the detail says."""
    hidden: bool = False
    """The caller is told an error id; the log is told the error."""

    @property
    def retryable(self) -> bool:
        """Whether a program should try again by itself."""
        return self.retry_after is not None or self.retry_changed


_Code = grpc.StatusCode
_SECOND: Final = timedelta(seconds=1)

INTERNAL: Final = Row(_Code.INTERNAL, "INTERNAL", hidden=True)
"""Of every exception that is none of ours, too."""
_INVALID: Final = Row(_Code.INVALID_ARGUMENT, "INVALID_REQUEST")
_STORAGE: Final = Row(_Code.UNAVAILABLE, "STORAGE_FAILED", _SECOND, hidden=True)
_VERIFICATION: Final = Row(_Code.DATA_LOSS, "VERIFICATION_FAILED", hidden=True)

ERRORS: Final[Mapping[type[Exception], Row]] = {
    errors.CitychainError: INTERNAL,
    errors.ConfigurationError: INTERNAL,
    errors.PluginError: INTERNAL,
    errors.ServerError: INTERNAL,
    errors.RequestError: _INVALID,
    errors.InvalidRequest: _INVALID,
    errors.TransactionRefused: _INVALID,
    errors.NotFound: Row(_Code.NOT_FOUND, "NOT_FOUND"),
    errors.Pruned: Row(_Code.NOT_FOUND, "PRUNED"),
    errors.NotSupported: Row(_Code.FAILED_PRECONDITION, "NOT_SUPPORTED"),
    errors.NotAuthenticated: Row(_Code.UNAUTHENTICATED, "NOT_AUTHENTICATED"),
    errors.NotAllowed: Row(_Code.PERMISSION_DENIED, "NOT_ALLOWED"),
    errors.Overloaded: Row(_Code.RESOURCE_EXHAUSTED, "OVERLOADED", _SECOND),
    errors.CityUnavailable: Row(_Code.UNAVAILABLE, "CITY_UNAVAILABLE", _SECOND),
    errors.NotLeading: Row(_Code.UNAVAILABLE, "NOT_LEADING", _SECOND),
    errors.ServerUnavailable: Row(_Code.UNAVAILABLE, "SERVER_STOPPING", timedelta()),
    errors.StorageError: _STORAGE,
    errors.RoundTaken: _STORAGE,
    errors.LeaseLost: _STORAGE,
    errors.NameTaken: _STORAGE,
    errors.DirectoryInUse: _STORAGE,
    # Only a storage server tells these four, in its own words.
    errors.StoreFull: Row(_Code.RESOURCE_EXHAUSTED, "STORE_FULL"),
    errors.StoreUnavailable: Row(_Code.UNAVAILABLE, "STORE_UNAVAILABLE", _SECOND),
    errors.FragmentMissing: Row(_Code.NOT_FOUND, "FRAGMENT_MISSING"),
    errors.NotOwned: Row(_Code.PERMISSION_DENIED, "NOT_OWNED"),
    errors.NotRestorable: _STORAGE,
    errors.ObjectChanged: INTERNAL,
    errors.MoveFailed: Row(_Code.FAILED_PRECONDITION, "MOVE_FAILED"),
    errors.ConsensusError: Row(_Code.UNAVAILABLE, "CONSENSUS_FAILED", _SECOND, hidden=True),
    errors.VerificationError: _VERIFICATION,
    errors.InvalidSignature: _VERIFICATION,
    errors.InvalidProof: _VERIFICATION,
    errors.InvalidPoh: _VERIFICATION,
    errors.InvalidReceipt: _VERIFICATION,
    errors.InvalidAcknowledgement: _VERIFICATION,
    errors.InvalidRound: _VERIFICATION,
}
"""By exact class: a new one is a new row. `TransactionRefused` is looked up in `REFUSALS`."""

REFUSALS: Final[Mapping[str, Row]] = {
    row.reason: row
    for row in (
        Row(_Code.INVALID_ARGUMENT, "MALFORMED"),
        Row(_Code.INVALID_ARGUMENT, "TOO_LARGE"),
        Row(_Code.INVALID_ARGUMENT, "WRONG_GENESIS"),
        Row(_Code.INVALID_ARGUMENT, "KEY_MISMATCH"),
        Row(_Code.INVALID_ARGUMENT, "BAD_SIGNATURE"),
        Row(_Code.INVALID_ARGUMENT, "SCHEME_NOT_ALLOWED"),
        Row(_Code.FAILED_PRECONDITION, "EXPIRED"),
        Row(_Code.FAILED_PRECONDITION, "UNKNOWN_KEY", retry_changed=True),
        Row(_Code.FAILED_PRECONDITION, "RECOVERY_UNKNOWN"),
        Row(_Code.FAILED_PRECONDITION, "ASSET_NOT_ACCEPTED"),
        Row(_Code.INVALID_ARGUMENT, "ESCROW_PAYEE"),
        Row(_Code.INVALID_ARGUMENT, "UNPROVEN"),
        Row(_Code.RESOURCE_EXHAUSTED, "AUTHOR_QUOTA", _SECOND),
    )
}
"""Why one transaction was refused: the status of Submit, one item's refusal elsewhere."""


def refused(refusal: Refusal) -> Refused:
    """A refusal as one item of a batch."""
    row = REFUSALS[refusal.code]
    return Refused(
        refusal.code,
        refusal.field or "",
        refusal.detail,
        row.retryable,
        row.retry_after or timedelta(),
        refusal.tx_id,
    )


def refusal_error(refusal: Refusal) -> errors.RequestError:
    """A refusal as the error of a call about one transaction."""
    row = REFUSALS[refusal.code]
    if row.retry_after is not None:
        return errors.Overloaded(refusal.detail, row.retry_after, refusal.code)
    return errors.TransactionRefused(refusal.code, refusal.field or "", refusal.detail)


def row_of(error: Exception) -> Row:
    """The row of an error."""
    if isinstance(error, errors.TransactionRefused):
        return REFUSALS[error.reason]
    return ERRORS.get(type(error), INTERNAL)


def status_of(error: Exception, error_id: str) -> status_pb2.Status:
    """The status of an error; ``error_id`` is told where the error itself is hidden."""
    row = row_of(error)
    if isinstance(error, errors.CityUnavailable):
        error_id = error.error_id
    message = f"{_HIDDEN[row.code]} (error id {error_id})" if row.hidden else str(error)
    status = status_pb2.Status(code=row.code.value[0], message=message[:TEXT_CHARACTERS_MAX])
    for detail in _details(error, row, error_id):
        status.details.add().Pack(detail)
    return status


_HIDDEN: Final = {
    _Code.INTERNAL: "the server failed",
    _Code.UNAVAILABLE: "the city cannot do this now",
    _Code.DATA_LOSS: "what is stored does not verify",
}


def _details(error: Exception, row: Row, error_id: str) -> Iterator[Message]:
    reason = error.reason if isinstance(error, errors.RequestError) else row.reason
    info = details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    if row.hidden or isinstance(error, errors.CityUnavailable):
        info.metadata["error_id"] = error_id
    if isinstance(error, errors.CityUnavailable):
        info.metadata["city"] = error.city
    if isinstance(error, errors.NotFound) and error.suggestions:
        # A name has no line breaks; it may have commas.
        info.metadata["suggestions"] = "\n".join(error.suggestions)[:TEXT_CHARACTERS_MAX]
    if isinstance(error, errors.Pruned):
        info.metadata["detail"] = error.detail[:TEXT_CHARACTERS_MAX]
    yield info
    if isinstance(error, errors.NotFound):
        yield details_pb2.ResourceInfo(
            resource_type=error.kind, resource_name=error.name[:TEXT_CHARACTERS_MAX]
        )
    if isinstance(error, errors.InvalidRequest | errors.TransactionRefused):
        field = error.field
        if isinstance(error, errors.TransactionRefused):
            field = f"transaction.{field}" if field else "transaction"
        violation = details_pb2.BadRequest.FieldViolation(
            field=field, description=error.detail[:TEXT_CHARACTERS_MAX]
        )
        yield details_pb2.BadRequest(field_violations=[violation])
    if (retry_after := _retry_after(error, row)) is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(retry_after)
        yield details_pb2.RetryInfo(retry_delay=delay)


def _retry_after(error: Exception, row: Row) -> timedelta | None:
    if isinstance(error, errors.Overloaded | errors.CityUnavailable):
        return error.retry_after
    return row.retry_after


def trailing_metadata(
    error: Exception, status: status_pb2.Status
) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that carries a status' details, and what a channel that repeats calls
    by itself should do (gRFC A6: milliseconds to wait, or -1 for not to repeat)."""
    details = ("grpc-status-details-bin", status.SerializeToString())
    retry_after = _retry_after(error, row_of(error))
    if retry_after is None:
        return (details,)
    milliseconds = retry_after // timedelta(milliseconds=1)
    pushback = str(milliseconds) if retry_after <= PUSHBACK_MAX else "-1"
    return (details, ("grpc-retry-pushback-ms", pushback))
