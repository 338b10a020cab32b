"""The result of the demonstration, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from citychain.cli.demo.check import CityResult

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["draw", "record"]


def record(city: CityResult) -> dict[str, Any]:
    """All figures of one city; latencies in milliseconds."""
    results = city.results
    acknowledged = [result for result in results if result.acknowledged]
    final = [result for result in acknowledged if result.final and result.step.repeats is None]
    return {
        "city": city.plan.city.slug,
        "dag": city.dag,
        "sent": len(results),
        "acknowledged": len(acknowledged),
        "approved": city.outcomes["APPROVED"],
        "rejected": _codes(city.outcomes, "REJECTED "),
        "refused": _codes(city.outcomes, "REFUSED "),
        "duplicates": city.outcomes["DUPLICATE"],
        "resent": sum(result.resent for result in results),
        "receipts_valid": len({r.tx_id for r in acknowledged if r.receipt == "valid"}),
        "log_size": city.log_size,
        "tx_per_second": round(len(acknowledged) / city.seconds, 1) if city.seconds else 0.0,
        "ack_ms": _latencies(r.answered_at - r.sent_at for r in acknowledged),
        "final_ms": _latencies(r.final_at - r.sent_at for r in final),
    }


def draw(cities: Sequence[CityResult]) -> Table:
    """A row a city."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 1, 0),
        pad_edge=False,
        caption="rates and latencies include the time that the server was away",
    )
    table.add_column("city\nDAG handler")
    for name in ("sent", "acknow-\nledged", "approved"):
        table.add_column(name, justify="right")
    table.add_column("rejected,\nor refused unstored")
    for name in (
        "dupli-\ncates",
        "receipts\nvalid",
        "tx/s",
        "ack ms\np50/p99",
        "final ms\np50/p99",
    ):
        table.add_column(name, justify="right")
    for city in cities:
        figures = record(city)
        faults = [f"{count} {code}" for code, count in figures["rejected"].items()]
        faults += [f"{count} {code} (refused)" for code, count in figures["refused"].items()]
        table.add_row(
            f"[bold]{figures['city']}[/]\n{figures['dag']}",
            str(figures["sent"]),
            str(figures["acknowledged"]),
            str(figures["approved"]),
            "\n".join(faults),
            str(figures["duplicates"]),
            str(figures["receipts_valid"]),
            f"{figures['tx_per_second']:.0f}",
            _pair(figures["ack_ms"]),
            _pair(figures["final_ms"]),
        )
    return table


def _codes(outcomes: Counter[str], kind: str) -> dict[str, int]:
    return {
        outcome.removeprefix(kind): count
        for outcome, count in sorted(outcomes.items())
        if outcome.startswith(kind)
    }


def _latencies(seconds: Iterable[float]) -> dict[str, float]:
    """Percentiles by nearest rank."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        f"p{percent}": round(1_000 * ordered[-(-len(ordered) * percent // 100) - 1], 1)
        for percent in (50, 99)
    }


def _pair(latencies: dict[str, float]) -> str:
    return "/".join(f"{value:.0f}" for value in latencies.values()) or "-"
