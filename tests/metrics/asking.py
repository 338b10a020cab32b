"""Asks a server for its metrics, as Prometheus does."""

from __future__ import annotations

import asyncio
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["answer", "asked", "samples", "value"]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def answer(address: str, path: str) -> tuple[int, str]:
    """Status and text; blocks."""
    try:
        with urlopen(f"http://{address}{path}", timeout=120) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def asked(address: str, path: str) -> tuple[int, str]:
    """The same, while the event loop goes on."""
    return await asyncio.to_thread(answer, address, path)


async def samples(address: str) -> Samples:
    """All that Prometheus would read."""
    status, text = await asked(address, "/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """A sample of a registry; ``None`` if there is none."""
    return registry.get_sample_value(name, labels)
