"""The doctor finds all that is wrong, each with its place and its fix, and else nothing.

Each fault has a distribution that has it and no other.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

import pytest
from ailing import APPROVE, FAULTS, MEMORY, PREAMBLE, SOUND, Fault, cities, rule
from cli.conftest import Ran, run_here
from throwaway import CITY, STORAGE, Site

from citychain.cli.doctor import FINDINGS, Finding, examine
from citychain.cli.doctor.watchdog import Watchdog
from citychain.config import PluginsSettings

TREE = Path(__file__).resolve().parents[2]


def look(site: Site, fault: Fault) -> list[Finding]:
    """Install a distribution and examine it, with nothing beside it."""
    site.install(
        "broken",
        fault.source,
        **{"preamble": PREAMBLE, "requires": ["citychain"], **fault.install},
    )
    return examine(
        "broken",
        PluginsSettings(
            disabled=("broken",) if fault.disabled else (),
            allow=("broken",),
            load_seconds=fault.load_seconds,
        ),
    )


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_is_found_with_its_place_and_its_fix(
    site: Site, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "not-final" in fault.found:
        monkeypatch.setattr("citychain.cli.doctor.trial.FINAL_SECONDS", 1.0)
    monkeypatch.setattr("citychain.cli.doctor.trials.TRIAL_SECONDS", fault.trial_seconds)
    monkeypatch.setattr("citychain.hooks.checks.OFFERS_MAX", 1_000)
    found = look(site, fault)
    assert {finding.code for finding in found} == set(fault.found), found
    for finding in found:
        assert fault.found[finding.code] in f"{finding.where}  {finding.what}  {finding.fix}"
        assert finding.fix
        assert finding.where


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if "blocks-loop" in fault.found],
    ids=lambda fault: fault.name,
)
def test_what_blocks_is_found_though_no_other_thread_gets_to_look(
    site: Site, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the loop has gone on whenever another thread has the interpreter lock."""
    monkeypatch.setattr(Watchdog, "_watch", lambda watchdog: None)
    [finding] = look(site, fault)
    assert finding.code == "blocks-loop"
    # What it computes without a call is put down to the line that ends it.
    if "without a pause" not in fault.name and "before it calls" not in fault.name:
        assert fault.found["blocks-loop"] in f"{finding.where}  {finding.what}"


MAY_TELL_NO_LINE = sys.version_info < (3, 12)
"""Of a loop's jump back: then the stretch counts for the line that ended it."""


async def test_a_line_is_seen_from_outside_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'the "town" 町'
    folder.mkdir()
    (folder / "standing.py").write_text(
        # However busy the machine is, it takes long, and the other thread gets to look here more
        # often than while account is taken of the last line.
        "def stand(watchdog):\n"
        "    for turn in range(1_000_000_000):\n"
        f"        if turn > 5_000_000 and ({MAY_TELL_NO_LINE} or watchdog._seen[9:]):\n"
        "            break\n"
        "    len(())\n"
    )
    monkeypatch.syspath_prepend(folder)
    standing = importlib.import_module("standing")
    with Watchdog("standing") as watchdog:
        standing.stand(watchdog)
        await asyncio.sleep(0)
    [block] = watchdog.blocks
    lines = (2, 3, 5) if MAY_TELL_NO_LINE else (2, 3)
    assert block.place in {f"{folder / 'standing.py'}:{line}" for line in lines}


async def test_a_watchdog_leaves_the_profiler_of_others() -> None:
    def profiler(*event: object) -> None: ...

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with Watchdog("throwaway_broken"):
            assert sys.getprofile() is not profiler
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)


def test_every_finding_has_a_distribution_that_has_it() -> None:
    assert {code for fault in FAULTS for code in fault.found} == FINDINGS.keys() - {"not-installed"}


# --- more than one at once

MANY = """
import time
from pydantic import BaseModel

class Options(BaseModel):
    height: int = 1

class Rule(SealedRounds):
    async def decide(self, round, candidates, held_since, refused, state):
        time.sleep(0.3)
        return await super().decide(round, candidates, held_since, refused, state)

@hookimpl
def citychain_cities():
    yield CityDefinition("Harbour")
    yield CityDefinition("pier", dag="tide")
    yield CityDefinition("market")
    yield "quay"

@hookimpl
def citychain_dag_handlers(settings):
    return []

@hookimpl
async def citychain_storage_backends():
    return []

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition("bell", print)
    raise OSError("no more")

class Rules:
    @hookimpl
    def citychain_dag_handlers(self):
        yield DagDefinition("tides", lambda options, city: Rule(city), Options)

    @hookimpl
    def citychain_stores(self): ...

    def citychain_commands(self): ...

rules = Rules()
"""


def test_many_faults_are_told_at_once(site: Site) -> None:
    site.install(
        "broken",
        MANY,
        preamble=PREAMBLE,
        requires=["sundial>=2", "pluggy>=99"],
        files={"wrong.py": "1 / 0\n"},
    )
    entry_points = site.folder / "broken-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(
        "[citychain]\nbroken = throwaway_broken\nrules = throwaway_broken:rules\n"
        "wrong = throwaway_broken.wrong\n[city-chain]\nother = throwaway_broken.wrong\n"
    )
    site.install("rival", CITY.format(slug="market"))
    found = examine("broken", PluginsSettings(allow=("broken", "rival")))
    codes = [finding.code for finding in found]
    assert sorted(codes) == sorted(
        [
            "wrong-group",
            "missing-requirement",
            "unfit-requirement",
            "citychain-not-required",
            "untyped",
            "import-failed",
            "hook-signature",
            "async-hook",
            "slug",
            "wrong-type",
            "hook-failed",
            "misspelt-hook",
            "unmarked-hook",
            "api-version-old",
            "conflict",
            "city-parts",
            "option-undocumented",
            "options-extra",
            "blocks-loop",
        ]
    ), found


def test_a_conflict_names_the_other(site: Site) -> None:
    site.install("broken", CITY.format(slug="pier") + STORAGE.format(name="shelf"))
    site.install("rival", CITY.format(slug="pier"))
    found = examine("broken", PluginsSettings(allow=("broken", "rival")))
    [conflict] = [finding for finding in found if finding.code == "conflict"]
    assert conflict.what == "city 'pier' is offered by rival:rival too, so neither is loaded"


def test_a_name_that_is_not_installed_has_a_nearest(site: Site) -> None:
    site.install("broken-harbour", "")
    [finding] = examine("broken_harbor", PluginsSettings())
    assert (finding.code, finding.fix) == ("not-installed", "did you mean broken-harbour?")


# --- where all is well


@pytest.mark.parametrize(
    "distribution",
    ["citychain", *sorted(path.name for path in (TREE / "plugins").glob("citychain-*"))],
)
def test_our_own_are_clean(distribution: str) -> None:
    found = [
        (finding.code, finding.what.split()[0])
        for finding in examine(distribution, PluginsSettings())
    ]
    # Nothing says where a MongoDB, a bucket, a node or a storage server is: these are not tried.
    needed = [("options-needed", name) for name in ("mongodb", "s3", "ipfs", "remote")]
    assert found == (needed if distribution == "citychain" else [])


TWO = """
from citychain import ApprovedByVotes, ConfigurationError, Judgement

class Two(ApprovedByVotes):
    def __init__(self, options, city):
        if len(city.genesis.seats) != 2:
            raise ConfigurationError("give it a committee of two")
        super().__init__(city)

    async def judge(self, round, candidates, state):
        return Judgement(self.city.genesis.seats)

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition("two", Two, api_version=2)
"""


@pytest.mark.parametrize(
    "source", [rule(), APPROVE.format("", ""), MEMORY.format(city="...", backend=""), TWO]
)
def test_a_sound_part_is_clean(site: Site, source: str) -> None:
    site.install("sound", source, preamble=PREAMBLE, requires=["citychain"])
    assert examine("sound", PluginsSettings(allow=("sound",))) == []


# --- what it leaves alone

ELSEWHERE = """
from pydantic import BaseModel, ConfigDict
from citychain.storage.memory import MemoryBackend

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    file: str{default}
    \"\"\"Where it is kept.\"\"\"

class Backend(MemoryBackend):
    def __init__(self, options, context):
        super().__init__(context)
        context.directory.mkdir(parents=True)
        self.file = options.file or context.directory / "file"

    async def city(self, genesis, genesis_file, initial):
        with open(self.file, "a") as file:
            file.write("touched")
        return await super().city(genesis, genesis_file, initial)

@hookimpl
def citychain_storage_backends():
    yield StorageDefinition("shelf", Backend, Options, api_version=2)

@hookimpl
def citychain_cities():
    yield CityDefinition("pier", storage="shelf", storage_options={{"file": {file!r}}})
"""


@pytest.mark.parametrize(("default", "needed"), [(" = ''", False), ("", True)])
def test_storage_that_a_city_names_is_not_written_to(
    site: Site, tmp_path: Path, default: str, needed: bool
) -> None:
    file = tmp_path / "production"
    source = ELSEWHERE.format(default=default, file=str(file))
    site.install("sound", source, preamble=PREAMBLE, requires=["citychain"])
    findings = examine("sound", PluginsSettings(allow=("sound",)))
    assert ("options-needed" in [it.code for it in findings]) == needed, findings
    assert findings == [] or needed
    assert not file.exists()


# --- the command


def run(site: Site, *arguments: str) -> Ran:
    return run_here(
        "plugins",
        "doctor",
        *arguments,
        cwd=site.folder,
        env={"CITYCHAIN_PLUGINS__ALLOW": '["broken"]'},
    )


def test_the_command_tells_a_finding_a_line_and_exits_with_1(site: Site) -> None:
    site.install("broken", cities("yield CityDefinition('Harbour')"), preamble=PREAMBLE)
    ran = run(site, "broken")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "WARNING  broken  its requirements do not name citychain  "
        'add "citychain" to dependencies in pyproject.toml',
        f"ERROR    {site.folder}/throwaway_broken.py:3  citychain_cities: 'Harbour' is not a slug  "
        "write 1 to 63 of a-z, 0-9 and '-', starting with a letter",
    ]
    assert ran.err.splitlines()[-1] == "broken: 1 error, 1 warning"


def test_the_command_tells_findings_as_json(site: Site) -> None:
    site.install("broken", "x = 1\n", preamble=PREAMBLE, requires=["citychain"])
    ran = run(site, "broken", "--json")
    assert ran.code == 1
    assert ran.record == {
        "level": "ERROR",
        "code": "no-hooks",
        "where": "broken: entry point broken",
        "what": "it offers nothing",
        "fix": "write a function for a hook (docs/hooks.md) and mark it with @hookimpl",
    }


def test_what_a_plugin_prints_is_no_answer(site: Site) -> None:
    source = "print('imported')\n" + cities("print('asked'); yield CityDefinition('harbour')")
    site.install("broken", source, preamble=PREAMBLE)
    ran = run(site, "broken", "--json")
    assert ran.record["code"] == "citychain-not-required"
    assert ran.err.split()[:2] == ["imported", "asked"]


def test_warnings_alone_are_no_failure(site: Site) -> None:
    site.install("broken", SOUND, preamble=PREAMBLE)
    ran = run(site, "broken")
    assert (ran.code, ran.out.partition(" ")[0]) == (0, "WARNING")


def test_wrong_usage_exits_with_2(site: Site) -> None:
    assert run(site).code == 2
    (site.folder / "citychain.toml").write_text("[plugin]\n")
    assert run(site, "broken").code == 2
