"""Cities whose representatives are elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from citychain.client.city import CityClient
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRound
from citychain.following.composing import open_representative
from citychain.following.representative import Representative
from citychain.genesis import Genesis
from citychain.testing.server import CityServer

REPRESENTATIVES = [SigningKey(bytes([100 + number]) * 32) for number in range(5)]


def committee(*stakes: int) -> list[dict[str, Any]]:
    """Seats of the first keys, one a stake, as configured."""
    return [
        {"public_key": key.public_key.hex(), "stake": stake}
        for key, stake in zip(REPRESENTATIVES, stakes, strict=False)
    ]


def tokyo(*stakes: int, **table: Any) -> Mapping[str, Mapping[str, Any]]:
    """A city whose committee has these stakes, none of it inside the server."""
    return {
        "tokyo": {
            "consensus": "poh-pop",
            "num_hashes": 10,
            "hold_rounds": 3,
            "committee": committee(*stakes),
            **table,
        }
    }


OpenRepresentative = Callable[..., AbstractAsyncContextManager[Representative]]


@pytest.fixture
def representative(tmp_path: Path) -> OpenRepresentative:
    """Opens a representative of a server's city, by the number of its key; run it."""

    @asynccontextmanager
    async def opened(
        server: CityServer,
        number: int,
        *,
        city: str = "tokyo",
        directory: str = "",
        objected: Callable[[InvalidRound], None] | None = None,
    ) -> AsyncIterator[Representative]:
        settings = Settings(data_dir=tmp_path / "unused", plugins={"allow": ()})
        core = CoreContainer(settings=settings)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(core.compute())
            client: CityClient = await stack.enter_async_context(server.client(city))
            genesis = Genesis.from_bytes((await client.info()).genesis_file)
            yield await stack.enter_async_context(
                open_representative(
                    core,
                    genesis=genesis,
                    key=REPRESENTATIVES[number],
                    client=client,
                    directory=tmp_path / f"representative-{directory or number}",
                    objected=objected,
                )
            )

    return opened


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a representative's key to a file."""

    def write(number: int) -> Path:
        path = tmp_path / f"representative-{number}.key"
        id_hex = key_id(REPRESENTATIVES[number].public_key).hex()
        seed = (bytes([100 + number]) * 32).hex()
        content = {"format": 1, "scheme": "ML-DSA-87", "key_id": id_hex, "seed": seed}
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    return write
