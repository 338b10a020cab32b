"""What the explorer tells whoever runs it, in Prometheus's text format, version 0.0.4."""

from __future__ import annotations

from citychain.explorer.live import Live

__all__ = ["Counts", "told_counts"]


class Counts:
    """Counted since the start."""

    def __init__(self) -> None:
        self.skipped = 0
        self.failures = 0
        self.requests = 0

    def skip(self) -> None:
        """A viewer was too slow for a round."""
        self.skipped += 1


def told_counts(counts: Counts, live: Live) -> str:
    """The text that ``/metrics`` answers."""
    lines: list[str] = []
    for name, kind, meaning, value in (
        ("viewers", "gauge", "Browsers that look live.", live.viewers),
        ("cities_followed", "gauge", "Cities that somebody looks at.", live.cities),
        ("rounds_skipped_total", "counter", "Rounds a viewer was too slow for.", counts.skipped),
        ("requests_total", "counter", "Requests below api/.", counts.requests),
        ("failures_total", "counter", "Those not answered with success.", counts.failures),
    ):
        whole = f"citychain_explorer_{name}"
        lines += (f"# HELP {whole} {meaning}", f"# TYPE {whole} {kind}", f"{whole} {value}")
    return "\n".join((*lines, ""))
