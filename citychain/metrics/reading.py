"""Reading the metrics of a server, in the text format of Prometheus 0.0.4."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from citychain.asking import answered_within
from citychain.errors import ConfigurationError, ServerUnavailable

__all__ = ["Samples", "read_metrics"]

BYTES_MAX: Final = 32 << 20
"""A server with a thousand labelled cities tells some 20 MiB."""
VALUE_MAX: Final = 1 << 53
"""What a server counts is less, and is a number: anything else was told by no server of ours."""


class Samples:
    """What a server told at one time."""

    def __init__(self, text: str) -> None:
        """Parse what ``/metrics`` answered.

        Raises:
            ValueError: it is no such text.
        """
        self._values: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if abs(sample.value) < VALUE_MAX:
                    self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **without: str) -> float | None:
        """The sum over all labels; ``None`` if there is no sample of this name.

        Args:
            without: Labels, and a value of each that is left out.
        """
        found = self._values.get(name)
        if found is None:
            return None
        left_out = without.items()
        return sum(value for labels, value in found if not left_out & labels.items())

    def by(self, name: str, label: str) -> Mapping[str, float]:
        """The values by a label that only one sample has with each value."""
        found = self._values.get(name, ())
        return {labels[label]: value for labels, value in found if label in labels}


def read_metrics(url: str, seconds: float) -> Samples:
    """Ask for metrics. Blocks: not for an event loop.

    Args:
        url: Such as ``http://127.0.0.1:9464/metrics``.
        seconds: After which it is given up.

    Raises:
        ConfigurationError: the address is none.
        ServerUnavailable: nobody answers there, or no metrics.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"metrics: {url} is no address such as http://HOST:PORT/metrics")
    of_scheme = (
        http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    )
    connection = of_scheme(host, port, timeout=seconds)
    try:
        with answered_within(connection, seconds):
            connection.request("GET", parts.path or "/metrics")
            answer = connection.getresponse()
            content = answer.read(BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ServerUnavailable(f"metrics: {url}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != http.client.OK or len(content) > BYTES_MAX:
        raise ServerUnavailable(f"metrics: {url}: {answer.status} {answer.reason}")
    try:
        return Samples(content.decode())
    except ValueError:
        raise ServerUnavailable(f"metrics: {url}: what is there are no metrics") from None
