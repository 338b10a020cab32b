"""What the explorer tells whoever runs it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from citychain.explorer.live import Live

__all__ = ["Counts"]


class Counts:
    """Counted since the start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.skipped = self._counter("rounds_skipped", "Rounds a viewer was too slow for.")
        self.requests = self._counter("requests", "Requests below api/.")
        self.failures = self._counter("failures", "Those not answered with success.")

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"citychain_explorer_{name}", meaning, registry=self.registry)

    def look_at(self, live: Live) -> None:
        """Tell of who looks, too."""
        for name, meaning, value in (
            ("viewers", "Browsers that look live.", lambda: live.viewers),
            ("cities_followed", "Cities that somebody looks at.", lambda: live.cities),
        ):
            gauge = Gauge(f"citychain_explorer_{name}", meaning, registry=self.registry)
            gauge.set_function(value)
