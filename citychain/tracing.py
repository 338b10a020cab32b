"""Traces of what happens to transactions: from a client's call to the round that makes them final.

A call is a span. A round is one too, of the trace of the first call that brought it a transaction,
with a link to each such call; its approval is a child of the round. `open_tracer` gives what keeps
them; where nobody asks for traces, `UNTRACED` does nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from citychain.errors import ConfigurationError
from citychain.ports import StoredRound
from citychain.types import SealedRound

if TYPE_CHECKING:
    from citychain.config_traces import TracesSettings

__all__ = ["UNTRACED", "CallSpan", "SpanParent", "Tracer", "open_tracer", "span_parent"]

_TRACE_PARENT: Final = re.compile(
    # Ids of zeros are none, nor is version ff; all but version 00 may go on after the flags.
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


class SpanParent(NamedTuple):
    """What a caller's ``traceparent`` says, in hexadecimal."""

    trace_id: str
    span_id: str
    flags: str


def span_parent(header: str | bytes | None) -> SpanParent | None:
    """Read a ``traceparent`` of `W3C Trace Context <https://www.w3.org/TR/trace-context/>`_;
    ``None`` where it is none."""
    found = _TRACE_PARENT.fullmatch(header) if isinstance(header, str) else None
    return None if found is None else SpanParent(*found.groups())


class CallSpan(Protocol):
    """The span of one call."""

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""

    def end(self, code: str, *, known: bool = True) -> None:
        """The call ended with this status, by its name in gRPC.

        Args:
            known: Whether there is such a method; what callers make up is to name no span.
        """


class Tracer(Protocol):
    """Traces for one server. Telling it costs microseconds, never waits and never fails."""

    def call(self, method: str, parent: SpanParent | None) -> CallSpan:
        """A call begins; what this task does from here on, and those that it starts, belongs to
        it."""

    def leave_call(self) -> None:
        """What this task does from here on outlives the call that began it, and belongs to none."""

    def caller(self) -> object:
        """The call to which this task belongs, for `received`."""

    def received(self, caller: object, tx_ids: Iterable[bytes]) -> None:
        """A call brought these transactions, which wait for a round from now on."""

    def sealed(self, slug: str, round: SealedRound) -> None:
        """This server committed a round."""

    def approved(self, slug: str, round: StoredRound) -> None:
        """A round that this server leads has its certificate."""

    async def aclose(self) -> None:
        """Send what is left, within some seconds."""


class _UntracedCall:
    """Has an id, for the log."""

    def __init__(self, parent: SpanParent | None) -> None:
        self.trace_id = secrets.token_hex(16) if parent is None else parent.trace_id

    def end(self, code: str, *, known: bool = True) -> None:
        pass


class _Untraced:
    """Keeps nothing."""

    def call(self, method: str, parent: SpanParent | None) -> CallSpan:
        return _UntracedCall(parent)

    def leave_call(self) -> None:
        pass

    def caller(self) -> object:
        return None

    def received(self, caller: object, tx_ids: Iterable[bytes]) -> None:
        pass

    def sealed(self, slug: str, round: SealedRound) -> None:
        pass

    def approved(self, slug: str, round: StoredRound) -> None:
        pass

    async def aclose(self) -> None:
        pass


UNTRACED: Final[Tracer] = _Untraced()
"""Where nobody asks for traces."""


def open_tracer(settings: TracesSettings) -> Tracer:
    """What a server's traces are told; close it at the end.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or a variable of its own is wrong.
    """
    if settings.endpoint is None:
        return UNTRACED
    try:
        from citychain._otel import ServerTracer
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"traces.endpoint: needs the module {error.name}: pip install 'citychain[otel]'"
        ) from None
    try:
        return ServerTracer(settings.endpoint, settings.ratio, settings.service_name)
    except Exception as error:  # The library has errors of many kinds for them.
        raise ConfigurationError(f"traces: a variable OTEL_... is wrong: {error}") from None
