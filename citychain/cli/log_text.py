"""What a record of the log looks like: one line, without secrets and without what moves a terminal.

In JSON a line is an object of strings, as `RFC 8259 <https://www.rfc-editor.org/rfc/rfc8259>`_ has
it, in ASCII. For people, the traceback of an error follows in lines that begin with blanks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from citychain.log_fields import log_fields

if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = ["TEXT_MAX", "formatter", "without_secrets"]

TEXT_MAX: Final = 16_384
"""Characters of a text that are kept, from its beginning and its end."""

SECRETS: Final = (
    # The password of an address; user names and hosts stay.
    (re.compile(r"(?<=://)([^\s/?#@:'\"]*):[^\s/?#'\"]*(?=@)"), r"\1:***"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{16,}", re.IGNORECASE), r"\1 ***"),
    # A token: RFC 7519. Its header is a JSON object, and so begins like this.
    (re.compile(r"(?<![\w-])eyJ[\w-]*\.[\w-]*\.[\w-]*"), "***"),
    (
        re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\Z)", re.DOTALL),
        r"\1 *** \2",
    ),
    # As libraries print what they were given: password=..., 'secret_access_key': b'...'.
    (
        re.compile(
            r"((?:password|passwd|secret|token|api_?key|access_?key|private_?key)"
            r"(?:=|['\"]\s*[:,]\s*(?=b?['\"])))"
            r"(?:b?'(?:[^'\\\n]|\\.)*'?|b?\"(?:[^\"\\\n]|\\.)*\"?|[^\s'\",;&)}\]]+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
"""What a secret looks like, and what stands in its place."""

UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of a line."""

Event: TypeAlias = MutableMapping[str, Any]


def formatter(*, json: bool, colours: bool) -> logging.Formatter:
    """What renders records.

    Args:
        json: As JSON, else for people.
        colours: For people who have a terminal.
    """
    from structlog import dev, processors, stdlib

    ends: list[Processor] = [processors.JSONRenderer()]
    if not json:
        render = dev.ConsoleRenderer(
            colors=colours, pad_event_to=0, exception_formatter=dev.plain_traceback
        )
        ends = [_in_lines, render]
    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            stdlib.add_log_level,
            stdlib.add_logger_name,
            _add_fields,
            processors.TimeStamper(fmt="iso"),
            # A text without the values of variables: these may be keys.
            processors.format_exc_info,
        ],
        processors=[stdlib.ProcessorFormatter.remove_processors_meta, _clean, *ends],
    )


def without_secrets(text: str) -> str:
    """A text with ``***`` in the place of what looks like a password, a token or a private key."""
    for secret, instead in SECRETS:
        text = secret.sub(instead, text)
    return text


def _add_fields(_: object, __: str, event: Event) -> Event:
    event.update(log_fields())
    return event


def _clean(_: object, __: str, event: Event) -> Event:
    for name, text in event.items():
        text = without_secrets(text)
        if len(text) > TEXT_MAX:
            text = f"{text[: TEXT_MAX // 2]} [...] {text[-TEXT_MAX // 2 :]}"
        event[name] = text
    return event


def _in_lines(_: object, __: str, event: Event) -> Event:
    """For people: what was raised in lines of its own, which none of it can leave."""
    for name, text in event.items():
        if name == "exception":
            lines = (f"    {UNPRINTABLE.sub(_escaped, line)}" for line in text.split("\n"))
            event[name] = "\n".join(lines)
        else:
            event[name] = UNPRINTABLE.sub(_escaped, text)
    return event


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
