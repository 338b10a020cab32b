"""``[metrics]``: what a server tells whoever runs it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from citychain.config_tables import Address, Table

__all__ = ["MetricsSettings"]

DEFAULT_CITIES: Final = 20


class MetricsSettings(Table):
    """``[metrics]``: off unless it says where to listen."""

    listen: Address | None = None
    """``host:port`` of ``/metrics``, ``/healthz`` and ``/readyz``, over plain HTTP; port 0 takes a
    free one. Absent: nothing is counted."""
    cities: Annotated[int, Field(ge=0, le=1_000)] = DEFAULT_CITIES
    """So many have a label of their own, the first that the server opens; all others share
    ``_others``. Each takes some 150 time series."""
