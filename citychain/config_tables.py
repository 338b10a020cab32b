"""What the tables of ``citychain.toml`` have in common."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["FOREVER", "Address", "Duration", "KeepFor", "PartName", "Table", "duration_text"]

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DAYS_MAX: Final = 36_500

PartName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]


def _address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("write it as host:port, such as 127.0.0.1:50051 or [::]:50051")
    return address


Address = Annotated[str, AfterValidator(_address)]
"""``host:port``."""


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not (match := re.fullmatch(r"([0-9]{1,9})([smhd])", value)):
        raise ValueError("write it as a number of s, m, h or d, such as 90s, 15m, 1h or 180d")
    duration = timedelta(**{UNITS[match[2]]: int(match[1])})
    if not timedelta() < duration <= timedelta(days=DAYS_MAX):
        raise ValueError(f"must be more than nothing, and at most {DAYS_MAX}d")
    return duration


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""Such as ``1h`` or ``180d``."""


FOREVER: Final = timedelta.max


def _keep_for(value: Any) -> Any:
    if value == "forever" or value == FOREVER:
        return FOREVER
    try:
        return _duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or forever") from None


KeepFor = Annotated[timedelta, BeforeValidator(_keep_for)]
"""Such as ``180d``; ``forever`` is `FOREVER`."""


def duration_text(duration: timedelta) -> str:
    """A duration as settings have it, in the largest unit that gives a whole number."""
    if duration == FOREVER:
        return "forever"
    seconds = round(duration.total_seconds())
    for unit, name in reversed(UNITS.items()):
        one = round(timedelta(**{name: 1}).total_seconds())
        if seconds and seconds % one == 0:
            return f"{seconds // one}{unit}"
    return f"{seconds}s"


class Table(BaseModel):
    """A table in which a key that does not exist is an error."""

    # Inputs stay out of errors: they may be secrets.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
