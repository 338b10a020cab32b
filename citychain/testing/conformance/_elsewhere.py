"""The same test again in another process, whose result must be the same.

Only a new process has another hash seed, other addresses, another clock reading, nothing cached;
and only a process of its own can be killed. It is started as pytest on this one test, so that all
fixtures that an author wrote hold there as well.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from citychain.testing.plugin import ELSEWHERE, STARTED, Started, started

__all__ = ["Elsewhere"]

SECONDS = 120
"""For one run; a machine may be busy."""
FAILED: Final = "in another process the test failed"
_WITHIN: Final = (pytest.Class, pytest.Function)
"""What a test's id names besides its file."""
_OURS: Final = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_XDIST_")
"""Variables that pytest sets, and does not read."""


class Elsewhere:
    """What the fixture ``elsewhere`` gives."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._config = config = request.config
        chain = [node for node in request.node.listchain() if isinstance(node, _WITHIN)]
        # Not the node's id, to which xdist may add a group.
        self._test = "::".join([str(request.node.path), *(node.name for node in chain)])
        self._started: Started = getattr(config, "workerinput", {}).get(STARTED) or started(config)
        found = config.getoption(ELSEWHERE)
        self.place: Path | None = None if found is None else Path(found)
        """In the other process, where its result goes; ``None`` in the first one."""

    def command(self, place: Path) -> list[str]:
        """The program that runs this test, with its result in ``place``.

        It is started as this pytest was, with the same options, since fixtures may depend on any
        of them; only what selects tests, or writes reports, is taken back.
        """
        config = self._config
        has = config.pluginmanager.has_plugin
        settings = [] if config.inipath is None else ["-c", str(config.inipath)]
        return [
            *(sys.executable, "-m", "pytest", self._test),
            *self._started["options"],
            *("--rootdir", str(config.rootpath), *settings),
            *("-k", "", "-m", "", f"--basetemp={place}.tmp"),
            *(["-n0"] if has("xdist") else []),
            *(["--no-cov"] if has("pytest_cov") else []),
            *(["--junit-xml="] if has("junitxml") else []),
            *(["-o", f"cache_dir={place}.cache"] if has("cacheprovider") else []),
            *("--asyncio-mode=auto", "--quiet"),
            "--assert=plain",  # To rewrite the suite's asserts takes longer than to run them.
            f"{ELSEWHERE}={place}",
        ]

    def environment(self, hash_seed: int) -> dict[str, str]:
        """Of that program."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return kept | {"PYTHONHASHSEED": str(hash_seed)}

    def _streams(self, hash_seed: int) -> dict[str, Any]:
        """How that program is started."""
        return {
            "cwd": self._started["folder"],
            "env": self.environment(hash_seed),
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }

    async def result(self, place: Path) -> str:
        """What this test comes to in another process, while this one goes on."""
        process = await asyncio.create_subprocess_exec(*self.command(place), **self._streams(1))
        try:
            async with asyncio.timeout(SECONDS):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _result(place, said)

    def agrees(self, result: str, *, hash_seeds: tuple[int, ...] = (1, 2)) -> None:
        """Fail unless other processes come to the same result. The test calls it last."""
        if self.place is not None:
            self.place.write_text(result)
            return
        with TemporaryDirectory() as folder:
            for seed in hash_seeds:
                place = Path(folder) / str(seed)
                ran = subprocess.run(
                    self.command(place), timeout=SECONDS, check=False, **self._streams(seed)
                )
                other = _result(place, ran.stdout)
                assert other == result, f"a process with hash seed {seed} got another result"

    @contextmanager
    def running(self, place: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start this test in another process, which finds ``place``; it is killed at the end.

        What pytest prints there goes into the file ``place`` with ``.out`` added.
        """
        with (
            place.with_name(f"{place.name}.out").open("wb") as output,
            subprocess.Popen(
                self.command(place), **{**self._streams(0), "stdout": output}
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    async def kill_after(self, place: Path, lines: int, seconds: float) -> None:
        """Start this test in another process, and kill it some time after it has written so many
        lines into ``place``."""
        with self.running(place) as process:
            async with asyncio.timeout(SECONDS):
                while not place.exists() or place.read_bytes().count(b"\n") < lines:
                    if process.poll() is not None:
                        output = place.with_name(f"{place.name}.out").read_text(errors="replace")
                        raise AssertionError(f"the process ended by itself:\n{output[-4000:]}")
                    await asyncio.sleep(0.005)
            await asyncio.sleep(seconds)


def _result(place: Path, said: bytes) -> str:
    assert place.exists(), f"{FAILED}:\n{said.decode(errors='replace')[-4000:]}"
    return place.read_text()
