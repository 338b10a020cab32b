"""Plugins, and the cities that are made of their parts."""

from __future__ import annotations

from collections.abc import Iterator

from citychain.city.pinned import genesis_file
from citychain.city.plan import plan_city
from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok
from citychain.cli.output import counted
from citychain.errors import CitychainError, ConfigurationError
from citychain.genesis import Genesis

__all__ = ["check_cities", "check_plugins"]


def check_plugins(examined: Examined) -> Iterator[Result]:
    """Those that are installed, as a server would load them."""
    active = 0
    for record in examined.registry.records:
        active += record.status == "active"
        if record.status in ("failed", "conflict"):
            yield fault(
                f"{record.distribution}: {record.name}",
                record.reason,
                f"citychain plugins doctor {record.distribution}",
            )
    yield ok("plugins", f"{counted(active, 'part')} of citychain and of plugins can be used")


def check_cities(examined: Examined) -> Iterator[Result]:
    """The cities of the configuration: their parts, options and genesis files."""
    settings, sound = examined.settings, 0
    for slug in settings.own_cities:
        try:
            plan = plan_city(slug, settings, examined.registry)
            file = genesis_file(settings.data_dir, slug, plan.genesis)
            if file.exists():
                _check_genesis(Genesis.read(file), settings.network, slug)
            elif plan.genesis is not None:
                raise ConfigurationError(f"{file}: there is no such genesis file")
        except CitychainError as error:
            yield fault(f"cities.{slug}", str(error), "mend its table, or what it names")
        else:
            sound += 1
    yield ok("cities", f"{sound:,} of the configuration can be put together")


def _check_genesis(genesis: Genesis, network: str, slug: str) -> None:
    for field, found, wanted in (
        ("network", genesis.network, network),
        ("city", genesis.city, slug),
    ):
        if found != wanted:
            raise ConfigurationError(f"its genesis has {field} = {found}, not {wanted}")
