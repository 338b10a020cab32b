"""Listeners hear of rounds, and can hurt none."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from citychain.hooks import hookimpl
from citychain.hooks.events import BACKLOG_MAX, RoundEvents
from citychain.hooks.registry import load_plugins


def events(*listeners: Any) -> RoundEvents:
    return RoundEvents(load_plugins(builtin=listeners, entry_points=()))


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.told = threading.Semaphore(0)

    @hookimpl
    def citychain_round_sealed(self, city: str, sealed: Any) -> None:
        self.heard.append((city, sealed))
        self.told.release()


class Failing:
    @hookimpl
    def citychain_round_sealed(self, city: str, sealed: Any) -> None:
        raise RuntimeError("the listener is broken")


async def test_a_listener_hears_in_order_in_a_thread_of_its_own() -> None:
    listener = Listener()
    async with events(listener) as told:
        for number in range(5):
            told.sealed("tokyo", SimpleNamespace(round=number))  # type: ignore[arg-type]
        for _ in range(5):
            assert listener.told.acquire(timeout=120)
    assert [sealed.round for _, sealed in listener.heard] == list(range(5))


async def test_a_failing_listener_is_logged_and_the_others_hear(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Listener()
    async with events(Failing(), listener) as told:
        told.sealed("tokyo", SimpleNamespace(round=1))  # type: ignore[arg-type]
        assert listener.told.acquire(timeout=120)
    assert "the listener is broken" in caplog.text


async def test_a_listener_that_hangs_costs_events_not_rounds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    class Hanging:
        @hookimpl
        def citychain_round_sealed(self, city: str, sealed: Any) -> None:
            release.wait(10)

    async with events(Hanging()) as told:
        for number in range(BACKLOG_MAX + 10):
            told.sealed("tokyo", SimpleNamespace(round=number))  # type: ignore[arg-type]
        assert "dropped" in caplog.text
    release.set()


async def test_without_listeners_no_thread_is_made() -> None:
    before = threading.active_count()
    async with events() as told:
        told.sealed("tokyo", SimpleNamespace(round=1))  # type: ignore[arg-type]
        assert threading.active_count() == before
