"""What went wrong, as the page is told: a status of HTTP, and ``{"error": {…}}``."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping
from typing import Any

from citychain import errors
from citychain.explorer.shown import text

__all__ = ["TooMany", "failure", "in_words"]

logger = logging.getLogger(__name__)


class TooMany(errors.CitychainError):
    """Raised when the explorer itself serves as many as it may."""


def failure(error: BaseException) -> tuple[int, str, Mapping[str, str]]:
    """Status, body and headers that tell of an exception."""
    match error:
        case errors.Overloaded():
            wait = max(1, math.ceil(error.retry_after.total_seconds()))
            return 429, _body(error.reason, str(error)), {"Retry-After": str(wait)}
        case errors.InvalidRequest():
            return 400, _body(error.reason, error.detail, error.field), {}
        case errors.TransactionRefused():
            return 422, _body(error.reason, error.detail, error.field), {}
        case errors.RequestError():
            statuses = {
                "NOT_FOUND": 404,
                "PRUNED": 410,
                "NOT_SUPPORTED": 501,
                "NOT_AUTHENTICATED": 401,
                "NOT_ALLOWED": 403,
            }
            return statuses.get(error.reason, 400), _body(error.reason, str(error)), {}
        case TooMany():
            return 503, _body("BUSY", str(error)), {"Retry-After": "5"}
        case TimeoutError():
            return 504, _body("TIMEOUT", in_words(error)), {}
        case errors.CityUnavailable() | errors.ServerUnavailable():
            return 503, _body("UNAVAILABLE", str(error)), {"Retry-After": "1"}
        case errors.CitychainError():
            return 502, _body("SERVER_FAILED", str(error)), {}
    # Nothing of it is for strangers: the log has it, under a name that they can tell us.
    name = uuid.uuid4().hex[:16]
    logger.error("error %s", name, exc_info=error)
    return 500, _body("FAULT", f"a fault of the explorer: its log explains error {name}"), {}


def in_words(error: BaseException) -> str:
    """What a failure of a server is called, for people."""
    if isinstance(error, BaseExceptionGroup):
        return in_words(error.exceptions[0])
    return str(error) or "the server did not answer in time"


def _body(code: str, message: str, field: str = "") -> str:
    error: dict[str, Any] = {"code": code, "message": message}
    return text({"error": error | ({"field": field} if field else {})})
