"""One look at a server, for people."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from citychain.cli.output import moment_in_words, printable
from citychain.cli.top.observing import CitySight, ServerSight, Sight

__all__ = ["frame"]

OVERHEAD = 7
"""Lines besides the cities: of the server, of the table's head, and what is told below."""


def frame(sight: Sight, where: str, lines: int | None) -> RenderableType:
    """The whole frame.

    Args:
        where: The servers that were asked.
        lines: How many there is room for; ``None`` for any number.
    """
    head = Text.assemble((where, "bold"), f"  {moment_in_words(sight.time_ms)}")
    if sight.error:
        return Group(head, Text(printable(sight.error), "red"))
    head.append(f"  cities: {sight.known:,} known, {sight.opened:,} open")
    if sight.failed:
        head.append(f", {sight.failed:,} failed", "red")
    parts: list[RenderableType] = [head]
    if sight.server is not None:
        parts.append(_server(sight.server))
    elif sight.metrics_error:
        parts.append(Text(printable(sight.metrics_error), "red"))
    shown = sight.cities if lines is None else sight.cities[: max(1, lines - OVERHEAD)]
    table = Table("city", "leads", box=None, header_style="bold")
    for title in ("round", "rounds/s", "tx/s", "pending", "unapproved"):
        table.add_column(title, justify="right")
    for city in shown:
        table.add_row(*_row(city))
    parts.append(table)
    if len(shown) < sight.opened:
        parts.append(Text(f"the busiest {len(shown):,} of those that are open", "dim"))
    return Group(*parts)


def _row(city: CitySight) -> tuple[str | Text, ...]:
    leads = {True: "yes", False: "no", None: "-"}[city.leads]
    return (
        Text(printable(city.city)),  # Text, lest it be read as markup.
        leads,
        f"{city.round:,}",
        _number(city.rounds_per_second),
        _number(city.transactions_per_second),
        f"{city.pending:,}",
        Text(f"{city.unapproved:,}", "yellow" if city.unapproved > 1 else ""),
    )


def _server(server: ServerSight) -> Text:
    parts = [
        f"calls/s {_number(server.calls_per_second)}",
        f"failing/s {_number(server.failures_per_second)}",
        f"under way {server.calls_under_way:,}",
    ]
    if server.cpu_share is not None:
        parts.append(f"CPU {server.cpu_share * 100:.0f} %")
    if server.memory_bytes is not None:
        parts.append(f"memory {server.memory_bytes >> 20:,} MiB")
    if server.open_files is not None:
        parts.append(f"files {server.open_files:,}")
    if server.up_seconds is not None:
        parts.append(f"up {timedelta(seconds=round(server.up_seconds))}")
    return Text("  ".join(parts))


def _number(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}"
