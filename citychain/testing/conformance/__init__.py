"""Conformance suites: what every part of a kind must do, as tests to inherit.

A part passes when its tests do::

    import pytest
    from citychain.testing.conformance import DagSuite
    from citychain_nara import RULE

    class TestRule(DagSuite):
        @pytest.fixture
        def definition(self):
            return RULE

==================== ==================================
`StorageSuite`       storage backends
`DagSuite`           DAG handlers
`ConsensusSuite`     consensus steps
`FragmentStoreSuite` fragment stores
`CitySuite`          whole cities, through a server
==================== ==================================

Fixtures are overridden, tests are not: a subclass that replaces a standard test is refused,
unless the replacement is marked ``xfail`` with a reason.

The suites need what ``pip install citychain[testing]`` brings: pytest, pytest-asyncio, hypothesis.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from citychain._lazy import lazy_names

if TYPE_CHECKING:
    from citychain.testing.conformance.city import CitySuite as CitySuite
    from citychain.testing.conformance.consensus import ConsensusSuite as ConsensusSuite
    from citychain.testing.conformance.dag import DagSuite as DagSuite
    from citychain.testing.conformance.fragments import FragmentStoreSuite as FragmentStoreSuite
    from citychain.testing.conformance.storage import StorageSuite as StorageSuite

_HOME: Final = {
    "CitySuite": "testing.conformance.city",
    "ConsensusSuite": "testing.conformance.consensus",
    "DagSuite": "testing.conformance.dag",
    "FragmentStoreSuite": "testing.conformance.fragments",
    "StorageSuite": "testing.conformance.storage",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(globals(), _HOME)

# Before the modules are imported, so that their failures show values.
pytest.register_assert_rewrite(
    *(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("[!_]*.py")),
    *(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("_[!_]*.py")),
)
