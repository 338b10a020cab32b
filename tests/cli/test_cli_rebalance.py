"""``citychain rebalance``: stores come, go, are emptied, spoilt; and it is killed meanwhile."""

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import COMMAND, SECONDS_MAX, environment
from cli.test_cli_objects import FOUR, configure, empty, lose, spoil

FIVE = (*FOUR, "loft")
OBJECTS = 3
CONTENTS = [random.Random(seed).randbytes(60_001) for seed in range(OBJECTS)]
SHAPE = "chunk_kib = 4"

KILLED = """
import asyncio
from pathlib import Path
from citychain import FragmentStoreDefinition, hookimpl
from citychain.fragments.directory import DirectoryOptions, DirectoryStore

left = None


class Killed(DirectoryStore):
    "Goes no further at a step, whose number is in the file `halt`, and says that it is there."

    async def put(self, key, size, parts):
        async def some():
            async for part in parts:
                await step()
                yield part
        await step()
        await super().put(key, size, some())
        await step()

    async def delete(self, key):
        await step()
        deleted = await super().delete(key)
        await step()
        return deleted


async def step():
    global left
    if left is None:
        left = int(Path("halt").read_text()) if Path("halt").exists() else 1 << 30
    left -= 1
    if left <= 0:
        Path("halted").touch()
        await asyncio.Event().wait()


@hookimpl
def citychain_fragment_stores():
    yield FragmentStoreDefinition("killed", Killed, DirectoryOptions, api_version=2)
"""

SICK = """
import errno
from pathlib import Path
from citychain import FragmentStoreDefinition, hookimpl
from citychain.fragments.directory import DirectoryOptions, DirectoryStore


class Sick(DirectoryStore):
    "Fails the reads whose numbers are in the file `sick`, or all."

    asked = 0

    async def read(self, key, offset, length):
        self.asked += 1
        which = Path("sick").read_text().split()
        if self._folder.path.name in which and {"all", str(self.asked)} & {*which}:
            raise OSError(errno.EIO, "Input/output error")
        return await super().read(key, offset, length)

    async def delete(self, key):
        Path("deleted").touch()
        return await super().delete(key)


@hookimpl
def citychain_fragment_stores():
    yield FragmentStoreDefinition("sick", Sick, DirectoryOptions, api_version=2)
"""


@pytest.fixture(scope="module")
def kept(citychain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four stores with the fragments of some files, which are gone; to be copied."""
    folder = tmp_path_factory.mktemp("kept")
    configure(folder, *FOUR, shape=SHAPE)
    for content in CONTENTS:
        (folder / "file").write_bytes(content)
        ran = citychain("store", "file", "--json", cwd=folder)
        assert ran.code == 0
        with (folder / "ids").open("a") as ids:
            ids.write(f"{json.loads(ran.out)['object']}\n")
    (folder / "file").unlink()
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """Such stores, for a test of its own."""
    return Path(shutil.copytree(kept, tmp_path / "copy"))


def fragments(folder: Path) -> dict[str, list[str]]:
    """By store, the names of its fragments."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return {
        name: sorted(path.name for path in (folder / name).glob("[0-9a-f][0-9a-f][0-9a-f]/*"))
        for name in names
    }


def all_are_restored(citychain: Any, folder: Path) -> None:
    for object_id, content in zip((folder / "ids").read_text().split(), CONTENTS, strict=True):
        ran = citychain("restore", object_id, "-o", "restored", cwd=folder)
        assert ran.code == 0, ran.message
        assert (folder / "restored").read_bytes() == content
        (folder / "restored").unlink()


def files(folder: Path, store: str) -> list[Path]:
    return sorted((folder / store).glob("[0-9a-f][0-9a-f][0-9a-f]/*"))


# --- lost and spoilt


@pytest.mark.parametrize("damage", ["gone", "emptied", "spoilt"])
@pytest.mark.parametrize("pair", list(combinations(FOUR, 2)))
def test_after_any_two_of_four_all_is_restored_and_made_whole(
    pair: tuple[str, str], damage: str, citychain: Any, copy: Path
) -> None:
    for name in pair:
        if damage == "spoilt":
            for path in files(copy, name):
                spoil(path)
        else:
            shutil.rmtree(copy / name)
            (copy / name).mkdir()
    if damage == "gone":
        for name in pair:
            (copy / name).rmdir()
        configure(copy, *(name for name in FOUR if name not in pair), shape=SHAPE)
    all_are_restored(citychain, copy)
    assert citychain("scrub", cwd=copy).code == 1
    command = ["rebalance", "--check"] if damage == "spoilt" else ["rebalance"]
    ran = citychain(*command, "--json", cwd=copy)
    assert ran.code == 0, ran.message
    *outcomes, total = map(json.loads, ran.out.splitlines())
    assert (total["objects"], total["made"], total["moved"]) == (OBJECTS, 2 * OBJECTS, 0)
    assert {it["object"] for it in outcomes} == set((copy / "ids").read_text().split())
    assert citychain("scrub", cwd=copy).code == 0
    all_are_restored(citychain, copy)
    left = [name for name in FOUR if damage != "gone" or name not in pair]
    assert {len(some) for name, some in fragments(copy).items() if name in left} == {
        4 * OBJECTS // len(left)
    }


def test_a_store_that_does_not_answer_keeps_what_it_may_have(citychain: Any, copy: Path) -> None:
    before = fragments(copy)
    (copy / "shed").rename(copy / "unmounted")
    ran = citychain("rebalance", cwd=copy)
    assert ran.code == 3
    assert "store shed does not answer" in ran.err
    assert ran.out.startswith(f"REBALANCED  {OBJECTS} objects")
    assert "0 fragments made, 0 moved, 0 removed" in ran.out
    (copy / "unmounted").rename(copy / "shed")
    assert fragments(copy) == before
    assert citychain("rebalance", cwd=copy).code == 0


@pytest.mark.parametrize("which", ["2", "all"])
def test_what_a_store_fails_to_read_stays_as_it_is(
    which: str, process: Any, install: Callable[..., dict[str, str]], copy: Path
) -> None:
    env = install("sick", SICK)
    configure(copy, *FOUR, kind="sick", shape=SHAPE)
    before = {path: path.stat().st_ino for name in FOUR for path in files(copy, name)}
    (copy / "sick").write_text(f"attic shed {which}")
    ran = process("rebalance", "--check", cwd=copy, env=env)
    assert ran.code == 3
    assert "Input/output error" in ran.out
    assert "LOST" not in ran.out
    for name in ("attic", "shed"):
        assert f"store {name} was given nothing more: OSError: [Errno 5]" in ran.err
    assert {path: path.stat().st_ino for name in FOUR for path in files(copy, name)} == before
    assert not (copy / "deleted").exists()
    (copy / "sick").write_text("")
    ran = process("rebalance", "--check", cwd=copy, env=env)
    assert ran.code == 0
    assert "0 fragments made, 0 moved, 0 removed" in ran.out


def test_one_object_alone(citychain: Any, copy: Path) -> None:
    first, *others = (copy / "ids").read_text().split()
    lose(files(copy, "barn")[0])
    (copy / "barn").mkdir()
    ran = citychain("rebalance", first, "--json", cwd=copy)
    assert (ran.code, json.loads(ran.out.splitlines()[-1])["made"]) == (0, 1)
    assert len(files(copy, "barn")) == 1
    assert citychain("scrub", first, cwd=copy).code == 0
    assert citychain("scrub", others[0], cwd=copy).code == 1


def test_what_is_lost_is_told(citychain: Any, copy: Path) -> None:
    for name in FOUR[:3]:
        for path in files(copy, name):
            empty(path)
    for command in (["rebalance"], ["rebalance", "--dry-run"]):
        ran = citychain(*command, cwd=copy)
        assert ran.code == 1
        assert ran.out.count("LOST") == OBJECTS
    assert len(files(copy, "shed")) == OBJECTS


# --- come, and reweighted


def test_a_new_store_gets_its_share_as_it_was_foretold(citychain: Any, copy: Path) -> None:
    configure(copy, *FIVE, shape=SHAPE, loft="weight = 4.0")
    before = fragments(copy)
    foretold = citychain("rebalance", "--dry-run", cwd=copy)
    assert fragments(copy) == before
    moves = [line.split() for line in foretold.out.splitlines() if line.startswith("TO MOVE")]
    assert {move[-1] for move in moves} == {"loft"}
    ran = citychain("rebalance", cwd=copy)
    done = [line.split() for line in ran.out.splitlines() if line.startswith("MOVED")]
    assert sorted(done) == sorted([["MOVED", *move[2:]] for move in moves])
    assert 0 < len(done) == len(files(copy, "loft")) <= OBJECTS
    assert sum(map(len, fragments(copy).values())) == 4 * OBJECTS
    assert citychain("scrub", cwd=copy).code == 0
    again = citychain("rebalance", cwd=copy)
    assert again.out.count("\n") == 1
    assert "0 fragments made, 0 moved, 0 removed" in again.out
    # What gets nothing more is emptied.
    configure(copy, *FIVE, shape=SHAPE, barn="weight = 0.0")
    assert citychain("rebalance", cwd=copy).code == 0
    assert files(copy, "barn") == []
    assert citychain("scrub", cwd=copy).code == 0


def test_a_full_store_is_told_and_asked_again(citychain: Any, copy: Path) -> None:
    configure(copy, *FIVE, shape=SHAPE, loft="weight = 1000.0\nlimit_mib = 1")
    (copy / "loft" / "abc").mkdir()
    filler = copy / "loft" / "abc" / ("abc" + "0" * 61 + "-" + "0" * 64 + "-00")
    filler.write_bytes(bytes(1 << 20))
    before = {name: some for name, some in fragments(copy).items() if name != "loft"}
    # It is no fragment, and says so.
    ran = citychain("rebalance", cwd=copy)
    assert ran.code == 1
    assert ran.out.count("TROUBLE") == OBJECTS
    assert "is full" in ran.out
    assert {name: some for name, some in fragments(copy).items() if name != "loft"} == before
    filler.unlink()
    assert citychain("rebalance", cwd=copy).code == 0
    assert len(files(copy, "loft")) == OBJECTS


# --- killed


def test_wherever_it_is_killed_all_is_there_and_the_next_one_goes_on(
    citychain: Any,
    process: Any,
    start: Callable[..., subprocess.Popen[str]],
    install: Callable[..., dict[str, str]],
    kept: Path,
    tmp_path: Path,
) -> None:
    """Two fragments are to be made, and some to be moved; real kills before and after every kind of
    step."""
    env = install("killed", KILLED)
    steps = [1, 5, 9, 14]
    copy = Path(shutil.copytree(kept, tmp_path / "copy"))
    for path in files(copy, "attic")[:2]:
        path.unlink()
    whole = {name for some in fragments(kept).values() for name in some}
    for step in steps:
        configure(copy, *FIVE, kind="killed", shape=SHAPE, loft="weight = 9.0")
        (copy / "halt").write_text(str(step))
        (copy / "halted").unlink(missing_ok=True)
        running = start("rebalance", cwd=copy, env=env)
        end = time.monotonic() + SECONDS_MAX
        while not (copy / "halted").exists() and running.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        if running.poll() is not None:
            assert running.returncode == 0, "there was nothing more to do"
        running.send_signal(signal.SIGKILL)
        running.communicate()
        # Nothing that was there is gone, and nothing is there in part.
        configure(copy, *FIVE, shape=SHAPE, loft="weight = 9.0")
        names = [name for some in fragments(copy).values() for name in some]
        assert len(whole - set(names)) <= 2
        scrubbed = citychain("scrub", "--json", cwd=copy).out.splitlines()
        assert json.loads(scrubbed[-1])["missing"] == len(whole - set(names))
        assert json.loads(scrubbed[-1])["faults"] == 0
    (copy / "halt").unlink()
    configure(copy, *FIVE, kind="killed", shape=SHAPE, loft="weight = 9.0")
    last = process("rebalance", cwd=copy, env=env)
    assert last.code == 0, last.err
    configure(copy, *FIVE, shape=SHAPE, loft="weight = 9.0")
    names = [name for some in fragments(copy).values() for name in some]
    assert sorted(names) == sorted(whole)
    assert [path for name in FIVE for path in (copy / name).glob("new/*")] == []
    assert citychain("scrub", cwd=copy).code == 0
    all_are_restored(citychain, copy)


# --- usage


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["rebalance", "12"], "ID: '12' is no id of 64 hexadecimal digits"),
        (["rebalance", "--limit-mib-s", "0"], "--limit-mib-s"),
        (["rebalance", "--limit-mib-s", "nan"], "--limit-mib-s"),
        (["rebalance", "--server", "127.0.0.1:1"], "--server: is asked for a city"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    command: list[str], said: str, citychain: Any, copy: Path
) -> None:
    ran = citychain(*command, cwd=copy)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.message


def test_with_a_limit_it_takes_its_time_and_shows_how_far_it_is(copy: Path) -> None:
    fragment_bytes = files(copy, "barn")[0].stat().st_size
    shutil.rmtree(copy / "barn")
    (copy / "barn").mkdir()
    master, slave = pty.openpty()
    begun = time.monotonic()
    with subprocess.Popen(
        [*COMMAND, "rebalance", "--limit-mib-s", "0.5"],
        cwd=copy,
        env=environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as running:
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:  # The other end is closed.
                break
        out = running.communicate(timeout=SECONDS_MAX)[0]
    os.close(master)
    assert running.returncode == 0
    assert "rebalancing" in shown.decode()
    assert out.count("MADE") == OBJECTS
    # Two are read and one is written for each; the last ones need not be waited for.
    assert time.monotonic() - begun > OBJECTS * 3 * fragment_bytes / (1 << 19) * 0.5
