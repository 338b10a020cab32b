"""``[traces]``: where a server sends what happens to calls and rounds."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from citychain.config_tables import Table

__all__ = ["TracesSettings"]


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        good = False
    # What else a URL may have would be dropped without a word; a password has its own variable.
    if not good or url.rstrip("/") != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise ValueError("write it as http://host:port, or https://host:port for TLS")
    return url


class TracesSettings(Table):
    """``[traces]``: off unless it says where to send them. Needs ``citychain[otel]``."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """``http://host:port`` of an OpenTelemetry collector that takes OTLP over gRPC; ``https`` for
    TLS. Absent: nothing is traced."""
    ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the traces that begin at this server, so many are kept; those that a caller began are kept
    if the caller says so. Absent for what ``OTEL_TRACES_SAMPLER`` says, or all."""
    service_name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Absent for what ``OTEL_SERVICE_NAME`` says, or ``citychain``."""
