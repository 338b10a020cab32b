"""How a sub-command ends: its exit code, and the one line that explains a failure."""

from __future__ import annotations

from enum import IntEnum

import typer

__all__ = ["Exit", "failure"]


class Exit(IntEnum):
    """Exit codes, the same for every sub-command."""

    OK = 0
    NO = 1
    """The answer is no: refused, rejected, invalid, unknown."""
    UNUSABLE = 2
    """Wrong usage, or a file or setting that cannot be used."""
    UNAVAILABLE = 3
    """The server or city cannot be had now: try again later."""
    FAULT = 70
    """A fault of citychain itself."""
    INTERRUPTED = 130


def failure(error: BaseException) -> tuple[Exit, str]:
    """The exit code and the message for people of an exception."""
    from citychain import errors

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case typer.TyperException():
            return Exit(error.exit_code), _usage(error)
        case KeyboardInterrupt() | typer.Abort():
            return Exit.INTERRUPTED, "interrupted"
        case errors.ConfigurationError() | errors.PluginError() | errors.InvalidRequest():
            return Exit.UNUSABLE, str(error)
        case errors.RequestError(reason="OVERLOADED" | "AUTHOR_QUOTA"):
            return Exit.UNAVAILABLE, str(error)
        case (
            errors.RequestError() | errors.VerificationError() | errors.NotRestorable(is_lost=True)
        ):
            return Exit.NO, str(error)
        case errors.CitychainError():
            return Exit.UNAVAILABLE, str(error)
        case TimeoutError():
            return Exit.UNAVAILABLE, str(error) or "no answer in time"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Exit.UNUSABLE, f"{where}{error.strerror or error}"
    return Exit.FAULT, f"{type(error).__name__}: {error} (--debug shows where)"


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context is not None else ""
    message = " ".join(error.format_message().split())  # Choices come a line each.
    return f"{message.rstrip('.')}{hint}"
