"""The storage suite catches each of the broken backends, by the check that is for it."""

from __future__ import annotations

import broken_journal
import broken_retention
import broken_storage
import pytest
from biting import Mutant, bite, each_of

pytest_plugins = ["pytester"]


@each_of(broken_storage)
def test_a_broken_storage_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_storage, mutant)


@each_of(broken_journal)
def test_a_broken_durable_storage_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_journal, mutant)


@each_of(broken_retention)
def test_a_broken_retention_is_caught(pytester: pytest.Pytester, mutant: Mutant) -> None:
    bite(pytester, broken_retention, mutant)
