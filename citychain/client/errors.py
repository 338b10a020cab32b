"""From gRPC statuses back to our errors: the other direction of `citychain.rpc.status`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

from citychain import errors
from citychain.rpc.status import DOMAIN, REFUSALS

__all__ = ["translated"]

_M = TypeVar("_M", bound=Message)
_Code = grpc.StatusCode

_OF_STORES: Final[dict[str, type[errors.StorageError]]] = {
    "STORE_FULL": errors.StoreFull,
    "STORE_UNAVAILABLE": errors.StoreUnavailable,
    "FRAGMENT_MISSING": errors.FragmentMissing,
    "NOT_OWNED": errors.NotOwned,
}
"""What a storage server tells."""

_UNREACHED: Final = re.compile(
    r"last error: .*?\bipv[46]:(?P<address>\S+): (?P<cause>.*)", re.DOTALL
)
"""What gRPC says of the last address that it tried."""
_UNRESOLVED: Final = re.compile(r"(?:errors resolving|DNS resolution failed for) (?P<name>\S+): ")
_MAPPED: Final = re.compile(r"\[::ffff:([0-9.]+)\]")
"""An IPv4 address among those of IPv6, as a channel to both has it."""
_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: (?P<why>[\w -]+)")
_BROKEN: Final = re.compile(r"Stream removed \((?P<cause>.*)\)", re.DOTALL)


def translated(error: grpc.aio.AioRpcError) -> tuple[Exception, timedelta | None]:
    """Our error for a failed call, and the least wait after which the same call may succeed;
    ``None`` where it will not."""
    details = _Details(error)
    if details.info.domain == DOMAIN:
        return _ours(details), details.retry_after
    return _foreign(error)


class _Details:
    """The google.rpc details of a failed call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        # Pairs, listed first: of the type that grpc gives, not every version makes a dict.
        metadata: dict[str, Any] = dict([*(error.trailing_metadata() or ())])
        try:
            self._status = status_pb2.Status.FromString(
                metadata.get("grpc-status-details-bin", b"")
            )
        except DecodeError:
            self._status = status_pb2.Status()
        self.message = error.details() or ""
        self.info = self.get(details_pb2.ErrorInfo)
        retry = self.get(details_pb2.RetryInfo)
        self.retry_after: timedelta | None = (
            _waiting(retry) if retry.HasField("retry_delay") else None
        )

    def get(self, kind: type[_M]) -> _M:
        """The detail of this kind, or an empty one."""
        message = kind()
        for packed in self._status.details:
            if packed.Unpack(message):
                break
        return message


def _waiting(retry: details_pb2.RetryInfo) -> timedelta | None:
    try:
        wait: timedelta = retry.retry_delay.ToTimedelta()
        return wait
    except (OverflowError, ValueError):  # Nobody waits for so long.
        return None


def _whole(number: str) -> int:
    """A number that a server wrote, or 0: it may write anything."""
    try:
        return int(number)
    except ValueError:
        return 0


def _ours(details: _Details) -> Exception:
    reason = details.info.reason
    error_id = details.info.metadata.get("error_id", "")
    retry_after = details.retry_after or timedelta()
    if reason in ("OVERLOADED", "AUTHOR_QUOTA"):
        return errors.Overloaded(details.message, retry_after, reason)
    if reason == "NOT_FOUND":
        resource = details.get(details_pb2.ResourceInfo)
        suggestions = tuple(details.info.metadata.get("suggestions", "").splitlines())
        return errors.NotFound(resource.resource_type, resource.resource_name, suggestions)
    if reason == "PRUNED":
        round = details.get(details_pb2.ResourceInfo).resource_name
        return errors.Pruned(_whole(round), details.info.metadata.get("detail", ""))
    if reason == "NOT_SUPPORTED":
        return errors.NotSupported(details.message)
    if reason == "NOT_AUTHENTICATED":
        return errors.NotAuthenticated(details.message)
    if reason == "NOT_ALLOWED":
        return errors.NotAllowed(details.message)
    if reason in REFUSALS or reason == "INVALID_REQUEST":
        [violation] = [*details.get(details_pb2.BadRequest).field_violations][:1] or [
            details_pb2.BadRequest.FieldViolation(field="request", description=details.message)
        ]
        if reason == "INVALID_REQUEST":
            return errors.InvalidRequest(violation.field, violation.description)
        field = violation.field.removeprefix("transaction").removeprefix(".")
        return errors.TransactionRefused(reason, field, violation.description)
    if reason == "CITY_UNAVAILABLE":
        city = details.info.metadata.get("city", "")
        return errors.CityUnavailable(city, error_id, retry_after)
    if reason == "NOT_LEADING":
        return errors.NotLeading(details.info.metadata.get("city", ""), retry_after)
    if reason == "SERVER_STOPPING":
        return errors.ServerUnavailable(details.message)
    if reason in _OF_STORES:
        return _OF_STORES[reason](details.message)
    if reason == "STORAGE_FAILED":
        return errors.StorageError(details.message)
    if reason == "MOVE_FAILED":
        return errors.MoveFailed(details.message)
    if reason == "CONSENSUS_FAILED":
        return errors.ConsensusError(details.message)
    return errors.ServerError(details.message, error_id)


def _foreign(error: grpc.aio.AioRpcError) -> tuple[Exception, timedelta | None]:
    """What gRPC, or something between here and the server, said by itself."""
    code, message = error.code(), error.details() or ""
    if code == _Code.DEADLINE_EXCEEDED:
        return TimeoutError("the server did not answer in time"), None
    if code == _Code.RESOURCE_EXHAUSTED and "larger than max" in message:
        return errors.InvalidRequest("request", f"is too large: {message}"), None
    if code == _Code.RESOURCE_EXHAUSTED:
        second = timedelta(seconds=1)
        return errors.Overloaded(message, second), second
    if code == _Code.UNIMPLEMENTED:
        what = "what answers is no citychain server, or one of another version"
        return errors.ServerError(f"{what} ({message})", ""), None
    # Our server never fails without details, so these are broken connections.
    if code in (_Code.UNAVAILABLE, _Code.CANCELLED, _Code.INTERNAL, _Code.UNKNOWN):
        return errors.ServerUnavailable(_in_words(message) or code.value[1]), timedelta()
    return errors.ServerError(f"{code.name}: {message}", ""), None


def _tls_in_words(cause: str, address: str) -> str | None:
    """Why no handshake was made, if that is why."""
    if untrusted := _UNTRUSTED.search(cause):
        return (
            f"the certificate that {address} shows is not trusted ({untrusted['why']}): is the CA "
            "the one that signed it?"
        )
    # As versions of gRPC say it.
    if "Hostname Verification" in cause or "is not in peer certificate" in cause:
        return f"the certificate that {address} shows is for another host than was asked for"
    if "WRONG_VERSION_NUMBER" in cause:
        return f"what listens at {address} speaks no TLS: is the port right?"
    # Whether it is said of the end or of a reset depends on what was under way at that moment.
    if "Socket closed" in cause or "Connection reset" in cause:
        return (
            f"{address} closed the connection: if it speaks TLS, give its CA, and a client's "
            "certificate if it asks for one"
        )
    return None


def _in_words(message: str) -> str:
    """What gRPC says of a connection, for people; as it is where nothing better is known."""
    if unresolved := _UNRESOLVED.match(message):
        return f"no address is known for {unresolved['name']}: is the name right?"
    if unreached := _UNREACHED.search(message):
        cause = unreached["cause"].removeprefix("Failed to connect to remote host: ")
        address = _MAPPED.sub(r"\1", unquote(unreached["address"]))
        if "connection refused" in cause.lower():
            return f"no server listens at {address}: is it running?"
        if "timed out" in cause:
            return f"nothing answers at {address}: is the address right, and the way there open?"
        # What was met is named by one version of gRPC, what was wanted by another.
        if "HTTP/2" in cause or "http1" in cause:
            return f"what listens at {address} is no citychain server: is the port right?"
        if (told := _tls_in_words(cause, address)) is not None:
            return told
        return f"no server can be reached at {address}: {cause}"
    if broken := _BROKEN.match(message):
        return f"the connection to the server broke: {broken['cause']}"
    return message
