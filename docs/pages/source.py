"""Modules as their sources say: names, where they come from, signatures as they stand there.

Read, not imported: what a signature is does not depend on the Python that asks.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
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

    def stub(self, name: str, texts: bool = False) -> str:
        """A definition without bodies, as it would stand in a ``.pyi`` file, with its texts or
        without. A class has what it inherits from private ones, always with texts: no other
        page, and no autodoc, has those."""
        node = self._definitions[name]
        inherited = [*self._inherited(node)] if isinstance(node, ast.ClassDef) else []
        below = self._text_below(self.tree.body, node) if texts else []
        return "\n".join([*self._stub(node, texts, inherited), *below])

    def _inherited(self, node: ast.ClassDef) -> Iterator[str]:
        known = {_name(part) for part in node.body}
        for base, home in self._private_bases(node):
            fresh = [part for part in base.body if _shown(part) and _name(part) not in known]
            known |= {_name(part) for part in fresh}
            if fresh:
                yield from ["", f"    # from {base.name}"]
                yield from home._members(base, fresh, texts=True)

    def _private_bases(self, node: ast.ClassDef) -> Iterator[tuple[ast.ClassDef, Module]]:
        """Classes of citychain that it inherits from and no page shows, nearest first."""
        for expression in node.bases:
            name = ast.unparse(expression).partition("[")[0]
            home = self if self.defines(name) else None
            if home is None and name in self.homes:
                home = module(self.homes[name])
            if home is None or not home.defines(name):
                continue
            if any(part.startswith("_") for part in (*home.name.split("."), name)):
                base = home._definitions[name]
                assert isinstance(base, ast.ClassDef)
                yield base, home
                yield from home._private_bases(base)

    def _stub(self, node: ast.stmt, texts: bool, inherited: Sequence[str] = ()) -> Iterator[str]:
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
        inner = [*filter(_shown, node.body)] if isinstance(node, ast.ClassDef) else []
        text = self._text(node.body[0]) if texts else []
        if text and inner and not isinstance(inner[0], Definition):
            text.append("")
        if shown := [*text, *self._members(node, inner, texts), *inherited]:
            yield from [*head, *shown]
        else:
            yield from [*head[:-1], f"{head[-1]} ..."]

    def _members(self, owner: Definition, parts: Sequence[ast.stmt], texts: bool) -> Iterator[str]:
        for part in parts:
            if texts and isinstance(part, Definition):
                yield ""
            yield from self._stub(part, texts)
            if texts:
                yield from self._text_below(owner.body, part)

    def _text_below(self, body: Sequence[ast.stmt], node: ast.stmt) -> list[str]:
        """The text below a field or a constant."""
        place = body.index(node) + 1
        is_field = isinstance(node, ast.Assign | ast.AnnAssign)
        return self._text(body[place]) if is_field and place < len(body) else []

    def _text(self, node: ast.stmt) -> list[str]:
        """A text as it stands in the source."""
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text or node.value.value is ...:
            return []
        return self._lines(node.lineno, node.end_lineno)

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


def _name(node: ast.stmt) -> str:
    if isinstance(node, Definition):
        return node.name
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else ""


def _shown(node: ast.stmt) -> bool:
    """Whether a class's synopsis has this part of it."""
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    if isinstance(node, ast.Assign):
        name = _name(node)
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
        if base.__module__.partition(".")[0] in ("builtins", "enum", "pydantic"):
            continue
        [node] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if (
                isinstance(field, ast.Assign | ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                texts[_name(field)] = " ".join(str(below.value.value).split())
    return texts


def first_sentence(docstring: str) -> str:
    """The first paragraph's first sentence, on one line."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return f"{sentence}." if stop else paragraph
