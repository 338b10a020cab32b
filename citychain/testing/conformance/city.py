"""What every whole city must do: inherit `CitySuite` and name the city.

::

    import pytest
    from citychain.testing.conformance import CitySuite

    class TestNara(CitySuite):
        @pytest.fixture
        def definition(self):
            return "nara"
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from citychain.client.actions import Transfer
from citychain.errors import CitychainError
from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance._city_installed import PartDefinition, install
from citychain.testing.conformance._city_machine import CityMachine
from citychain.testing.conformance._city_servers import ServersTests
from citychain.testing.conformance._city_session import Cities, City, Sign, to_install
from citychain.testing.conformance._city_submission import SubmissionTests
from citychain.testing.conformance._city_trouble import TroubleTests
from citychain.testing.conformance._city_watching import WatchingTests
from citychain.testing.conformance._suite import Suite
from citychain.testing.server import CityServerFactory, TransactionFactory

__all__ = ["CitySuite"]


class CitySuite(SubmissionTests, WatchingTests, TroubleTests, ServersTests, Suite):
    """Inherit it as ``Test...`` and override the fixture `definition`.

    The city is served by a real server in this process and asked by a real client, whatever its
    parts are. A server stands for a process: tests stop it, or have its storage die, and go on
    with another one on the same data. Storage whose definition is not ``durable`` is kept for
    the next server.

    Fixtures to override, where the defaults do not fit:

    ================ ====================================================================
    `definition`     the city's slug, if its plugin is installed, or its `CityDefinition`
    `options`        its table, as in ``[cities.SLUG]``: ``{"dag_options": {"tips": 1}}``
    `plugins`        definitions of parts that no installed plugin offers
    `settings`       other tables of citychain.toml, as the fixture ``city_server`` takes them
    `transactions`   makes what the city approves; notes if nothing else is said
    `rejected`       makes what the city takes and rejects, or ``None``
    ================ ====================================================================
    """

    many: ClassVar[int] = 1_000
    """Transactions of the largest test. Each is signed and verified with ML-DSA-87, a
    millisecond of one core, so that the 10^5 of the suites for parts would take minutes."""
    examples: ClassVar[int] = 8
    """Runs of the state machine, each in a city of its own."""

    @pytest.fixture
    def plugins(self) -> Sequence[PartDefinition]:
        """Definitions of parts that come with the city and are not installed."""
        return ()

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """Other settings of the server, such as ``{"plugins": {"allow": ["citychain-nara"]}}``."""
        return {}

    @pytest.fixture
    def transactions(self, signed_transactions: TransactionFactory) -> Sign:
        """Makes transactions that the city approves, whatever stands before them. Called, and
        awaited, as the fixture ``signed_transactions`` is::

            return partial(signed_transactions, data=b'{"district": "nagamachi"}')

        Where something must come first, such as a presence of the key, it submits that and waits
        until it is approved.
        """
        return signed_transactions

    @pytest.fixture
    def rejected(self, signed_transactions: TransactionFactory) -> Sign | None:
        """Makes transactions that the city stores and its ledger rejects; ``None`` where it
        rejects nothing. The default pays what nobody has."""
        nothing = Transfer("nobody-has-it", bytes(32), 1)
        return partial(signed_transactions, data=None, transfer=nothing)

    @pytest.fixture
    def cities(
        self,
        definition: CityDefinition | str,
        plugins: Sequence[PartDefinition],
        options: Mapping[str, Any],
        settings: Mapping[str, Any],
        city_server: CityServerFactory,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Cities:
        """Makes cities of the definition, each on storage of its own."""
        try:
            slug, missing = to_install(definition, settings.get("plugins", {}))
            install(monkeypatch, tmp_path / "site", missing, plugins)
            return Cities(slug, options, settings, city_server, tmp_path / "cities")
        except CitychainError as error:
            pytest.fail(
                "no city can be made of the fixtures `definition`, `options`, `settings` and "
                f"`plugins`: {error}",
                pytrace=False,
            )

    @pytest.fixture
    async def city(self, cities: Cities) -> AsyncIterator[City]:
        """A city of the definition."""
        city = cities()
        yield city
        await city.close()

    def test_any_sequence_of_calls(self, cities: Cities, transactions: Sign) -> None:
        """A state machine submits, asks and restarts, and compares with what it knows."""

        class Machine(CityMachine):
            def subject(self) -> tuple[Cities, Sign]:
                return cities, transactions

        run_state_machine_as_test(
            Machine,
            settings=hypothesis_settings(
                max_examples=self.examples,
                stateful_step_count=20,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # Each run takes a server, and to shrink one hundreds.
                suppress_health_check=list(HealthCheck),
            ),
        )
