"""Listeners are told of rounds, one guarded from the other."""

from __future__ import annotations

import sys

import pytest
from throwaway import CITY, Site

from citychain.hooks.registry import load_plugins


@pytest.mark.parametrize(
    ("event", "argument"), [("round_sealed", "sealed"), ("round_approved", "approved")]
)
def test_a_failing_listener_does_not_hurt_the_others(
    site: Site, caplog: pytest.LogCaptureFixture, event: str, argument: str
) -> None:
    source = f"told = []\n@hookimpl\ndef citychain_{event}(city, {argument}):\n    "
    for name in ("one", "three"):
        site.install(name, f"{source}told.append((city, {argument}))\n")
    site.install("broken", f"{source}raise SystemExit('no')\n")
    registry = site.load()
    assert registry.has_listeners(f"citychain_{event}")
    what = object()
    getattr(registry, event)("kyoto", what)
    for name in ("one", "three"):
        assert sys.modules[f"throwaway_{name}"].told == [("kyoto", what)]
    assert f"plugin broken:broken: citychain_{event} failed: SystemExit" in caplog.text


def test_nobody_listens_without_plugins() -> None:
    registry = load_plugins(entry_points=[])
    assert not registry.has_listeners("citychain_round_sealed")
    assert registry.interceptors() == ()


def test_a_plugin_that_is_left_out_hears_nothing(site: Site) -> None:
    listener = "told = []\n@hookimpl\ndef citychain_round_sealed(city):\n    told.append(city)\n"
    site.install("one", listener + CITY.format(slug="kyoto"))
    site.install("two", CITY.format(slug="kyoto"))
    registry = site.load()
    assert not registry.has_listeners("citychain_round_sealed")
