"""Modules as their sources say: names, where they come from, signatures as they stand there.

Read, not imported: what a signature is does not depend on the Python that asks.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ["TREE", "Module", "field_texts", "first_sentence", "module"]

TREE: Final = Path(__file__).resolve().parents[2]
CONTRACT: Final = {"__init__", "__call__", "__aenter__", "__aexit__"}
"""Methods with underscores that callers rely on."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One module of citychain."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @cached_property
    def public(self) -> tuple[str, ...]:
        """``__all__``, in the order of the source for what is defined here."""
        names = set(import_module(self.name).__all__)
        defined = [name for name in self._definitions if name in names]
        return (*defined, *sorted(names.difference(defined)))

    @cached_property
    def homes(self) -> dict[str, str]:
        """Module by name, of what is imported from elsewhere in citychain."""
        return {
            alias.asname or alias.name: str(node.module)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("citychain")
            for alias in node.names
        }

    @cached_property
    def imported(self) -> dict[str, str]:
        """Full name by local name, of everything that the module imports."""
        names = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    names[alias.asname or alias.name] = alias.name
        return names

    @cached_property
    def _definitions(self) -> dict[str, ast.stmt]:
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, Definition):
                found.setdefault(node.name, node)
            elif isinstance(node, ast.Assign):
                found.update((it.id, node) for it in node.targets if isinstance(it, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
        return found

    def defines(self, name: str) -> bool:
        return name in self._definitions

    def kind(self, name: str) -> str:
        """What Sphinx calls it."""
        node = self._definitions[name]
        if isinstance(node, ast.ClassDef):
            return "class"
        return "function" if isinstance(node, Definition) else "data"

    def stub(self, name: str) -> str:
        """A definition without its texts and bodies, as it would stand in a ``.pyi`` file."""
        return "\n".join(self._stub(self._definitions[name]))

    def _stub(self, node: ast.stmt) -> Iterator[str]:
        indent = " " * node.col_offset
        if not isinstance(node, Definition):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            lines = self._lines(node.lineno, node.end_lineno)
            if len(lines) > 1 and isinstance(node, ast.AnnAssign):
                lines = [f"{indent}{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"]
            elif len(lines) > 1:
                lines = [f"{indent}{ast.unparse(node.targets[0])} = ..."]
            yield from lines
            return
        for decorator in node.decorator_list:
            yield f"{indent}@{ast.get_source_segment(self.text, decorator)}"
        head = self._head(node)
        inner = node.body if isinstance(node, ast.ClassDef) else []
        if shown := [line for part in inner if _shown(part) for line in self._stub(part)]:
            yield from [*head, *shown]
        else:
            yield from [*head[:-1], f"{head[-1]} ..."]

    def _head(self, node: Definition) -> list[str]:
        """A definition up to its colon."""
        first = node.body[0]
        line = min((it.lineno for it in getattr(first, "decorator_list", ())), default=first.lineno)
        *lines, last = self._lines(node.lineno, line)
        if before := last.encode()[: first.col_offset].decode().rstrip(" @"):
            lines.append(before)
        while not (text := lines[-1].partition("  #")[0].rstrip()):
            lines.pop()
        return [*lines[:-1], text]

    def _lines(self, first: int, last: int | None) -> list[str]:
        return self.text.splitlines()[first - 1 : last]


def _shown(node: ast.stmt) -> bool:
    """Whether a class's synopsis has this part of it."""
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    if isinstance(node, ast.Assign):
        name = ast.unparse(node.targets[0])
        return not name.startswith("_") and name != "model_config"
    return isinstance(node, Definition) and (not node.name.startswith("_") or node.name in CONTRACT)


@cache
def module(name: str) -> Module:
    """A module by its full name; a module of the extension is its ``.pyi`` file."""
    stem = TREE.joinpath(*name.split("."))
    for path in (stem / "__init__.py", stem.with_suffix(".py"), stem.with_suffix(".pyi")):
        if path.exists():
            return Module(name, path)
    raise LookupError(f"there is no module {name}")


def field_texts(owner: type) -> dict[str, str]:
    """The text below each field of a class and of its bases, as one paragraph."""
    texts: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base is object or base.__module__.startswith("pydantic"):
            continue
        [node] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                texts[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return texts


def first_sentence(docstring: str) -> str:
    """The first paragraph's first sentence, on one line."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return f"{sentence}." if stop else paragraph
