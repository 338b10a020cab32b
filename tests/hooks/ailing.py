"""Distributions that each have one fault, and what the doctor finds of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREAMBLE = "from citychain import *\nfrom citychain.hooks.definitions import NoOptions\n"

RULE = """
{before}
class Rule(SealedRounds):
    {rule}

@hookimpl
def citychain_dag_handlers():
    yield DagDefinition("tides", {factory}, {options}, api_version=2)
"""
DECIDE = """async def decide(self, round, candidates, held_since, refused, state):
        {}
        return await super().decide(round, candidates, held_since, refused, state)"""
APPROVE = """
from citychain.consensus.solo import Solo, SoloOptions

class Step(Solo):
    async def approve(self, round):
        {}
        return await super().approve(round)
    {}

@hookimpl
def citychain_consensus_steps():
    yield ConsensusDefinition("bell", Step, SoloOptions, api_version=2)
"""
MEMORY = """
from citychain.storage.memory import MemoryBackend, MemoryCity

class City(MemoryCity):
    {city}

class Backend(MemoryBackend):
    async def city(self, genesis, genesis_file, initial):
        city = await super().city(genesis, genesis_file, initial)
        city.__class__ = City
        return city
    {backend}

@hookimpl
def citychain_storage_backends():
    yield StorageDefinition("shelf", lambda options, context: Backend(context), api_version=2)
"""
STORE = """
from citychain.fragments.memory import MemoryStore

class Store(MemoryStore):
    {}

@hookimpl
def citychain_fragment_stores():
    yield FragmentStoreDefinition("shelf", lambda options, context: Store(), api_version=2)
"""


def rule(
    rule: str = "...",
    factory: str = "lambda options, city: Rule(city)",
    options: str = "NoOptions",
    before: str = "",
) -> str:
    return RULE.format(rule=rule, factory=factory, options=options, before=before)


def options(body: str) -> str:
    model = f"from pydantic import *\n\nclass Options(BaseModel):\n{body}\n"
    return rule(options="Options", before=model)


BESIDE = """
from contextlib import contextmanager
from threading import Event, Thread

def spin(ended):
    while not ended.is_set(): ...

@contextmanager
def beside():
    ended = Event()
    Thread(target=spin, args=[ended]).start()
    try: yield
    finally: ended.set()
"""

FORBID = '    model_config = ConfigDict(extra="forbid")\n'


@dataclass(frozen=True)
class Fault:
    """A distribution called ``broken``, and what the doctor finds of it."""

    name: str
    found: Mapping[str, str]
    """By code of the finding, something that its line says."""
    source: str = ""
    install: Mapping[str, Any] = field(default_factory=dict)
    disabled: bool = False
    load_seconds: float = 60
    trial_seconds: float = 60


def cities(body: str) -> str:
    return f"@hookimpl\ndef citychain_cities():\n    {body}\n"


SOUND = cities("yield CityDefinition('harbour')")

FAULTS = [
    # --- the distribution
    Fault("nothing", {}, SOUND),
    Fault(
        "no entry point",
        {"no-entry-point": '[project.entry-points.citychain] NAME = "MODULE"'},
        SOUND,
        {"group": ""},
    ),
    *(
        Fault(
            f"group {group}",
            {"wrong-group": f"'{group}', which citychain does not read  rename the group to"},
            SOUND,
            {"group": group},
        )
        for group in (
            "citychain.plugins",
            "city-chain",
            "citychains",
            "citychain_plugins",
            "citychian",
        )
    ),
    *(
        Fault(f"group {group}", {"no-entry-point": ""}, "1 / 0\n", {"group": group})
        for group in ("pytest11", "citychain_explorer.adapters", "citychain_ui", "city")
    ),
    Fault(
        "a group that is misspelt is not imported",
        {"wrong-group": ""},
        "1 / 0\n",
        {"group": "citychain.plugins"},
    ),
    Fault(
        "a requirement that is missing",
        {"missing-requirement": "run: pip install 'sundial>=2'"},
        SOUND,
        {"requires": ["citychain", "sundial>=2"]},
    ),
    Fault(
        "a requirement that does not fit",
        {"unfit-requirement": "run: pip install 'pluggy>=99'"},
        SOUND,
        {"requires": ["citychain", "pluggy>=99"]},
    ),
    Fault(
        "a requirement that cannot be read",
        {"malformed-requirement": "'pluggy >== 1'"},
        SOUND,
        {"requires": ["citychain", "pluggy >== 1"]},
    ),
    Fault("citychain not required", {"citychain-not-required": ""}, SOUND, {"requires": []}),
    Fault(
        "no py.typed", {"untyped": "throwaway_broken has no file py.typed"}, SOUND, {"files": {}}
    ),
    Fault("a py.typed", {}, SOUND, {"files": {"py.typed": ""}}),
    Fault("disabled", {"disabled": "plugins.disabled"}, SOUND, disabled=True),
    # --- its module
    Fault(
        "an error at import",
        {"import-failed": "throwaway_broken.py:8  its import failed: ZeroDivisionError"},
        f"{SOUND}\n\n1 / 0\n",
    ),
    Fault(
        "a syntax error",
        {"import-failed": "throwaway_broken.py:4  its import failed: SyntaxError"},
        "\nthis is no Python\n",
    ),
    Fault(
        "a module that is missing",
        {"import-failed": "throwaway_broken.py:3  its import failed: there is no module 'sundial'"},
        "import sundial\n",
    ),
    Fault("exit", {"import-failed": "its import failed: SystemExit: 3"}, "raise SystemExit(3)"),
    Fault("nothing of that name", {"import-failed": "AttributeError"}, SOUND, {"target": ":x"}),
    Fault(
        "a hanging import",
        {"hangs": "throwaway_broken.py:4  its import did not end within 3 s"},
        "import time\nwhile True: time.sleep(0.001)\n",
        load_seconds=3,
    ),
    Fault(
        "a class",
        {"class": "names the class Plugin  name a module or an instance"},
        "class Plugin:\n    @hookimpl\n    def citychain_cities(self): return []\n",
        {"target": ":Plugin"},
    ),
    Fault("no hooks", {"no-hooks": "mark it with @hookimpl"}, "x = 1\n"),
    Fault(
        "a misspelt hook",
        {"misspelt-hook": "there is no hook citychain_city  did you mean citychain_cities?"},
        SOUND + "@hookimpl\ndef citychain_city(): return []\n",
    ),
    Fault(
        "a hook that is not marked",
        {"unmarked-hook": "throwaway_broken.py:6  citychain_commands is not marked"},
        SOUND + "def citychain_commands(): return []\n",
    ),
    Fault(
        "a hook that is not marked and misspelt",
        {"unmarked-hook": "rename it: there is no hook citychain_comands; did you mean citychain_"},
        SOUND + "def citychain_comands(): return []\n",
    ),
    Fault(
        "properties that raise",
        {},
        "class Plugin:\n"
        "    @property\n    def nasty(self): raise RuntimeError('no')\n"
        "    @property\n    def citychain_nasty(self): raise RuntimeError('no')\n"
        "    class Lazy:\n        def __get__(self, plugin, owner): raise RuntimeError('no')\n"
        "    citychain_lazy = Lazy()\n"
        "    @hookimpl\n    def citychain_cities(self): return []\n"
        "plugin = Plugin()\n",
        {"target": ":plugin"},
    ),
    Fault(
        "a wrong signature",
        {"hook-signature": "write: def citychain_find_city(name)"},
        "@hookimpl\ndef citychain_find_city(nam): ...\n",
    ),
    Fault(
        "an async hook",
        {"async-hook": "write a plain def"},
        "@hookimpl\nasync def citychain_cities(): return []\n",
    ),
    Fault(
        "a wrapper",
        {"wrapper": "which no hook of citychain allows"},
        "@hookimpl(wrapper=True)\ndef citychain_cities(): return (yield)\n",
    ),
    # --- what it offers
    Fault(
        "a hook that raises",
        {"hook-failed": "throwaway_broken.py:5  citychain_cities failed: OSError: no list today"},
        cities("raise OSError('no list today')"),
    ),
    Fault(
        "a hook that hangs",
        {"hangs": "throwaway_broken.py:5  citychain_cities did not end within 3 s"},
        cities("[0 for _ in iter(int, 1)]"),
        load_seconds=3,
    ),
    Fault(
        "a catalogue that raises",
        {"hook-failed": "throwaway_broken.py:5  citychain_find_city failed: KeyError"},
        "@hookimpl\ndef citychain_find_city(name):\n    return {}[name]\n",
    ),
    Fault(
        "a catalogue that answers a name",
        {"wrong-type": "give a CityDefinition"},
        "@hookimpl\ndef citychain_find_city(name): return name\n",
    ),
    Fault("one for a list", {"not-a-list": "yield each city"}, cities("return None")),
    Fault(
        "an endless list",
        {"too-many": "answer citychain_find_city instead"},
        "from itertools import repeat\n" + cities("return repeat(0)"),
    ),
    Fault("another type", {"wrong-type": "give a CityDefinition"}, cities("yield 'harbour'")),
    Fault("a slug", {"slug": "'Harbour' is not a slug"}, cities("yield CityDefinition('Harbour')")),
    Fault(
        "a name",
        {"name": "'My Command' is not a name"},
        "@hookimpl\ndef citychain_commands(): yield CommandDefinition('My Command', print)\n",
    ),
    Fault(
        "a field of a city",
        {"city-field": "region is not a Disc"},
        cities("yield CityDefinition('harbour', region=5)"),
    ),
    Fault("a field of a part", {"part-field": "factory cannot be called"}, rule(factory="5")),
    Fault(
        "a future version",
        {"api-version": "made for api_version 99"},
        rule().replace("api_version=2", "api_version=99"),
    ),
    Fault(
        "a version that is missing",
        {"api-version-old": "read docs/compatibility.md and write api_version=2"},
        rule().replace(", api_version=2", ""),
    ),
    Fault(
        "a name that a built-in part has",
        {"conflict": "DAG handler 'sealed-rounds' is offered by citychain:citychain.dag.builtin"},
        rule().replace("tides", "sealed-rounds"),
    ),
    Fault(
        "a name twice",
        {"conflict": "city 'harbour' is offered twice"},
        cities("yield from 2 * [CityDefinition('harbour')]"),
    ),
    Fault(
        "a hidden command",
        {"command-hidden": "citychain has a command serve of its own"},
        "def serve(): ...\n"
        "@hookimpl\ndef citychain_commands(): yield CommandDefinition('serve', serve)\n",
    ),
    Fault(
        "no command",
        {"command-unusable": "no command can be made of hello"},
        "@hookimpl\ndef citychain_commands(): yield CommandDefinition('hello', 42)\n",
    ),
    Fault(
        "a part that is not there",
        {"city-parts": "no DAG handler 'sealed-round'; known: "},
        cities("yield CityDefinition('harbour', dag='sealed-round')"),
    ),
    Fault(
        "an option that is not there",
        {"city-parts": "tip"},
        cities("yield CityDefinition('harbour', dag='random-tips', dag_options={'tip': 3})"),
    ),
    # --- its options
    Fault(
        "an option without a word",
        {"option-undocumented": "tides: the option height has neither"},
        options(FORBID + '    height: int = 1\n    depth: int = 2\n    """In metres."""\n'),
    ),
    Fault(
        "options with a description",
        {},
        options(FORBID + '    height: int = Field(1, description="In metres.")\n'),
    ),
    Fault(
        "options that take any",
        {"options-extra": 'ConfigDict(extra="forbid")'},
        options('    height: int = 1\n    """In metres."""\n'),
    ),
    Fault(
        "options that must be given",
        {"options-needed": "tides cannot be tried: it needs height"},
        options(FORBID + '    height: int\n    """In metres."""\n'),
    ),
    Fault(
        "options that a city of the plugin gives",
        {},
        options(FORBID + '    height: int\n    """In metres."""\n')
        + cities("yield CityDefinition('harbour', dag='tides', dag_options={'height': 3})"),
    ),
    # --- its parts, at work
    Fault(
        "a factory that raises",
        {"factory-failed": "making it failed: TypeError"},
        rule(factory="lambda options: 5"),
    ),
    Fault(
        "a method that is missing",
        {"method-missing": "City has no method round_of_size"},
        MEMORY.format(city="round_of_size = None", backend=""),
    ),
    Fault(
        "a stub of the port",
        {
            "method-missing": "Rule has no method decide  write: async def decide(self, round: ",
            "not-final": "",
        },
        rule(
            before="from citychain.ports import DagHandler\nclass SealedRounds(DagHandler):\n"
            "    def __init__(self, city): ...\n"
        ),
    ),
    Fault(
        "a method with too few arguments",
        {"method-signature": "write: async def round_of_size(self, size: int)"},
        MEMORY.format(city="async def round_of_size(self): return None", backend=""),
    ),
    Fault(
        "a method that is no coroutine",
        {"method-not-async": "_broken.py:7  City.round_of_size is no coroutine"},
        MEMORY.format(city="def round_of_size(self, size): return None", backend=""),
    ),
    Fault(
        "other names of parameters",
        {"parameter-names": "City.notes(begin, known=None) names its parameters otherwise"},
        MEMORY.format(
            city="async def notes(self, begin, known=None): return await super().notes(begin)",
            backend="",
        ),
    ),
    Fault(
        "half of the votes",
        {"votes-incomplete": "Step has cast, and not object, recover"},
        APPROVE.format("", "async def cast(self, votes): return []"),
    ),
    Fault(
        "a backend that cannot be opened",
        {"city-failed": "storage shelf: opening it failed: OSError: no room"},
        MEMORY.format(city="...", backend="async def __aenter__(self): raise OSError('no room')"),
    ),
    Fault(
        "a step that raises",
        {"part-failed": "throwaway_broken.py:8  consensus bell: it raised an error: KeyError"},
        APPROVE.format("if not hasattr(self, 'once'): self.once = 1; raise KeyError('quorum')", ""),
    ),
    Fault(
        "a step that waits for ever",
        {"not-final": "if it waits for votes from elsewhere, all is well"},
        APPROVE.format("import asyncio; await asyncio.Event().wait()", ""),
    ),
    Fault("a sound fragment store", {}, STORE.format("...")),
    Fault(
        "a fragment store that raises",
        {"store-failed": "throwaway_broken.py:7  fragment store shelf: using it failed: KeyError"},
        STORE.format("async def put(self, key, size, parts): raise KeyError('disk')"),
    ),
    Fault(
        "a fragment store that gives back something else",
        {"store-failed": "fragment store shelf: read() does not give what was put"},
        STORE.format("async def read(self, key, offset, length): return bytes(length)"),
    ),
    Fault(
        "a fragment store with a method that is no coroutine",
        {"method-not-async": "throwaway_broken.py:7  Store.space is no coroutine"},
        STORE.format("def space(self): return None"),
    ),
    Fault(
        "a fragment store that sleeps",
        {"blocks-loop": "throwaway_broken.py:7  fragment store shelf: the event loop stood still"},
        STORE.format(
            "async def space(self): import time; time.sleep(0.3); return await super().space()"
        ),
    ),
    Fault(
        "a rule that sleeps",
        {"blocks-loop": "throwaway_broken.py:7  dag tides: the event loop stood still for "},
        rule(DECIDE.format("import time; time.sleep(0.3)")),
    ),
    Fault(
        "a rule that computes",
        {"blocks-loop": "throwaway_broken.py:7  dag tides: the event loop stood still for "},
        rule(DECIDE.format("sum(range(30_000_000))")),
    ),
    Fault(
        "a rule that computes while another thread wants the interpreter lock",
        {"blocks-loop": "throwaway_broken.py:20  dag tides: the event loop stood still for "},
        rule(DECIDE.format("with beside(): sum(range(30_000_000))"), before=BESIDE),
    ),
    Fault(
        "a rule that calls often",
        {"blocks-loop": "throwaway_broken.py:7  dag tides: the event loop stood still for "},
        rule(DECIDE.format("[pow(it, 1 << 64, 977) for it in range(60_000)]")),
    ),
    Fault(
        "a step that computes without a pause",
        {"blocks-loop": "throwaway_broken.py:8  consensus bell: the event loop stood still for "},
        APPROVE.format("[0 for _ in range(10_000_000)]", ""),
    ),
    Fault(
        "a rule that counts before it calls",
        {"blocks-loop": "throwaway_broken.py:7  dag tides: the event loop stood still for "},
        rule(DECIDE.format("for _ in range(10_000_000): pass\n        len(candidates)")),
    ),
    Fault(
        "a rule that never gives the loop back",
        {"hangs": "throwaway_broken.py:7  dag tides: using a city did not end within 5 s"},
        rule(DECIDE.format("import time; [time.sleep(0.001) for _ in iter(int, 1)]")),
        trial_seconds=5,
    ),
]
