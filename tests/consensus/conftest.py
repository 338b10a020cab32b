"""Cities that a test drives by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from consensus.model_city import ModelCity

from citychain.compute import Executor

NewCity = Callable[..., ModelCity]


@pytest.fixture
async def new_city() -> AsyncIterator[NewCity]:
    """Makes a `ModelCity` with these options of ``poh-pop``."""
    async with Executor(2) as compute:

        def made(**options: Any) -> ModelCity:
            return ModelCity(compute, **options)

        yield made
