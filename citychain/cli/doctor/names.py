"""Names of cities, parts and commands beside those that others have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from citychain.cli.doctor.findings import Finding
from citychain.cli.doctor.module import Offer
from citychain.hooks.registry import Registry, claim_of

__all__ = ["name_findings"]


def name_findings(offers: Iterable[Offer], others: Registry) -> Iterator[Finding]:
    """Conflicts with what else is installed, and commands that nobody can call."""
    owners = others.owners()
    own: set[tuple[str, str]] = set()
    for hook, descriptor, where in offers:
        if (claim := claim_of(hook, descriptor)) is None:
            continue
        kind, name = claim
        if claim in owners:
            what = f"{kind} {name!r} is offered by {owners[claim]} too, so neither is loaded"
            yield Finding("conflict", where, what, "rename it, or disable one of the two")
        if claim in own:
            yield Finding(
                "conflict", where, f"{kind} {name!r} is offered twice", "leave one of the two out"
            )
        own.add(claim)
        if kind == "command":
            yield from _command_findings(name, descriptor, where)


def _command_findings(name: str, descriptor: object, where: str) -> Iterator[Finding]:
    from typer.main import get_group

    from citychain.cli.app import app
    from citychain.cli.plugin_commands import command_of

    if name in get_group(app).commands:
        what = f"citychain has a command {name} of its own, which goes first"
        yield Finding("command-hidden", where, what, "rename it")
    try:
        command_of(descriptor)  # type: ignore[arg-type]
    except Exception as error:
        what = f"no command can be made of {name}: {type(error).__name__}: {error}"
        yield Finding("command-unusable", where, what, "give a typer.Typer or a function for one")
