"""The files of a new plugin, from the templates that stand beside this module."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata, resources
from string import Template
from typing import Final

__all__ = ["Kind", "distribution_name", "plugin_files"]


class Kind(StrEnum):
    """What a plugin can begin with."""

    CITY = "city"
    STORAGE = "storage"
    STORE = "store"
    DAG = "dag"
    CONSENSUS = "consensus"


@dataclass(frozen=True)
class _Part:
    """What one kind adds."""

    what: str
    modules: tuple[str, ...]
    """The first has the definition and the hook, and the test is called after it."""
    hook: str
    name: str = ""
    """What follows the plugin's own name in the part's; a city has the plugin's."""


PARTS: Final[Mapping[Kind, _Part]] = {
    Kind.CITY: _Part("a city", ("city",), "citychain_cities"),
    Kind.STORAGE: _Part(
        "a storage backend", ("storage", "journal"), "citychain_storage_backends", "-journal"
    ),
    Kind.STORE: _Part("a fragment store", ("store",), "citychain_fragment_stores", "-shelf"),
    Kind.DAG: _Part("a rule of what is valid", ("rule",), "citychain_dag_handlers", "-rule"),
    Kind.CONSENSUS: _Part("a consensus step", ("step",), "citychain_consensus_steps", "-step"),
}

SERVED: Final = """
`citychain serve` serves the city by its name, `$name`, and needs no table for it.
"""
USED: Final = """
A city uses it by a line in its table in `citychain.toml`:

```toml
[cities.somewhere]
$lines
```
"""
STORED: Final = """
Fragments are kept there by a table in `citychain.toml`:

```toml
[fragments.stores.somewhere]
kind = "$part"
```
"""
PINNED: Final = """
The genesis of a city pins its rule and its step, with their options: where one of them begins to
decide otherwise, its `version` has to rise.
"""


def distribution_name(name: str) -> str:
    """Of the plugin of this name."""
    return f"citychain-{name}"


def plugin_files(name: str, kinds: Collection[Kind]) -> dict[str, str]:
    """What stands in each file of a new plugin, by its path in the distribution's folder.

    Args:
        name: One that `citychain.cli.new_plugin.names.check_name` lets pass.
        kinds: At least one.
    """
    from citychain.hooks.definitions import API_VERSION

    parts = {kind: part for kind, part in PARTS.items() if kind in kinds}
    module = distribution_name(name).replace("-", "_")
    values = {
        "api_version": str(API_VERSION),
        "citychain": metadata.version("citychain"),
        "distribution": distribution_name(name),
        "module": module,
        "name": name,
        "spaced": name.replace("-", " "),
        "title": name.replace("-", " ").title(),
    } | _listed(parts, name, module)
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "readme.md",
        ".gitignore": "gitignore",
        f"src/{module}/__init__.py": "init.py",
    }
    for part in parts.values():
        files |= {f"src/{module}/{stem}.py": f"{stem}.py" for stem in part.modules}
        files[f"tests/test_{part.modules[0]}.py"] = f"test_{part.modules[0]}.py"
    templates = resources.files(__package__)
    texts = {
        path: Template((templates / f"{template}.template").read_text("utf-8"))
        for path, template in files.items()
    }
    return {path: text.substitute(values) for path, text in texts.items()} | {
        f"src/{module}/py.typed": ""
    }


def _listed(parts: Mapping[Kind, _Part], name: str, module: str) -> dict[str, str]:
    """What depends on the kinds, as the templates have it."""
    *first, last = [part.what for part in parts.values()]
    what = " and ".join(filter(None, [", ".join(first), last]))
    hooks = sorted((part.modules[0], part.hook) for part in parts.values())
    called = {kind: f"{name}{part.name}" for kind, part in parts.items() if part.name}
    store = called.pop(Kind.STORE, None)
    settings = {kind: f'"{part}"' for kind, part in called.items()}
    use = ""
    if Kind.CITY in parts:
        use += Template(SERVED).substitute(name=name)
    if settings:
        lines = "\n".join(f"{kind} = {part}" for kind, part in settings.items())
        use += Template(USED).substitute(lines=lines)
    if store:
        use += Template(STORED).substitute(part=store)
    if {Kind.DAG, Kind.CONSENSUS} & parts.keys():
        use += PINNED
    return {
        "summary": f"{what[0].upper()}{what[1:]} for citychain",
        "files": "\n".join(
            f"| {' and '.join(f'`{stem}.py`' for stem in part.modules)} | {part.what} |"
            for part in parts.values()
        ),
        "use": use.strip(),
        "imports": "\n".join(f"from {module}.{stem} import {hook}" for stem, hook in hooks),
        "hooks": "\n".join(f'    "{hook}",' for hook in sorted(hook for _, hook in hooks)),
        "parts": "".join(f"    {kind}={part},\n" for kind, part in settings.items()),
    }
