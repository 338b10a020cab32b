"""The documentation as a site: ``make docs``. Why with Sphinx: design/docs-with-sphinx.md.

Our docstrings name Python objects in single backticks, most by their last names. `resolve` finds
which they are; a name that is none fails the build.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from sphinx.util.nodes import make_refnode

DOCS: Final = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from pages.reference import page, public_modules  # noqa: E402
from pages.source import module  # noqa: E402

# Autodoc imports what is not imported yet twice, once pretending to be a type checker, which
# pydantic does not survive.
for name in public_modules():
    import_module(name)

project = "citychain"
author = "the citychain authors"
copyright = author
release = metadata.version("citychain")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["_build", "verifier"]
html_theme = "furo"
html_title = f"citychain {release}"
html_copy_source = False

# Anchors of headings, as a code host makes them.
myst_heading_anchors = 4

nitpicky = True
nitpick_ignore_regex = [
    # Messages of the wire: docs/protocol.md describes them.
    ("py:class", r"citychain\.v1\..*"),
    # A bound within an annotation.
    ("py:class", r"[0-9.]+"),
]
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_default_options = {"undoc-members": True, "exclude-members": "model_config"}
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False

# `sphinx-build -b linkcheck` asks each external link's server: by hand, where there is a network.
linkcheck_timeout = 20
linkcheck_workers = 4

HOOK: Final = "citychain.hooks.specs.citychain_"
FOREIGN: Final = {
    *sys.stdlib_module_names,
    "apsw",
    "dependency_injector",
    "google",
    "grpc",
    "pluggy",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "pytest",
    "typer",
}
"""Libraries whose objects are named without a link: their inventories are elsewhere, and a build
asks no network."""


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find what a docstring or an annotation names, where Sphinx does not.

    In this order: what the module imports by that name, what it defines, what a documented class
    or module has by that name. What exists and is not documented is left without a link.
    """
    if node.get("refdomain") != "py":
        return None
    if not re.fullmatch(r"[\w.]+", node["reftarget"]):
        return content  # No name: code that stands in single backticks.
    objects = env.domains.python_domain.objects
    for name in _full_names(node["reftarget"], node.get("py:module"), node.get("py:class")):
        home = _defined_as(name)
        if home.startswith(HOOK):
            return _link(app, node, "hooks", home.removeprefix("citychain.hooks.specs."), content)
        if home in objects:
            found = objects[home]
            return _link(app, node, found.docname, found.node_id, content)
        if home.partition(".")[0] in FOREIGN or _exists(home):
            return content
    ends = {
        found.node_id: found
        for name, found in objects.items()
        if name.endswith(f".{node['reftarget']}")
    }
    if len(ends) == 1:
        [found] = ends.values()
        return _link(app, node, found.docname, found.node_id, content)
    return content if ends else None


def _full_names(target: str, within: str | None, owner: str | None) -> Iterator[str]:
    """What a name may be short for."""
    first, dot, rest = target.partition(".")
    if within and within.startswith("citychain"):
        if first in module(within).imported:
            yield f"{module(within).imported[first]}{dot}{rest}"
        if owner:
            yield f"{within}.{owner}.{target}"
        yield f"{within}.{target}"
    yield f"citychain.{target}"
    yield f"builtins.{target}" if not dot else target
    yield target


@cache
def _defined_as(name: str) -> str:
    """The full name by which an object of citychain is documented: that of its own module."""
    owner, _, last = name.rpartition(".")
    if name.startswith("citychain") and owner.startswith("citychain"):
        try:
            home = module(owner).homes.get(last)
        except LookupError:
            return f"{_defined_as(owner)}.{last}"
        return _defined_as(f"{home}.{last}") if home and home != owner else name
    return name


@cache
def _exists(name: str) -> bool:
    """Whether there is such an object."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            fields = {**getattr(found, "__annotations__", {}), **getattr(found, "model_fields", {})}
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, None)
        return True
    return False


def _link(app: Any, node: Any, page: str, anchor: str, content: Any) -> Any:
    return make_refnode(app.builder, node["refdoc"], page, anchor, content)


def leave_texts_to_autodoc(app: Any, name: str, source: list[str]) -> None:
    """Take the page of a module without the texts that autodoc adds, so that none stands twice."""
    if (documented := name.removeprefix("reference/")) in public_modules():
        source[0] = page(documented, texts=False)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", leave_texts_to_autodoc)
    app.connect("missing-reference", resolve)
