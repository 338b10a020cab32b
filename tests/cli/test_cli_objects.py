"""``citychain store``, ``restore``, ``fragments`` and ``scrub``, mostly in processes."""

import hashlib
import json
import os
import platform
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import COMMAND, SECONDS_MAX, environment

CONTENT = random.Random(7).randbytes(700_001)
OBJECT_ID = hashlib.sha256(CONTENT).hexdigest()
UNKNOWN = "ab" * 32
FOUR = ("attic", "barn", "cellar", "shed")

HALTING = """
import asyncio
from pathlib import Path
from citychain import FragmentStoreDefinition, hookimpl
from citychain.fragments.directory import DirectoryOptions, DirectoryStore


class Halting(DirectoryStore):
    "Goes no further than the middle while there is a file `halt`, and says when it is there."

    async def put(self, key, size, parts):
        async def some():
            async for part in parts:
                yield part
                await halt()
        await super().put(key, size, some())

    async def read(self, key, offset, length):
        if offset == 4 << 20:
            await halt()
        return await super().read(key, offset, length)


async def halt():
    if Path("halt").exists():
        Path("halted").touch()
        await asyncio.Event().wait()


@hookimpl
def citychain_fragment_stores():
    yield FragmentStoreDefinition("halting", Halting, DirectoryOptions, api_version=2)
"""


def configure(
    folder: Path, *names: str, kind: str = "directory", shape: str = "", **options: str
) -> None:
    """A configuration with these stores; options by name are added to the table of one."""
    text = f"[fragments]\n{shape}\n"
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        text += f'[fragments.stores.{name}]\nkind = "{kind}"\npath = "{name}"\n'
        text += f"{options.get(name, '')}\n"
    (folder / "citychain.toml").write_text(text)


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A folder with four stores, and a file to store."""
    configure(tmp_path, *FOUR, shape="chunk_kib = 16")
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture(scope="module")
def kept(process: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four stores with the fragments of a file, which is gone; to be copied."""
    folder = tmp_path_factory.mktemp("kept")
    configure(folder, *FOUR, shape="chunk_kib = 16")
    (folder / "file").write_bytes(CONTENT)
    assert process("store", "file", cwd=folder).code == 0
    (folder / "file").unlink()
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """Such stores, for a test of its own."""
    return Path(shutil.copytree(kept, tmp_path / "copy"))


def fragment(folder: Path, store: str) -> Path:
    """The file of the only fragment of a store."""
    [path] = (folder / store).glob("[0-9a-f][0-9a-f][0-9a-f]/*")
    return path


def index_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2], 16)


def spoil(path: Path) -> None:
    """Another byte in each chunk, and in the hashes."""
    content = bytearray(path.read_bytes())
    for at in range(100, len(content), 4_000):
        content[at] ^= 1
    path.write_bytes(content)


def lose(path: Path) -> None:
    shutil.rmtree(path.parents[1])


def empty(path: Path) -> None:
    path.unlink()


# --- the road


def test_a_file_is_stored_shown_checked_and_restored(process: Any, four: Path) -> None:
    stored = process("store", "file", "--json", cwd=four)
    assert (stored.code, stored.err) == (0, "")
    told = stored.record
    assert told["object"] == OBJECT_ID
    assert (told["size"], told["data"], told["parity"], told["chunk"]) == (
        len(CONTENT),
        2,
        2,
        16384,
    )
    assert [it["index"] for it in told["fragments"]] == [0, 1, 2, 3]
    assert {it["state"] for it in told["fragments"]} == {"written"}
    where = {it["store"]: it["index"] for it in told["fragments"]}
    assert where == {name: index_of(fragment(four, name)) for name in FOUR}
    assert (told["refusals"], told["away"]) == ([], [])

    again = process("store", "file", cwd=four)
    assert (again.code, again.err) == (0, "")
    first, *rest = again.out.splitlines()
    assert first.split() == ["STORED", OBJECT_ID, "700,001", "bytes"]
    assert [line.split()[1:] for line in rest] == [
        [kind, it["store"], "present"]
        for kind, it in zip(("data", "data", "parity", "parity"), told["fragments"], strict=True)
    ]

    (four / "empty").touch()
    assert process("store", "empty", cwd=four).code == 0
    nothing = hashlib.sha256(b"").hexdigest()

    listed = process("fragments", "ls", "--json", cwd=four)
    assert (listed.code, listed.err) == (0, "")
    assert [it["object"] for it in listed.records] == sorted([OBJECT_ID, nothing])
    [line] = [it for it in listed.records if it["object"] == OBJECT_ID]
    assert line == {
        "object": OBJECT_ID,
        "root": told["root"],
        "size": len(CONTENT),
        "data": 2,
        "parity": 2,
        "chunk": 16384,
        "fragments": 4,
        "stores": sorted(FOUR),
    }
    lines = process("fragments", "ls", cwd=four)
    assert lines.err == "2 objects\n"
    assert f"{OBJECT_ID}          700,001 bytes  2 + 2  4 of 4  attic barn" in lines.out

    shown = process("fragments", "show", OBJECT_ID, "--json", cwd=four).record
    assert {it["store"]: it["index"] for it in shown["fragments"]} == where
    assert {it["fault"] for it in shown["fragments"]} == {None}
    assert shown["missing"] == []
    table = process("fragments", "show", OBJECT_ID, cwd=four).out
    assert "700,001 bytes; any 2 of 4 fragments restore it; chunks of 16 KiB" in table
    assert all(name in table for name in FOUR)

    checked = process("scrub", "--json", cwd=four)
    assert (checked.code, checked.err) == (0, "")
    assert {key: checked.record[key] for key in ("checked", "whole", "damaged", "lost")} == {
        "checked": 2, "whole": 2, "damaged": 0, "lost": 0,
    }  # fmt: skip
    assert (checked.record["fragments"], checked.record["faults"]) == (8, 0)

    (four / "file").unlink()
    restored = process("restore", OBJECT_ID, "-o", "file", cwd=four)
    assert (restored.code, restored.err) == (0, "")
    assert restored.out == "RESTORED  file  700,001 bytes\n"
    assert (four / "file").read_bytes() == CONTENT
    assert process("restore", nothing, "-o", "file", "--json", cwd=four).record["size"] == 0
    assert (four / "file").read_bytes() == b""


@pytest.mark.parametrize("pair", [*combinations(FOUR, 2)], ids="-".join)
def test_any_two_of_four_stores_may_be_lost_or_corrupt(
    pair: tuple[str, str], process: Any, kept: Path, tmp_path: Path
) -> None:
    for number, damages in enumerate([(lose, lose), (spoil, spoil), (empty, spoil)]):
        folder = Path(shutil.copytree(kept, tmp_path / f"{number}"))
        for name, damage in zip(pair, damages, strict=True):
            damage(fragment(folder, name))
        ran = process("restore", OBJECT_ID, "-o", "file", "--json", cwd=folder)
        assert ran.code == 0, ran.err
        assert (folder / "file").read_bytes() == CONTENT
        away = sorted(pair) if damages == (lose, lose) else []
        assert ran.record["away"] == away
        assert len(ran.err.splitlines()) == len(away)
        assert {it["store"] for it in ran.record["faults"]} <= set(pair)


@pytest.mark.parametrize("damage", [lose, spoil, empty])
def test_of_three_lost_or_corrupt_nothing_is_shown(
    damage: Callable[[Path], None], citychain: Any, copy: Path
) -> None:
    for name in FOUR[1:]:
        damage(fragment(copy, name))
    ran = citychain("restore", OBJECT_ID, "-o", "file", cwd=copy)
    # Only what does not answer may come back.
    assert ran.code == (3 if damage is lose else 1)
    last = ran.err.splitlines()[-1]
    assert f"object {OBJECT_ID} cannot be restored" in last
    assert "Traceback" not in ran.err
    if damage is lose:
        assert last.endswith("these do not answer: barn, cellar, shed")
    assert not (copy / "file").exists()


# --- what scrub and show tell


def test_scrub_tells_what_is_lost_or_wrong_and_where(citychain: Any, copy: Path) -> None:
    gone, wrong = fragment(copy, "barn"), fragment(copy, "shed")
    content = bytearray(wrong.read_bytes())
    content[3 * 16384 + 5] ^= 1
    wrong.write_bytes(content)
    gone.unlink()
    ran = citychain("scrub", "--json", cwd=copy)
    assert (ran.code, ran.err) == (1, "")
    found, total = ran.records
    assert (found["object"], found["state"], found["loss"]) == (OBJECT_ID, "damaged", None)
    assert found["missing"] == [index_of(gone)]
    assert found["faults"] == [
        {"store": "shed", "index": index_of(wrong), "detail": "1 wrong chunk: 3"}
    ]
    assert found["whole"] == sorted({0, 1, 2, 3} - {index_of(gone), index_of(wrong)})
    assert (total["damaged"], total["missing"], total["faults"]) == (1, 1, 1)

    lines = citychain("scrub", cwd=copy).out.splitlines()
    assert lines[:3] == [
        f"DAMAGED  {OBJECT_ID}  2 of 4 fragments are whole",
        f"  store shed, fragment {index_of(wrong)}: 1 wrong chunk: 3",
        f"  fragment {index_of(gone)} is in no store that answers",
    ]
    assert lines[3].endswith(": 0 whole, 1 damaged, 0 lost")

    shown = citychain("fragments", "show", OBJECT_ID, "--json", cwd=copy)
    assert (shown.code, shown.record["missing"]) == (0, [index_of(gone)])
    table = citychain("fragments", "show", OBJECT_ID, cwd=copy).out
    assert "in no store" in table

    for name in ("attic", "cellar"):
        spoil(fragment(copy, name))
    found, total = citychain("scrub", OBJECT_ID, "--json", cwd=copy).records
    assert (found["state"], total["lost"]) == ("lost", 1)
    assert "of 2 chunks at byte" in found["loss"]
    assert citychain("scrub", UNKNOWN, cwd=copy).code == 1


def test_a_store_that_is_away_is_told_and_what_is_missing_is_not_called_lost(
    citychain: Any, copy: Path
) -> None:
    away = fragment(copy, "barn")
    lose(away)
    message = f"store barn does not answer: {copy / 'barn'} is no folder"
    for command in (["scrub"], ["fragments", "ls"], ["fragments", "show", OBJECT_ID]):
        ran = citychain(*command, cwd=copy)
        assert ran.code == 3, command
        assert ran.err.splitlines()[0].startswith(message)
        assert "Traceback" not in ran.err
    assert citychain("restore", UNKNOWN, "-o", "file", cwd=copy).code == 3
    # Of what is wrong there is no doubt.
    spoil(fragment(copy, "shed"))
    ran = citychain("scrub", "--json", cwd=copy)
    assert (ran.code, ran.records[-1]["away"]) == (1, ["barn"])
    for name in ("attic", "cellar", "shed"):
        lose(fragment(copy, name))
    for command in (["scrub"], ["fragments", "ls"], ["restore", OBJECT_ID, "-o", "file"]):
        ran = citychain(*command, cwd=copy)
        assert ran.code == 3
        assert ran.err.splitlines()[-1] == "citychain: no store of [fragments.stores] answers"


# --- stores that take nothing


def test_what_a_full_store_does_not_take_goes_to_the_next_and_is_said(
    process: Any, tmp_path: Path
) -> None:
    content = random.Random(1).randbytes(3 << 20)
    (tmp_path / "file").write_bytes(content)
    five = {*FOUR, "spare"}
    configure(tmp_path, *five)
    first = process("store", "file", "--json", cwd=tmp_path).record["fragments"]
    name = first[2]["store"]
    for store in five:
        shutil.rmtree(tmp_path / store)
    # A fragment has more than 1 MiB.
    configure(tmp_path, *five, **{name: "limit_mib = 1"})
    ran = process("store", "file", "--json", cwd=tmp_path)
    assert ran.code == 0
    [refusal] = ran.record["refusals"]
    assert (refusal["index"], refusal["store"]) == (2, name)
    where = {it["index"]: it["store"] for it in ran.record["fragments"]}
    [heir] = five - {it["store"] for it in first}
    assert where == {**{it["index"]: it["store"] for it in first}, 2: heir}
    [said] = ran.err.splitlines()
    assert said.startswith(
        f"store {name} did not take fragment 2, it is in {heir}: {tmp_path / name} is full"
    )
    assert [path for path in (tmp_path / name).rglob("*") if path.is_file()] == []
    assert process("scrub", cwd=tmp_path).code == 0


def test_without_room_for_all_that_is_told(process: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(random.Random(1).randbytes(3 << 20))
    limits = dict.fromkeys(("barn", "cellar", "shed"), "limit_mib = 1")
    configure(tmp_path, *FOUR, **{**limits, "attic": "limit_mib = 5"})
    ran = process("store", "file", cwd=tmp_path)
    assert ran.code == 1
    assert ran.out.startswith("IN PART  ")
    assert "1 of 4 fragments are in no store" in ran.err
    assert "3 fragments are in attic: who loses that loses the file" in ran.err
    (tmp_path / "other").write_bytes(random.Random(2).randbytes(3 << 20))
    none = process("store", "other", cwd=tmp_path)
    assert none.code == 3
    assert none.out.startswith("NOT STORED  ")
    assert "0 of 4 fragments are stored, and 2 are needed" in none.err
    # With more room the same command completes it.
    configure(tmp_path, *FOUR)
    assert process("store", "file", cwd=tmp_path).code == 0
    assert process("scrub", cwd=tmp_path).code == 0


def test_a_disk_that_is_full_gets_nothing_in_part(four: Path) -> None:
    """The operating system refuses to let files grow beyond 100 KB, as a full disk does."""
    ran = subprocess.run(
        [*COMMAND, "store", "file"],
        cwd=four,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert ran.returncode == 3, ran.stderr
    assert ran.stderr.count("did not take fragment") == 4
    assert "File too large" in ran.stderr
    assert [path for name in FOUR for path in (four / name).rglob("*") if path.is_file()] == []


def test_stores_of_one_house_are_warned_of(citychain: Any, four: Path) -> None:
    house = 'domain = "house"'
    configure(four, *FOUR, attic=house, barn=house, cellar=house)
    ran = citychain("store", "file", cwd=four)
    assert (ran.code, ran.out.split()[0]) == (0, "STORED")
    assert ran.err == (
        "3 fragments are in house: who loses that loses the file; add stores of other domains\n"
    )


# --- killed half-way, and run again


def halted(
    start: Callable[..., subprocess.Popen[str]], folder: Path, env: dict[str, str], *command: str
) -> None:
    """Run a command until a store goes no further, and kill it."""
    (folder / "halt").touch()
    (folder / "halted").unlink(missing_ok=True)
    running = start(*command, cwd=folder, env=env)
    end = time.monotonic() + SECONDS_MAX
    while not (folder / "halted").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    (folder / "halt").unlink()


def test_what_a_kill_breaks_off_is_completed_by_repeating(
    process: Any,
    start: Callable[..., subprocess.Popen[str]],
    install: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    env = install("halting", HALTING)
    content = random.Random(3).randbytes(24 << 20)
    (tmp_path / "file").write_bytes(content)
    configure(tmp_path, *FOUR, kind="halting")

    halted(start, tmp_path, env, "store", "file")
    assert [
        path for name in FOUR for path in (tmp_path / name).glob("[0-9a-f][0-9a-f][0-9a-f]/*")
    ] == []
    assert [path for name in FOUR for path in (tmp_path / name).glob("new/*")] != []
    stored = process("store", "file", "--json", cwd=tmp_path, env=env)
    assert stored.code == 0, stored.err
    assert {it["state"] for it in stored.record["fragments"]} == {"written"}
    assert [path for name in FOUR for path in (tmp_path / name).glob("new/*")] == []
    assert process("scrub", cwd=tmp_path, env=env).code == 0

    (tmp_path / "file").unlink()
    object_id = stored.record["object"]
    halted(start, tmp_path, env, "restore", object_id, "-o", "file")
    assert not (tmp_path / "file").exists()
    [part] = [path.stat().st_size for path in tmp_path.glob("file.*.part")]
    assert 0 < part < len(content)
    restored = process("restore", object_id, "-o", "file", "--json", cwd=tmp_path, env=env)
    assert restored.code == 0, restored.err
    assert 0 < restored.record["resumed"] <= part
    assert (tmp_path / "file").read_bytes() == content
    assert [*tmp_path.glob("*.part")] == []


def test_a_scrub_that_is_interrupted_says_where_to_go_on(
    process: Any,
    start: Callable[..., subprocess.Popen[str]],
    install: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    env = install("halting", HALTING)
    large = random.Random(3).randbytes(12 << 20)
    later = hashlib.sha256(large).hexdigest()
    smalls = (random.Random(seed).randbytes(9) for seed in range(1_000))
    small = next(it for it in smalls if hashlib.sha256(it).hexdigest() < later)
    first = hashlib.sha256(small).hexdigest()
    configure(tmp_path, *FOUR, kind="halting")
    for content in (small, large):
        (tmp_path / "file").write_bytes(content)
        assert process("store", "file", cwd=tmp_path, env=env).code == 0
    # That one is told, so one knows when it is done.
    next(tmp_path.glob(f"attic/*/{first}*")).unlink()
    (tmp_path / "halt").touch()
    scrub = start("scrub", cwd=tmp_path, env=env)
    assert scrub.stdout is not None
    assert scrub.stdout.readline().startswith(f"DAMAGED  {first}")
    scrub.send_signal(signal.SIGINT)
    _, err = scrub.communicate(timeout=SECONDS_MAX)
    assert scrub.returncode == 130
    assert err.splitlines()[0] == f"to go on from here: citychain scrub --after {first}"
    (tmp_path / "halt").unlink()
    rest = process("scrub", "--after", first, "--json", cwd=tmp_path, env=env)
    assert (rest.code, rest.record["checked"]) == (0, 1)
    none = process("scrub", "--after", later, "--json", cwd=tmp_path, env=env)
    assert (none.code, none.record["checked"]) == (0, 0)
    both = process("scrub", first, "--after", first, cwd=tmp_path, env=env)
    assert (both.code, both.err) == (
        2,
        "citychain: --after: it is for all objects: leave out the ID\n",
    )


def test_a_store_that_was_cut_off_writes_only_what_is_missing(process: Any, copy: Path) -> None:
    fragment(copy, "barn").unlink()
    (copy / "file").write_bytes(CONTENT)
    ran = process("store", "file", "--json", cwd=copy)
    states = {it["store"]: it["state"] for it in ran.record["fragments"]}
    assert states == {**dict.fromkeys(FOUR, "present"), "barn": "written"}


def test_what_is_there_and_wrong_is_replaced_when_the_file_is_stored_again(
    process: Any, copy: Path
) -> None:
    spoil(fragment(copy, "barn"))
    fragment(copy, "shed").write_bytes(b"short")
    (copy / "file").write_bytes(CONTENT)
    ran = process("store", "file", "--json", cwd=copy)
    states = {it["store"]: it["state"] for it in ran.record["fragments"]}
    assert (ran.code, ran.err) == (0, "")
    replaced = {"barn": "replaced", "shed": "replaced"}
    assert states == {**dict.fromkeys(FOUR, "present"), **replaced}
    assert process("scrub", cwd=copy).code == 0


MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "citychain", *sys.argv[1:]], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


def peak_mib(folder: Path, *command: str) -> int:
    """The most memory that a command has."""
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_storing_and_restoring_take_little_memory(tmp_path: Path) -> None:
    configure(tmp_path, *FOUR)
    content = random.Random(5).randbytes(64 << 20)
    (tmp_path / "file").write_bytes(content)
    object_id = hashlib.sha256(content).hexdigest()
    begin = peak_mib(tmp_path, "fragments", "ls")
    assert peak_mib(tmp_path, "store", "file") < begin + 70
    assert peak_mib(tmp_path, "store", "file") < begin + 70
    assert peak_mib(tmp_path, "restore", object_id, "-o", "again") < begin + 70
    assert peak_mib(tmp_path, "scrub") < begin + 70


# --- usage


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["store", "nothing"], 2, "nothing: No such file or directory"),
        (["store", "attic"], 2, "FILE: attic is no plain file"),
        (["restore", "12", "-o", "x"], 2, "ID: '12' is no id of 64 hexadecimal digits"),
        (["restore", UNKNOWN, "-o", "x"], 1, f"no object '{UNKNOWN}'"),
        (["restore", UNKNOWN, "-o", "nowhere/x"], 2, "--output: nowhere is no folder"),
        (["fragments", "show", UNKNOWN], 1, f"no object '{UNKNOWN}'"),
        (["restore", UNKNOWN, "-o", "/proc/x"], 2, "--output: /proc takes no file: "),
        (["scrub", "12"], 2, "ID: '12' is no id"),
        (["store", "file", "--config", "none.toml"], 2, "fragments.stores: there are none"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    command: list[str], code: int, said: str, citychain: Any, four: Path
) -> None:
    (four / "none.toml").touch()
    ran = citychain(*command, cwd=four)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.message


def test_how_far_it_is_shows_on_a_terminal_alone(process: Any, tmp_path: Path) -> None:
    configure(tmp_path, *FOUR)
    (tmp_path / "file").write_bytes(random.Random(4).randbytes(24 << 20))
    seen = {}
    for command in (["store", "file"], ["scrub"]):
        master, slave = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *command],
            cwd=tmp_path,
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
        assert "%" not in out
        seen[command[0]] = (shown.decode(), out)
    assert "writing" in seen["store"][0]
    assert "checking" in seen["scrub"][0]
    assert seen["store"][1].startswith("STORED  ")
    assert "%" not in process("scrub", cwd=tmp_path).err


def test_json_is_a_line_an_answer(citychain: Any, copy: Path) -> None:
    for command in (["fragments", "ls"], ["fragments", "show", OBJECT_ID], ["scrub"]):
        for line in citychain(*command, "--json", cwd=copy).out.splitlines():
            assert isinstance(json.loads(line), dict)
