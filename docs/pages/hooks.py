"""``docs/hooks.md``: each hook's signature and docstring, from ``citychain/hooks/specs.py``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Final

from citychain.hooks import specs
from pages.source import module

__all__ = ["every_hook"]

LABELS: Final = ("Called:", "Returns:")
"""Sections of a hook's docstring that are one paragraph."""


def every_hook() -> str:
    """A section for each hook."""
    source = module(specs.__name__)
    return "\n\n".join(
        _section(name, source.stub(name)) for name in source.public if name.startswith("citychain_")
    )


def _section(name: str, stub: str) -> str:
    signature = re.sub(r"^@hookspec.*\n", "", stub)
    signature = re.sub(r": \.\.\.$|:  # .*$", ": ...", signature)
    ast.parse(signature)
    text = _markdown(inspect.getdoc(getattr(specs, name)) or "")
    return f"## {name}\n\n```python\n{signature}\n```\n\n{text}"


def _markdown(docstring: str) -> str:
    """A docstring as markdown: sections as lists, what follows ``::`` as Python."""
    blocks: list[str] = []
    for block in re.split(r"\n{2,}(?=\S)", docstring):
        head, _, body = block.partition("\n")
        intro, has_code, code = block.partition("::\n\n")
        if head in LABELS:
            blocks.append(f"**{head}** {_plain(body)}")
        elif head == "Args:":
            items = re.split(r"\n(?=\S)", textwrap.dedent(body).strip())
            blocks.append("\n".join(f"- `{_plain(it).replace(':', '`:', 1)}" for it in items))
        elif has_code:
            blocks.append(f"{intro}:\n\n```python\n{textwrap.dedent(code).strip()}\n```")
        else:
            blocks.append(_plain(block))
    return "\n\n".join(blocks)


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
