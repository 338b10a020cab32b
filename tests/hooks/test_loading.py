"""A plugin that hangs costs its own time, and nobody anything else."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from throwaway import CITY, PREAMBLE, STORAGE, Site

from citychain.client.keys import create_key
from citychain.errors import PluginError
from citychain.hooks.loading import Overdue, Steps, Work, run_in_turn

SHORT = 0.2
"""Seconds, where the plugin hangs for certain: a busy machine only waits longer."""
SOUND = 3.0
"""Where something sound is to be done by then, too."""
LONG = 600.0

LOOP = """
import time
def forever():
    while True:
        time.sleep(0.001)
"""
ASLEEP = """
import threading
def forever():
    threading.Event().wait()
"""


@pytest.fixture
def left_behind() -> Callable[[], threading.Thread]:
    """The thread that a test left behind."""
    before = set(threading.enumerate())

    def find() -> threading.Thread:
        [thread] = set(threading.enumerate()) - before
        return thread

    return find


@pytest.mark.parametrize(("waits", "line"), [(LOOP, 5), (ASLEEP, 4)], ids=["loop", "asleep"])
def test_a_hanging_import_is_left_behind_and_the_others_go_on(
    site: Site, waits: str, line: int
) -> None:
    # One module of that name hangs for good: its import is never over.
    name = f"broken-{line}"
    module = site.install(name, waits + "\nforever()\n", preamble="")
    site.install("alpha", CITY.format(slug="alpha"))
    site.install("omega", CITY.format(slug="omega"))
    registry = site.load(load_seconds=SOUND)
    assert registry.cities.keys() == {"alpha", "omega"}
    alpha, broken, omega = registry.records
    assert (alpha.status, broken.status, omega.status) == ("active", "failed", "active")
    assert broken.reason.startswith("its import did not end in time: it began ")
    assert f"and hangs at {site.folder / module}.py:{line} (forever); mend it" in broken.reason
    assert "plugins.load_seconds" in broken.reason


def test_a_hanging_hook_is_told_with_the_hooks_known(site: Site) -> None:
    site.install(
        "broken",
        LOOP
        + STORAGE.format(name="sound")
        + CITY.format(slug="slow").replace("yield", "forever(); yield"),
    )
    (record,) = site.load(load_seconds=SOUND).records
    assert record.hooks == ("citychain_cities", "citychain_storage_backends")
    assert record.reason.startswith("citychain_cities did not end in time: it began ")


def test_a_listing_without_end_is_told_too(site: Site) -> None:
    site.install(
        "broken",
        "@hookimpl\ndef citychain_cities():\n    while True: pass\n    yield\n",
    )
    (record,) = site.load(load_seconds=SOUND).records
    assert (record.status, ":4 (citychain_cities);" in record.reason) == ("failed", True)


def test_a_library_that_hangs_is_blamed_on_the_plugins_own_line(site: Site) -> None:
    (site.folder / "throwaway_library.py").write_text(LOOP + "\nforever()\n")
    module = site.install("broken", "\nimport throwaway_library\n", preamble="")
    (record,) = site.load(load_seconds=SOUND).records
    assert f"{module}.py:2 (<module>)" in record.reason


def test_the_log_has_the_stack_of_what_hangs(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("broken", LOOP + "\nforever()\n")
    site.load(load_seconds=SOUND)
    assert "in forever\n    time.sleep(0.001)" in caplog.text


def test_what_runs_code_ends_soon_after_it_was_left_behind(site: Site) -> None:
    before = set(threading.enumerate())
    site.install("broken", LOOP + "\nforever()\n")
    site.load(load_seconds=SHORT)
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG)
        assert not thread.is_alive()


def test_what_ends_too_late_does_nothing_more(
    left_behind: Callable[[], threading.Thread],
) -> None:
    """Asleep it hears nothing; when it awakes, nobody listens to what it says."""
    go_on = threading.Event()

    def deaf(steps: Steps) -> None:
        with steps.step("its import"):
            go_on.wait()

    ran: list[str] = []
    outcomes = run_in_turn(
        [Work(deaf, "throwaway_broken"), Work(lambda steps: ran.append(steps.doing), "other")],
        SOUND,
    )
    assert [type(outcome) for outcome in outcomes] == [Overdue, type(None)]
    thread = left_behind()
    assert thread.daemon
    go_on.set()
    thread.join(LONG)
    assert not thread.is_alive()
    assert ran == [""]


def test_what_is_left_behind_asleep_stops_nobody_who_is_profiled(site: Site) -> None:
    """Python 3.11 would go round in the first call for ever."""
    # As above, of a name of its own: its import is never over.
    site.install("broken-asleep", ASLEEP + "\nforever()\n", preamble="")
    site.load(load_seconds=SHORT)

    def nothing() -> None: ...

    def profiled() -> None:
        sys.setprofile(lambda *event: None)
        nothing()
        sys.setprofile(None)

    thread = threading.Thread(target=profiled, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()


def test_no_plugin_no_thread(site: Site) -> None:
    before = set(threading.enumerate())
    site.load()
    assert set(threading.enumerate()) <= before


def test_each_work_has_its_own_time_and_its_own_outcome() -> None:
    def fail(steps: Steps) -> None:
        with steps.step("reading"):
            raise ValueError("no")

    def leave(steps: Steps) -> None:
        with steps.step("leaving"):
            sys.exit(3)

    def interrupt(steps: Steps) -> None:
        with steps.step("its import"):
            raise KeyboardInterrupt

    works = [Work(run, "any") for run in (fail, leave, interrupt, lambda steps: None)]
    *failures, sound = run_in_turn(works, LONG)
    assert sound is None
    assert [type(failure) for failure in failures] == [PluginError] * 3
    assert [str(failure).partition(";")[0] for failure in failures] == [
        "reading failed: ValueError: no",
        "leaving failed: SystemExit: 3",
        "its import failed: KeyboardInterrupt",
    ]


APPLICATION = """
from citychain.hooks.registry import load_plugins

REGISTRY = load_plugins(load_seconds={seconds}, allow=["broken"])
"""


def test_a_plugin_of_the_package_that_loads_it_while_it_is_imported(site: Site) -> None:
    """The loading thread would wait for that import, and the import for the thread."""
    module = site.install(
        "broken",
        APPLICATION.format(seconds=SHORT),
        target=".city",
        files={"city.py": f"import throwaway_broken\n{PREAMBLE}{CITY.format(slug='harbour')}"},
    )
    application = importlib.import_module(module)
    assert application.REGISTRY.cities.keys() == {"harbour"}


def test_others_are_left_behind_while_a_package_that_loads_is_imported(site: Site) -> None:
    module = site.install(
        "broken",
        APPLICATION.format(seconds=SHORT).replace('"broken"', '"broken", "alpha"'),
        target=".city",
        files={"city.py": PREAMBLE + CITY.format(slug="harbour")},
    )
    site.install("alpha", LOOP + "\nforever()\n")
    registry = importlib.import_module(module).REGISTRY
    assert {it.name: it.status for it in registry.records if it.name in ("alpha", "broken")} == {
        "alpha": "failed",
        "broken": "active",
    }


def test_ctrl_c_in_the_thread_that_loads_is_the_operators(site: Site) -> None:
    module = site.install(
        "broken",
        APPLICATION.format(seconds=LONG),
        target=".city",
        files={"city.py": "raise KeyboardInterrupt\n"},
    )
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module(module)


# --- in a process of its own

LOAD = """
import sys
sys.path.insert(0, {folder!r})
from citychain.hooks.registry import load_plugins
print("begun", flush=True)
{before}
registry = load_plugins(load_seconds={seconds}, allow=["broken"])
print([record.status for record in registry.records if record.name == "broken"], flush=True)
"""


@pytest.fixture
def program(site: Site) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program that loads the plugins of the site."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float, before: str = "") -> subprocess.Popen[str]:
        code = LOAD.format(folder=str(site.folder), seconds=seconds, before=before)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What a shell in the background ignores, it would inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


DEAF = """
def forever():
    import time
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("waits", [LOOP, ASLEEP, DEAF], ids=["loop", "asleep", "deaf"])
def test_what_was_left_behind_does_not_keep_the_process(
    site: Site, program: Callable[..., subprocess.Popen[str]], waits: str
) -> None:
    site.install("broken", waits + "\nforever()\n")
    process = program(SHORT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[-1]) == (0, "['failed']"), err


def test_ctrl_c_while_a_plugin_hangs_ends_the_program(
    site: Site, program: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    site.install("broken", f"{LOOP}\nopen({str(reached)!r}, 'w').close()\nforever()\n")
    process = program(LONG)
    reached.read_text()  # Returns once the plugin is there.
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err


def test_two_signals_end_a_server_while_a_plugin_hangs(
    site: Site, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    site.install("broken", f"{LOOP}\nopen({str(reached)!r}, 'w').close()\nforever()\n")
    create_key(tmp_path / "operator.key")
    env = {
        "CITYCHAIN_PLUGINS__ALLOW": '["broken"]',
        "CITYCHAIN_PLUGINS__LOAD_SECONDS": str(LONG),
        "PYTHONPATH": os.pathsep.join([str(site.folder), os.environ.get("PYTHONPATH", "")]),
    }
    process = start("serve", "--listen", "127.0.0.1:0", cwd=tmp_path, env=env)
    reached.read_text()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
