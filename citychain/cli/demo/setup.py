"""The directory of a demonstration: keys, and a configuration of its cities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from citychain.cli.demo.plan import ASSET, BALANCE, CITIES, RESIDENTS, City
from citychain.errors import ConfigurationError
from citychain.nearest import did_you_mean

if TYPE_CHECKING:
    from citychain.crypto.signatures import SigningKey

__all__ = ["check_setup", "make_directory"]

CONFIGURATION = """\
network = "demo"

[server]
drain_seconds = 10.0

[pacer]
min_seconds = 0.1
max_seconds = 0.5
"""


def make_directory(directory: Path, cities: Sequence[City]) -> list[SigningKey]:
    """Write the server's key and configuration, and return the residents' keys."""
    from citychain.client.keys import create_key
    from citychain.crypto.keys import key_id

    directory.mkdir(parents=True, exist_ok=True)
    create_key(directory / "operator.key")
    residents = [create_key(directory / f"resident-{n}.key") for n in range(RESIDENTS)]
    balances = "".join(f'"{key_id(key.public_key).hex()}" = {BALANCE}\n' for key in residents)
    text = CONFIGURATION
    for city in cities:
        text += f"\n[cities.{city.slug}]\n"
        for part, name in (("dag", city.dag), ("consensus", city.consensus)):
            if name is not None:
                text += f'{part} = "{name}"\n'
        # Long enough for a dependency to be sent again after the server was away.
        text += f"hold_rounds = 100\n[cities.{city.slug}.balances.{ASSET}]\n{balances}"
    (directory / "citychain.toml").write_text(text)
    return residents


def check_setup(directory: Path, cities: Sequence[City]) -> None:
    """See that a server started there has the cities, and keeps to the directory.

    Raises:
        ConfigurationError: names what to install, or to unset.
    """
    from citychain.config import load_settings
    from citychain.hooks.registry import load_plugins

    settings = load_settings(directory / "citychain.toml")
    for name, path in (("DATA_DIR", settings.data_dir), ("OPERATOR_KEY", settings.operator_key)):
        if path.parent != directory.absolute():
            raise ConfigurationError(f"CITYCHAIN_{name} is set: unset it for the demonstration")
    registry = load_plugins(**settings.plugins.model_dump())
    definitions = {city.slug: registry.find_city(city.slug) for city in cities}
    found = {name for name, city in definitions.items() if city is not None and city.slug == name}
    missing = [
        city.distribution
        for city in cities
        if city.distribution is not None and city.slug not in found
    ]
    if missing:
        raise ConfigurationError(
            f"the demonstration needs plugins: pip install {' '.join(missing)} "
            "(or see with `citychain plugins` why they are not active)"
        )
    for city in cities:
        if city not in CITIES and city.slug not in found:
            if (definition := definitions[city.slug]) is not None:
                raise ConfigurationError(
                    f"--city {city.slug}: this is a name of the city {definition.slug}: "
                    f"write --city {definition.slug}"
                )
            raise ConfigurationError(
                f"--city {city.slug}: no installed plugin has this city"
                f"{did_you_mean(city.slug, registry.cities)} (or see with `citychain plugins` why "
                "it is not active)"
            )
