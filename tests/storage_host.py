"""Storage servers by the dozen, in one process of their own: a test asks for one, and gets it at
once. Not beside a client's loop, where gRPC does not belong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from citychain.keeping.serving import open_storage_server
from citychain.rpc.storage_server import StorageServerOptions

__all__ = ["StorageHost", "running_host"]

SECONDS_MAX = 300


class StorageHost:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def serve(
        self, directory: Path, limit: int | None = None, owner_limit: int | None = None
    ) -> str:
        """The address of a new server over a directory, which is made."""
        directory.mkdir(exist_ok=True)
        asked = {"directory": str(directory), "limit": limit, "owner_limit": owner_limit}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        address = self._process.stdout.readline().strip()
        assert address, "the process that hosts storage servers has ended"
        return address


@contextmanager
def running_host() -> Iterator[StorageHost]:
    """A process for as long as the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__], **pipes) as process:  # type: ignore[call-overload]
        try:
            yield StorageHost(process)
            process.stdin.close()
            assert process.wait(SECONDS_MAX) == 0
        finally:
            process.kill()


async def _host() -> None:
    options = StorageServerOptions("127.0.0.1:0")
    async with AsyncExitStack() as stack:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            server = await stack.enter_async_context(
                open_storage_server(
                    Path(asked["directory"]),
                    options,
                    limit=asked["limit"],
                    owner_limit=asked["owner_limit"],
                )
            )
            print(server.address, flush=True)


if __name__ == "__main__":
    asyncio.run(_host())
