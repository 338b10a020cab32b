"""What the SQLite backend keeps when the power goes.

A killed process leaves all it wrote to the kernel, synced or not. Here a
writer's system calls are recorded, and a disk is rebuilt as it may be found
after a power cut at some moment: what was synced is there, what was not is
there in part. Each such disk must hold all that was acknowledged before.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlite_victim
from sqlite_victim import GENESIS, storage_context
from test_sqlite_faults import check_rounds, whole_batches

from citychain.compute import Executor
from citychain.storage.sqlite import SqliteBackend, SqliteOptions

POWER_CUTS = 12
LINES = 60
"""What the writer says before it is stopped: most lines are acknowledgements."""

STRACE = shutil.which("strace")

CALL = re.compile(r"^(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)$")
RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)$")
RESULT = re.compile(r"^(?P<arguments>.*)\) += (?P<result>-?\d+)")


@dataclass
class Call:
    """A system call; its lines in the record say when it began and when it had ended."""

    name: str
    arguments: str
    began: int
    ended: int
    result: int

    def data(self) -> bytes:
        """Its first string."""
        text = self.arguments.split('"')[1]
        return bytes.fromhex(text.replace("\\x", ""))

    def numbers(self) -> list[int]:
        """Its arguments that are numbers, without its strings."""
        return [
            int(n) for n in re.sub(r'".*?"', "", self.arguments).split(",") if n.strip().isdigit()
        ]


def calls(record: str) -> Iterator[Call]:
    """Completed calls in the order of their completion."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(record.splitlines()):
        if match := CALL.match(line):
            arguments, began = match["arguments"], number
            if arguments.endswith(" <unfinished ...>"):
                begun[match["thread"]] = number, arguments.removesuffix(" <unfinished ...>")
                continue
        elif match := RESUMED.match(line):
            began, arguments = begun.pop(match["thread"])
            arguments += match["arguments"]
        else:
            continue
        if result := RESULT.match(arguments):
            yield Call(match["name"], result["arguments"], began, number, int(result["result"]))


@dataclass
class File:
    """A file's writes, and its syncs."""

    writes: list[Call] = field(default_factory=list)
    """Calls of pwrite64 and ftruncate."""
    syncs: list[Call] = field(default_factory=list)

    def content(self, moment: int, luck: random.Random) -> bytes:
        """As it may be found after a power cut at this line of the record."""
        synced = max((s.began for s in self.syncs if s.ended < moment), default=-1)
        chance = luck.choice((0.0, 0.5, 0.9))
        content = bytearray()
        for call in self.writes:
            if call.began >= moment:
                break
            if call.ended >= synced and luck.random() >= chance:
                continue
            if call.name == "ftruncate":
                size = call.numbers()[1]
                content[:] = content[:size].ljust(size, b"\0")
            else:
                data, offset = call.data(), call.numbers()[-1]
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
        return bytes(content)


def recorded(record: str, directory: Path) -> tuple[dict[str, File], list[tuple[int, str]]]:
    """The files of the directory by name, and lines of output with the moment they were made."""
    files: dict[str, File] = {}
    names: dict[int, str] = {}
    output: list[tuple[int, str]] = []
    for call in calls(record):
        numbers = call.numbers()
        if call.name == "openat" and call.result >= 0:
            path = Path(call.data().decode(errors="replace"))
            names.pop(call.result, None)
            if path.parent == directory and not path.name.endswith(("-shm", "lock")):
                names[call.result] = path.name
        elif call.name == "write" and numbers[0] == 1:
            output.append((call.began, call.data().decode().strip()))
        elif call.name == "close":
            names.pop(numbers[0], None)
        elif call.result >= 0 and (name := names.get(numbers[0])) is not None:
            file = files.setdefault(name, File())
            (file.syncs if call.name in ("fsync", "fdatasync") else file.writes).append(call)
    return files, output


def record(directory: Path, trace: Path) -> str:
    """The system calls of a writer, from its start until it has said a number of lines."""
    watched = "trace=openat,close,write,pwrite64,ftruncate,fsync,fdatasync"
    strace = [str(STRACE), "-f", "-xx", "-s", "1000000", "-e", watched, "-o", str(trace)]
    writer = [sys.executable, sqlite_victim.__file__, str(directory), "0", "0"]
    process = subprocess.Popen(
        strace + writer, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        for _ in range(LINES):
            if not process.stdout.readline():
                pytest.skip("strace cannot trace here: no power cut is simulated")
        os.killpg(process.pid, signal.SIGKILL)
    return trace.read_text()


@pytest.mark.skipif(STRACE is None, reason="strace is not installed: no power cut is simulated")
async def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    directory = tmp_path / "storage"
    files, output = recorded(record(directory, tmp_path / "trace"), directory)
    assert {"citychain.db", "citychain.db-wal"} <= set(files)
    opened = next(moment for moment, line in output if line == "open")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    luck = random.Random(seed)
    async with Executor(2) as compute:
        for number in range(POWER_CUTS):
            moment = luck.randrange(opened, output[-1][0] + 1)
            said = [line.split() for when, line in output if when < moment]
            batches = {int(n) for what, *rest in said if what == "batch" for n in rest}
            rounds = [int(n) for what, *rest in said if what == "round" for n in rest]
            found = tmp_path / f"after {number}"
            found.mkdir()
            for name in ("citychain.db", "citychain.db-wal"):
                (found / name).write_bytes(files[name].content(moment, luck))
            context = storage_context(found, compute)
            async with SqliteBackend(SqliteOptions(), context) as engine:
                city = await engine.city(GENESIS, b"", ())
                assert batches <= await whole_batches(city, max(batches, default=0) + 5)
                head = await city.head()
                assert head.round - max(rounds, default=0) in (0, 1)
                await check_rounds(city, head.round)
