"""What a record looks like: it forges no other, moves no terminal, and gives no secret away."""

import json
import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citychain.cli.log_text import TEXT_MAX, UNPRINTABLE, formatter, without_secrets

PEOPLE = formatter(json=False, colours=False)
JSON = formatter(json=True, colours=False)


def record(text: str, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("town", logging.INFO, __file__, 1, "%s", (text,), exc_info)


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("\n\r\x1b\x85\u2028\u202e\ud800")))
def test_any_text_is_one_line(text: str) -> None:
    line = JSON.format(record(text))
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["event"] == text
    assert not UNPRINTABLE.search(PEOPLE.format(record(text)))


def test_people_read_what_was_raised_below_and_apart() -> None:
    try:
        raise OSError("no\n2026-11-26T00:00:00Z [info     ] forged\x1b[2J")
    except OSError as error:
        first, *below = PEOPLE.format(record("failed", error)).split("\n")
    assert first.endswith("[info     ] failed [town]")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-1] == "    2026-11-26T00:00:00Z [info     ] forged\\x1b[2J"
    assert all(line.startswith("    ") for line in below)


@pytest.mark.parametrize("format", [PEOPLE, JSON])
def test_a_traceback_has_no_values_of_variables(format: logging.Formatter) -> None:
    hidden = "hunter" + "2"
    try:
        sys.intern(len(hidden))  # type: ignore[arg-type]
    except TypeError as error:
        text = format.format(record("failed", error))
    assert "TypeError" in text
    assert "hunter2" not in text


SECRET = "c2VjcmV0-_c2VjcmV0"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach mongodb://town:{SECRET}@db.example:27017/?tls=true",
        f"http://:{SECRET}@[::1]:5001/api",
        f"('authorization', 'Bearer {SECRET}')",
        f"the token eyJhbGciOiJFZERTQSJ9.{SECRET}.{SECRET} has expired",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n{SECRET}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n{SECRET}",
        f"Options(password='{SECRET}', secret_access_key={SECRET})",
        f'{{"token": "{SECRET}", "api_key": "{SECRET}"}}',
        f"Options(password=b'{SECRET}'), {{'secret': b'{SECRET}'}}, token=\"it's {SECRET}\"",
        f"password='a,b; c\\'{SECRET}', api_key='{SECRET}",
    ],
)
def test_what_looks_like_a_secret_is_not_written(text: str) -> None:
    cleaned = without_secrets(text)
    assert SECRET not in cleaned
    assert "***" in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "listening on 127.0.0.1:50051",
        "https://example.org:443/a:b@c",
        "auth.token: cannot be read: No such file",
        "the bearer token has expired",
        "hometown: round 3 failed",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    event = json.loads(JSON.format(record(f"begins {'x' * 100_000} ends")))["event"]
    assert len(event) < TEXT_MAX + 10
    assert event.startswith("begins x")
    assert event.endswith("x ends")
