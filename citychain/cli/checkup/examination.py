"""All checks, in the order of looking: from what needs nothing to what needs all else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from citychain.cli.checkup.certificates import check_certificates
from citychain.cli.checkup.clocks import check_clocks
from citychain.cli.checkup.disk import check_disk, check_sync
from citychain.cli.checkup.examined import Check, Examined
from citychain.cli.checkup.keys import check_keys, check_secrets
from citychain.cli.checkup.listening import check_listening
from citychain.cli.checkup.parts import check_cities, check_plugins
from citychain.cli.checkup.peers import check_peers
from citychain.cli.checkup.process import check_limits, check_versions
from citychain.cli.checkup.results import Result, fault, ok
from citychain.cli.checkup.storages import check_storages
from citychain.cli.checkup.stores import check_stores
from citychain.config import load_settings
from citychain.errors import CitychainError, ConfigurationError

__all__ = ["CHECKS", "CONFIGURATION", "examine_server"]

CONFIGURATION: Final = "configuration"
"""The check before all others: without settings there is nothing to look at."""

CHECKS: Final[Mapping[str, Check]] = {
    "versions": check_versions,
    "limits": check_limits,
    "plugins": check_plugins,
    "cities": check_cities,
    "keys": check_keys,
    "secrets": check_secrets,
    "certificates": check_certificates,
    "disk": check_disk,
    "sync": check_sync,
    "storage": check_storages,
    "clocks": check_clocks,
    "listening": check_listening,
    "stores": check_stores,
    "peers": check_peers,
}
"""By name; docs/doctor.md says what each looks at."""


def examine_server(config: Path | None, timeout: timedelta) -> Iterator[tuple[str, Result]]:
    """What there is to say, with the name of the check that says it. Changes nothing.

    Args:
        config: The configuration file, instead of the one that is found.
        timeout: For each of those that are asked over the network.
    """
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            place, _, what = line.rpartition(": ")
            yield CONFIGURATION, fault(place or "settings", what, "mend this line")
        return
    yield CONFIGURATION, ok(settings.file or "settings", "can be read")
    examined = Examined(settings, timeout.total_seconds())
    for name, check in CHECKS.items():
        try:
            for result in check(examined):
                yield name, result
        except (CitychainError, OSError, TimeoutError) as error:
            what = str(error) or type(error).__name__
            yield name, fault(name, f"could not be looked at: {what}", "mend this, and look again")
        except Exception as error:  # A plugin, or a peer. What it says may be secret.
            what = f"could not be looked at: it raised {type(error).__name__}"
            yield name, fault(name, what, "report it; the other checks have been made")
