"""A kubo node that talks to nobody, in a process of its own, which never outlives us."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from urllib.request import Request, urlopen

PROGRAM: Final = shutil.which("ipfs")
"""There only where somebody installed it."""
SECONDS_MAX: Final = 120
LISTENS: Final = re.compile(r"RPC API server listening on /ip4/127\.0\.0\.1/tcp/(\d+)\n")
GUARD: Final = "import os, signal, sys\nsys.stdin.read()\nos.kill(int(sys.argv[1]), signal.SIGKILL)"
"""Kills the process when whoever holds the other end of its input has ended, however that was."""


class KuboProcess:
    """One node, with its repository in a directory; killed by `stop`, started again by `start`."""

    def __init__(self, directory: Path, token: str | None = None) -> None:
        self._log = directory / "output"
        self._token = token
        self._environment = {**os.environ, "IPFS_PATH": str(directory / "repository")}
        self._run("init", "--profile=test")
        self._run("config", "Addresses.API", "/ip4/127.0.0.1/tcp/0")
        for name in ("Gateway", "Swarm"):
            self._run("config", "--json", f"Addresses.{name}", "[]")
        if token is not None:
            allowed = {"AuthSecret": f"bearer:{token}", "AllowedPaths": ["/api/v0"]}
            self._run("config", "--json", "API.Authorizations", json.dumps({"city": allowed}))
        self.start()

    def _run(self, *arguments: str) -> None:
        assert PROGRAM is not None
        subprocess.run(
            [PROGRAM, *arguments], env=self._environment, check=True, capture_output=True
        )

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "daemon", "--offline"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE,
        )
        end = time.monotonic() + SECONDS_MAX
        while not (found := LISTENS.search(self._log.read_text(errors="replace"))):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"kubo did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.02)
        self.endpoint = f"http://127.0.0.1:{found[1]}"

    def stop(self) -> None:
        """Kill it at once."""
        self._guard.kill()
        self._guard.communicate()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(SECONDS_MAX)

    def pins(self) -> set[str]:
        """All that it keeps for other reasons than a name."""
        return set(self.call("pin/ls", type="recursive")[0]["Keys"])

    def call(self, command: str, *arguments: str, **options: str) -> Any:
        """A call of its RPC API; the answer, an item for each line."""
        query = [*(("arg", it) for it in arguments), *options.items()]
        written = "&".join(f"{name.replace('_', '-')}={quote(value)}" for name, value in query)
        request = Request(f"{self.endpoint}/api/v0/{command}?{written}", method="POST")
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urlopen(request, timeout=120) as answer:
            said = answer.read().splitlines()
        return [json.loads(line) for line in said]
