"""The process that fragment store tests kill puts as long as it is waited for, kill after kill."""

import asyncio
from pathlib import Path

from citychain.fragments.memory import MemoryStore
from citychain.testing.conformance import _fragments_killed as killed
from citychain.testing.conformance._fragments_session import key


async def test_however_many_there_are_it_goes_on_from_there(tmp_path: Path) -> None:
    there = 5_000
    store = MemoryStore()
    store._fragments.update({key(number): b"" for number in range(there)})
    said = tmp_path / "said"
    putting = asyncio.create_task(killed._put_until_killed(lambda: store, said))
    async with asyncio.timeout(120):
        while not said.exists() or said.read_bytes().count(b"\n") < killed.PUTS:
            await asyncio.sleep(0.01)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    numbers = {int(line) for line in said.read_text().splitlines()}
    assert numbers == {*range(there, there + killed.PUTS)}
    assert killed.PUTS > killed.LINES
    known = killed._numbers({*range(there)})
    assert {key(number) for number in numbers} <= set(known)
