"""``docs/reference``: a page for each public module, with its signatures and texts.

On a code host a page shows both as they stand in the source. On the site (``texts=False``) the
signatures stand alone, and Sphinx adds the texts, with links.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from typing import Final

from pages.source import TREE, Module, first_sentence, module

__all__ = ["INTERNAL", "PUBLIC", "page", "pages", "public_modules"]

PUBLIC: Final = {
    "For plugins": (
        "citychain",
        "citychain.ports*",
        "citychain.upkeep",
        "citychain.types",
        "citychain.errors",
        "citychain.hooks.definitions",
        "citychain.genesis",
        "citychain.handler",
    ),
    "Parts to build on": (
        "citychain.storage*",
        "citychain.dag*",
        "citychain.consensus*",
        "citychain.fragments.directory",
        "citychain.fragments.ipfs",
        "citychain.fragments.memory",
        "citychain.fragments.s3",
    ),
    "For tests": ("citychain.testing*",),
    "For applications": ("citychain.client*",),
    "For verifiers": (
        "citychain.receipt",
        "citychain.acknowledgement",
        "citychain.checkpoint",
        "citychain.record",
        "citychain.presence",
        "citychain.region",
        "citychain.holding.challenge",
        "citychain.holding.recount",
        "citychain.rewards.calculation",
        "citychain.rewards.counting",
        "citychain.rewards.comparing",
        "citychain.crypto*",
    ),
    "For operators": ("citychain.config",),
}
"""Modules by heading; with a star, those inside it too. The rest is internal, and may change in
any release."""

INTERNAL: Final = {
    "citychain.storage.builtin": "registers what others define",
    "citychain.dag.builtin": "registers what others define",
    "citychain.consensus.builtin": "registers what others define",
    "citychain.consensus.votes": "the votes of poh-pop",
    "citychain.client.builtin": "registers what others define",
    "citychain.client.errors": "from statuses to errors",
    "citychain.client.files": "writes files",
    "citychain.client.retries": "repeats calls",
    "citychain.client.submission": "what CityClient.submit does",
}
"""Modules within a starred package that are not public all the same, and what they are for."""

HOOKS: Final = "citychain.hooks.specs"
"""It has a page of its own: ``docs/hooks.md``."""

WRITTEN: Final = "<!-- Written by docs/generate.py: edit the docstrings instead. -->"


@cache
def public_modules() -> dict[str, str]:
    """Heading by full name, in the order of `PUBLIC`."""
    return {
        name: heading
        for heading, patterns in PUBLIC.items()
        for pattern in patterns
        for name in _expanded(pattern)
    }


def _expanded(pattern: str) -> Iterator[str]:
    name = pattern.removesuffix("*")
    package = import_module(name)
    below = pkgutil.walk_packages(package.__path__, f"{name}.") if pattern != name else ()
    for found in (name, *(it.name for it in below)):
        private = any(part.startswith("_") for part in found.split("."))
        if not private and found not in INTERNAL and module(found).public:
            yield found


def pages() -> dict[str, Callable[[], str]]:
    """What makes each page, by its file's name."""
    return {
        "index.md": _index,
        **{f"{name}.md": partial(page, name) for name in public_modules()},
    }


def _index() -> str:
    text = f"""\
{WRITTEN}

# Reference

The public names of citychain, module by module, as they stand in the source: signatures, and
what the docstrings say of arguments, answers and errors. The site (`make docs`) has the same with
links. What is not here is internal, and may change in any release.
"""
    last = ""
    for name, heading in public_modules().items():
        if heading != last:
            text += f"\n## {heading}\n\n"
            last = heading
        text += f"- [`{name}`]({name}.md): {_summary(module(name))}\n"
    names = "\n".join(public_modules())
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def page(name: str, texts: bool = True) -> str:
    """The page of a public module."""
    it = module(name)
    path = it.path.relative_to(TREE).as_posix()
    text = f"{WRITTEN}\n\n# {it.name}\n\n{_summary(it)}\n\nSource: [`{path}`](../../{path})\n"
    shown = {name: _home(it, name) for name in it.public}
    if elsewhere := {name: home for name, home in shown.items() if not _is_shown_here(it, home)}:
        rows = "\n".join(f"| `{name}` | {_link(home, name)} |" for name, home in elsewhere.items())
        text += f"\n| name | stands in |\n|---|---|\n{rows}\n"
    here = {name: home for name, home in shown.items() if name not in elsewhere}
    about = [f'"""{it.docstring}\n"""'] if texts and "\n" in it.docstring else []
    if source := [*about, *(home.stub(name, texts) for name, home in here.items())]:
        between = "\n\n\n" if texts else "\n\n"
        text += f"\n```python\n{between.join(source)}\n```\n"
    directives = f".. automodule:: {it.name}\n"
    for name, home in here.items():
        kind = home.kind(name)
        directives += f"\n.. auto{kind}:: {home.name}.{name}\n"
        directives += "   :members:\n" if kind == "class" else ""
    return f"{text}\n```{{eval-rst}}\n{directives}```\n"


def _home(it: Module, name: str) -> Module:
    """The module that defines a public name of another."""
    while not it.defines(name):
        it = module(it.homes[name])
    return it


def _is_shown_here(it: Module, home: Module) -> bool:
    """What is not public where it is defined is shown on the page of the module that offers it."""
    return home is it or (home.name not in public_modules() and home.name != HOOKS)


def _link(home: Module, name: str) -> str:
    page = "../hooks.md" if home.name == HOOKS else f"{home.name}.md"
    return f"[`{home.name}.{name}`]({page})"


def _summary(it: Module) -> str:
    """What a module is, as markdown."""
    return first_sentence(it.docstring).replace("``", "`").removesuffix("::")
