"""How durations are written, and that a city's table completes the general one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from citychain.config import load_settings
from citychain.config_tables import Duration, duration_text
from citychain.errors import ConfigurationError

DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("180d", timedelta(days=180)),
    ],
)
def test_a_duration_has_a_unit(text: str, duration: timedelta) -> None:
    assert DURATION.validate_python(text) == duration
    assert duration_text(duration) == text


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1.5h", "1 h", "1w", "999999d", 60])
def test_anything_else_is_none(text: object) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@given(st.integers(1, 10**9 - 1))
def test_what_is_written_is_read(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert DURATION.validate_python(duration_text(duration)) == duration


def test_a_city_has_what_the_archive_says_where_it_says_nothing() -> None:
    cities = {"tokyo": {"archive": {"every": "10m"}}, "kyoto": {}}
    settings = load_settings(environment={}, archive={"segment_mib": 2}, cities=cities)
    own = settings.cities["tokyo"].archive
    assert own is not None
    assert (own.segment_bytes, own.every) == (2 << 20, timedelta(minutes=10))
    assert settings.cities["kyoto"].archive is None
    assert settings.archive.every == timedelta(hours=1)


def test_a_wrong_duration_names_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"archive\.every: write it as a number of s, m"):
        load_settings(environment={}, archive={"every": "soon"})
