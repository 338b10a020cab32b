"""What the operating system says that a server process used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, since it began (Linux, /proc)."""

    cpu_seconds: float
    bytes_written: int
    """That reached the file system's cache for a disk."""
    resident_bytes: int
    resident_bytes_max: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read it."""
        process = Path(f"/proc/{pid}")
        # The command's name, in parentheses, may contain spaces.
        fields = process.joinpath("stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        io = dict(line.split(": ") for line in process.joinpath("io").read_text().splitlines())
        status = dict(
            line.split(":\t") for line in process.joinpath("status").read_text().splitlines()
        )
        return cls(
            ticks / os.sysconf("SC_CLK_TCK"),
            int(io["write_bytes"]),
            int(status["VmRSS"].split()[0]) * 1024,
            int(status["VmHWM"].split()[0]) * 1024,
        )

    @classmethod
    def of_self(cls) -> Self:
        """Of this process."""
        return cls.of(os.getpid())
