"""Representatives in processes of their own, as ``citychain representative`` starts them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from citychain.client.keys import create_key

__all__ = ["create_committee", "run_representatives"]

START_SECONDS_MAX: Final = 120.0


def create_committee(directory: Path, count: int) -> str:
    """Create so many representatives' keys below the server's directory; gives the lines of
    the city's table. With 0 the operator votes inside the server."""
    seats = [
        f'{{ public_key = "{create_key(directory / _key_file(number)).public_key.hex()}" }}'
        for number in range(count)
    ]
    return f'consensus = "poh-pop"\ncommittee = [{", ".join(seats)}]\n'


def _key_file(number: int) -> str:
    return f"representative-{number}.key"


@asynccontextmanager
async def run_representatives(
    directory: Path, address: str, city: str, count: int
) -> AsyncIterator[Sequence[int]]:
    """Run them, each with a directory of its own below the server's; gives their process ids."""
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(_run(directory, address, city, number))
            for number in range(count)
        ]
        async with asyncio.timeout(START_SECONDS_MAX):
            for number, process in enumerate(running):
                assert process.stdout is not None
                if not await process.stdout.readline():
                    log = (directory / f"representative-{number}.log").read_text()
                    raise RuntimeError(f"a representative did not start: {log}")
        yield [process.pid for process in running]


@asynccontextmanager
async def _run(
    directory: Path, address: str, city: str, number: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    options = ("--city", city, "--server", address, "--key", _key_file(number), "--json")
    with (directory / f"representative-{number}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "citychain", "representative", *options),
            *("--state-dir", f"representative-{number}"),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
