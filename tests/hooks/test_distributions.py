"""What becomes of a distribution, told in the same way everywhere.

Each row of `CASES` is installed beside a sound plugin; then everybody is asked: the record, the
log, `citychain plugins` and its exit codes, and a real server, which starts all the same.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cli.conftest import Ran, Server, run_here
from throwaway import CITY, Site

from citychain.client.keys import create_key
from citychain.rpc._generated.citychain.v1 import services_pb2 as pb
from citychain.rpc._generated.citychain.v1 import services_pb2_grpc as stubs

CITIES = """
@hookimpl
def citychain_cities():
    yield CityDefinition("harbour", storage="memory")
"""
RULES = """
@hookimpl
def citychain_dag_handlers():
    from citychain import SealedRounds
    yield DagDefinition("tides", lambda options, city: SealedRounds(city), api_version=2)
"""
SOUND = CITIES + RULES
"""The city ``harbour``, and the rule ``tides``, which the configuration wants for ``town``."""
HANG = "\nimport time\nwhile True: time.sleep(0.01)\n"

OPEN = "open"
NOT_FOUND = "NOT_FOUND"
UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Case:
    """A distribution called ``broken``, and what must become of it."""

    name: str
    source: str
    status: str = "failed"
    reason: str = ""
    """Pattern of the record's whole reason."""
    log: str = ""
    """What the log says besides the reason: the error that is behind it."""
    city: str = NOT_FOUND
    """What asking for ``harbour`` gives."""
    town: str = UNAVAILABLE
    """What asking for ``town`` gives."""
    requires: tuple[str, ...] = ()
    imported: bool = True
    more: Callable[[Site], None] = lambda site: None
    """Installs what else there is."""
    disabled: bool = False
    load_seconds: float = 60
    """Shorter where it is waited for."""

    @property
    def strict(self) -> int:
        """Exit code of ``citychain plugins --strict``."""
        return 1 if self.status in ("failed", "conflict") else 0


def a_twin(site: Site) -> None:
    site.install("twin", SOUND)


def two_hundred(site: Site) -> None:
    for number in range(200):
        site.install(f"district-{number}", CITY.format(slug=f"district-{number}"))


def a_ring(site: Site) -> None:
    (site.folder / "throwaway_ring.py").write_text("from throwaway_broken import tide\n")


PLACE = r"\S+/throwaway_broken\.py:\d+ \(\S+\)"

CASES = [
    Case("success", SOUND, "active", city=OPEN, town=OPEN),
    Case("among 200", SOUND, "active", city=OPEN, town=OPEN, more=two_hundred),
    Case(
        "import error",
        SOUND + "1 / 0",
        reason="its import failed: ZeroDivisionError: division by zero; mend or disable the plugin",
        log="ZeroDivisionError",
    ),
    Case(
        "exception in a hook",
        SOUND.replace("    yield City", "    raise OSError('no list today')\n    yield City"),
        reason="citychain_cities failed: OSError: no list today; mend or disable the plugin",
        log="in citychain_cities\n        raise OSError",
    ),
    Case(
        "api_version",
        SOUND.replace("api_version=2", "api_version=99"),
        reason="citychain_dag_handlers: tides: made for api_version 99, and this citychain has "
        r"\d+ to \d+; install matching versions of both",
    ),
    Case(
        "duplicates",
        SOUND,
        "conflict",
        "city 'harbour' is offered by broken:broken and twin:twin; disable one of them",
        city=UNAVAILABLE,
        more=a_twin,
    ),
    Case(
        "misspelt hook",
        SOUND.replace("citychain_cities", "citychain_city"),
        reason=r"there is no hook citychain_city; did you mean citychain_cities\?",
    ),
    Case(
        "missing requirement",
        SOUND,
        requires=("sundial>=2",),
        reason="it requires sundial>=2, which is not installed; run: pip install 'sundial>=2'",
        imported=False,
    ),
    Case(
        "cyclic import",
        SOUND + "from throwaway_ring import nothing\ntide = 1\n",
        reason="its import failed: ImportError: cannot import name 'tide' from partially "
        r"initialized module 'throwaway_broken' \(most likely due to a circular import\).*; "
        "mend or disable the plugin",
        log="throwaway_ring.py",
        more=a_ring,
    ),
    Case(
        "exit at import",
        SOUND + "import sys\nsys.exit(3)\n",
        reason="its import failed: SystemExit: 3; mend or disable the plugin",
        log="sys.exit(3)",
    ),
    Case(
        "exit in a hook",
        SOUND.replace("    yield City", "    raise SystemExit('enough')\n    yield City"),
        reason="citychain_cities failed: SystemExit: enough; mend or disable the plugin",
        log="raise SystemExit",
    ),
    Case(
        "hang at import",
        SOUND + HANG,
        reason=rf"its import did not end in time: it began \S+ s ago and hangs at {PLACE}; "
        r"mend it there, raise plugins\.load_seconds, or disable the plugin",
        log="while True: time.sleep(0.01)",
        load_seconds=2,
    ),
    Case(
        "hang in a hook",
        SOUND.replace("    yield City", "    import time\n    time.sleep(3600)\n    yield City"),
        reason=rf"citychain_cities did not end in time: it began \S+ s ago and hangs at {PLACE}; "
        r"mend it there, raise plugins\.load_seconds, or disable the plugin",
        log="time.sleep(3600)",
        load_seconds=2,
    ),
    Case(
        "disabled",
        SOUND + "1 / 0",
        "disabled",
        r"it is in plugins\.disabled",
        imported=False,
        disabled=True,
    ),
]


@dataclass(frozen=True)
class Installed:
    """A case, installed; and a directory for a server, configured for it."""

    case: Case
    directory: Path
    env: dict[str, str]
    mark: Path
    """Is there once the plugin was imported."""

    def run(self, *arguments: str) -> Ran:
        """Run the command."""
        return run_here(*arguments, cwd=self.directory, env=self.env)


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def installed(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Installed:
    """Each case."""
    case: Case = request.param
    mark = tmp_path / "imported"
    site.install(
        "broken", f"open({str(mark)!r}, 'w').close()\n{case.source}", requires=case.requires
    )
    site.install("sound", CITY.format(slug="soundville"))
    case.more(site)
    directory = tmp_path / "server"
    directory.mkdir()
    create_key(directory / "operator.key")
    (directory / "citychain.toml").write_text(
        f"[plugins]\nload_seconds = {case.load_seconds}\n"
        + ('disabled = ["broken"]\n' if case.disabled else "")
        + '[cities.town]\nstorage = "memory"\ndag = "tides"\n'
        '[cities.soundville]\nstorage = "memory"\n'
    )
    names = [path.stem.rpartition("-")[0] for path in site.folder.glob("*.dist-info")]
    path = [str(site.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        "PYTHONPATH": os.pathsep.join(path),
        # The plugins of this environment are no part of the case.
        "CITYCHAIN_PLUGINS__ALLOW": json.dumps(names),
    }
    return Installed(case, directory, env, mark)


def test_it_is_told_by_the_command(installed: Installed) -> None:
    case = installed.case
    ran = installed.run("plugins", "--json")
    assert ran.code == 0, ran.err
    record = next(record for record in ran.records if record["name"] == "broken")
    assert (record["distribution"], record["version"]) == ("broken", "1.0")
    assert record["status"] == case.status
    assert re.fullmatch(case.reason, record["reason"], re.DOTALL), record["reason"]
    sound = next(record for record in ran.records if record["name"] == "sound")
    assert (sound["status"], sound["reason"]) == ("active", "")
    assert installed.mark.exists() == case.imported
    if case.name == "among 200":
        assert [record["status"] for record in ran.records].count("active") > 200


def test_it_counts_where_the_command_is_strict(installed: Installed) -> None:
    assert installed.run("plugins", "--strict").code == installed.case.strict


def test_a_server_starts_and_answers_for_all_others(
    installed: Installed, start_server: Callable[..., Server]
) -> None:
    case = installed.case
    server = start_server(installed.directory, env=installed.env)
    with grpc.insecure_channel(server.address) as channel:
        plugins = stubs.PluginServiceStub(channel).ListPlugins(pb.ListPluginsRequest()).plugins
        told = next(plugin for plugin in plugins if plugin.name == "broken")
        answers = {city: ask(channel, city) for city in ("soundville", "harbour", "town", "harbur")}
    ended = server.end(signal.SIGTERM)
    log = ended.err
    assert ended.code == 0, log

    assert told.status == case.status
    assert re.fullmatch(case.reason, told.reason, re.DOTALL), told.reason
    left_out = f"] plugin broken:broken is left out: {told.reason} [citychain.hooks.plugin]\n"
    assert (left_out in log) == (case.status in ("failed", "conflict"))
    assert case.log in log

    assert answers["soundville"] == (OPEN, "")
    assert answers["harbour"][0] == case.city
    assert answers["town"][0] == case.town
    assert answers["harbur"][0] == NOT_FOUND
    for city, (answer, error_id) in answers.items():
        if answer == UNAVAILABLE:
            [explained] = [line for line in log.splitlines() if f"error id {error_id}" in line]
            assert " [error    ] " in explained
            assert " [citychain.city.directory] " in explained
            about = {"harbour": told.reason, "town": "DAG handler 'tides'"}[city]
            assert about in explained
            if case.status in ("failed", "conflict") and city == "town":
                assert "broken:broken" in explained


def ask(channel: grpc.Channel, city: str) -> tuple[str, str]:
    """Whether a city opens, or the status and the error id that it answers."""
    request: Any = pb.GetCityRequest(city=city)
    try:
        stubs.CityServiceStub(channel).GetCity(request, wait_for_ready=True, timeout=300)
    except grpc.RpcError as error:
        found = re.search(r"error id (\w+)", error.details())
        return error.code().name, found[1] if found else ""
    return OPEN, ""
