"""``[archive]``: how approved rounds become objects in the fragment stores."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field

from citychain.config_tables import Duration, Table

__all__ = ["ArchiveSettings"]

DEFAULT_SEGMENT_MIB: Final = 8
DEFAULT_EVERY: Final = timedelta(hours=1)
DEFAULT_REPAIR_EVERY: Final = timedelta(hours=1)
DEFAULT_SCRUB_EVERY: Final = timedelta(days=30)


class ArchiveSettings(Table):
    """``[archive]``: at work where ``[fragments.stores]`` has any store."""

    enabled: bool = True
    """Whether a city that is led here is archived."""
    segment_mib: Annotated[int, Field(ge=1, le=1_024)] = DEFAULT_SEGMENT_MIB
    """With so much a segment is full. One has whole rounds, so it may be larger."""
    every: Duration = DEFAULT_EVERY
    """A round is archived after so long, also where its segment is not full."""
    repair: bool = True
    """Whether the server makes anew what is lost or wrong of its segments."""
    repair_every: Duration = DEFAULT_REPAIR_EVERY
    """Between two looks whether a fragment is lost, or not proven by its holder any more."""
    scrub_every: Duration = DEFAULT_SCRUB_EVERY
    """Every byte of a segment is read once in so long, if `fragments.scrub_mib_s` allows it."""

    @property
    def segment_bytes(self) -> int:
        """With so many bytes a segment is full."""
        return self.segment_mib << 20
