"""A part beside its port: every method is there, is async, and can be called as the port says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from citychain import ports
from citychain.cli.doctor.findings import Finding
from citychain.hooks.loading import is_within

__all__ = ["shape_findings", "votes_findings"]

CONTEXT: Final = ("__aenter__", "__aexit__")


def shape_findings(part: object, port: type, where: str) -> Iterator[Finding]:
    """How a part differs from its port.

    Args:
        where: Used where the line of a method is not known.
    """
    name = type(part).__name__
    for method, meant in _methods(port):
        real = getattr(part, method, None)
        wanted = f"write: async def {method}{_shown(meant)}"
        if not callable(real) or _is_stub(real):
            yield Finding("method-missing", where, f"{name} has no method {method}", wanted)
            continue
        place = _line(real) or where
        if not inspect.iscoroutinefunction(real):
            yield Finding("method-not-async", place, f"{name}.{method} is no coroutine", wanted)
        yield from _signature_findings(f"{name}.{method}", real, meant, place, wanted)


def votes_findings(step: object, where: str) -> Iterator[Finding]:
    """The same for the votes of a consensus step, if it takes any."""
    if ports.takes_votes(step):  # type: ignore[arg-type]
        yield from shape_findings(step, ports.SupportsVotes, where)
        return
    names = [name for name, _ in _methods(ports.SupportsVotes)]
    if has := [name for name in names if callable(getattr(step, name, None))]:
        lacks = ", ".join(name for name in names if name not in has)
        yield Finding(
            "votes-incomplete",
            where,
            f"{type(step).__name__} has {', '.join(has)}, and not {lacks}: it takes no votes",
            "write all of SupportsVotes, or inherit citychain.consensus.steps.ApprovedByVotes",
        )


def _methods(port: type) -> Iterator[tuple[str, Any]]:
    found = {}
    for cls in reversed(port.__mro__):
        if is_within(cls.__module__, ports.__name__):
            for name, method in vars(cls).items():
                if inspect.isfunction(method) and (not name.startswith("_") or name in CONTEXT):
                    found[name] = method
    yield from found.items()


def _is_stub(method: Any) -> bool:
    """Whether it is the port's own, inherited and not written."""
    return is_within(getattr(getattr(method, "__func__", method), "__module__", ""), ports.__name__)


def _line(method: Any) -> str:
    code = getattr(inspect.unwrap(getattr(method, "__func__", method)), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _shown(meant: Any) -> str:
    signature = inspect.signature(meant)
    return str(signature).replace("'", "")


def _signature_findings(
    name: str, real: Any, meant: Any, place: str, wanted: str
) -> Iterator[Finding]:
    try:
        signature = inspect.signature(real)
    except (TypeError, ValueError):
        return  # Not in Python: it cannot be known.
    _, *parameters = inspect.signature(meant).parameters.values()
    positional = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    # `*exc_info` stands for the three that a context manager is left with.
    arguments = [None] * (len(positional) if len(positional) == len(parameters) else 3)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        yield Finding("method-signature", place, f"{name}{signature}: {error}", wanted)
        return
    try:
        signature.bind(**{parameter.name: None for parameter in positional})
    except TypeError:
        if len(positional) == len(parameters):
            what = f"{name}{signature} names its parameters otherwise than its port"
            yield Finding("parameter-names", place, what, wanted)
