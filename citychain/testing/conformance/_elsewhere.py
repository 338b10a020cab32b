"""The same test again in another process, whose result must be the same.

Only a new process has another hash seed, other addresses, another clock reading, nothing cached;
and only a process of its own can be killed. It is started as pytest on this one test, so that all
fixtures that an author wrote hold there as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from citychain.testing.plugin import ELSEWHERE

__all__ = ["Elsewhere"]

SECONDS = 120
"""For one run; a machine may be busy."""


class Elsewhere:
    """What the fixture ``elsewhere`` gives."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        config = request.config
        self._test = request.node.nodeid
        self._folder = config.rootpath
        self._settings = config.inipath
        found = config.getoption(ELSEWHERE)
        self.place: Path | None = None if found is None else Path(found)
        """In the other process, where its result goes; ``None`` in the first one."""

    def command(self, place: Path) -> list[str]:
        """The program that runs this test, with its result in ``place``."""
        settings = [] if self._settings is None else ["-c", str(self._settings)]
        return [
            *(sys.executable, "-m", "pytest", self._test, "--rootdir", str(self._folder)),
            *settings,
            *("-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", "--quiet"),
            "--assert=plain",  # To rewrite the suite's asserts takes longer than to run them.
            f"{ELSEWHERE}={place}",
        ]

    def environment(self, hash_seed: int) -> dict[str, str]:
        """Of that program."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return kept | {"PYTHONHASHSEED": str(hash_seed)}

    def agrees(self, result: str, *, hash_seeds: tuple[int, ...] = (1, 2)) -> None:
        """Fail unless other processes come to the same result. The test calls it last."""
        if self.place is not None:
            self.place.write_text(result)
            return
        with TemporaryDirectory() as folder:
            for seed in hash_seeds:
                place = Path(folder) / str(seed)
                ran = subprocess.run(
                    self.command(place),
                    cwd=self._folder,
                    env=self.environment(seed),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
                assert place.exists(), f"in another process the test failed:\n{ran.stdout[-4000:]}"
                other = place.read_text()
                assert other == result, f"a process with hash seed {seed} got another result"

    @contextmanager
    def running(self, place: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start this test in another process, which finds ``place``; it is killed at the end.

        What pytest prints there goes into the file ``place`` with ``.out`` added.
        """
        with (
            place.with_name(f"{place.name}.out").open("wb") as output,
            subprocess.Popen(
                self.command(place),
                cwd=self._folder,
                env=self.environment(0),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()
