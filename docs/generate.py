"""Writes what the documentation takes from the code: ``python docs/generate.py``.

A page of ``docs/reference`` is written whole. Any other page is written by hand, and may have
blocks that are not::

    <!-- generated: settings -->
    ...
    <!-- end of generated text -->

`BLOCKS` says what each is made of. Nobody edits that text: it is as the code says, and
``tests/docs/test_generated.py`` holds it to that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from pages import access, alerts, commands, errors, findings, hooks, metrics, reference, settings

__all__ = ["BLOCKS", "generated", "main", "obsolete"]

DOCS: Final = Path(__file__).resolve().parent
BLOCK: Final = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z -]+) -->\n).*?"
    r"(?P<end><!-- end of generated text -->)",
    re.DOTALL,
)

BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "hooks": hooks.every_hook,
    "settings": settings.every_setting,
    "settings that reload": settings.what_reloads,
    "options of built-in parts": settings.options_of_parts,
    "commands": commands.every_command,
    "roles": access.every_role,
    "roles of calls": access.every_call,
    "errors": errors.every_class,
    "findings": findings.every_finding,
    "metrics": metrics.every_metric,
    "alerts": alerts.every_alert,
}


def generated() -> dict[Path, Callable[[], str]]:
    """Each page that has generated text, and what makes the page as it must be."""
    pages = {DOCS / "reference" / name: page for name, page in reference.pages().items()}
    for path in sorted(DOCS.rglob("*.md")):
        if path not in pages and "_build" not in path.parts:
            text = path.read_text("utf-8")
            if "<!-- generated: " in text:
                pages[path] = partial(BLOCK.sub, _block, text)
    return pages


def _block(match: re.Match[str]) -> str:
    return f"{match['begin']}\n{BLOCKS[match['name']]().strip()}\n\n{match['end']}"


def obsolete() -> set[Path]:
    """Pages of the reference whose module is not public any more."""
    return {*(DOCS / "reference").glob("*.md")} - generated().keys()


def main() -> int:
    """Write what has changed, and say so."""
    for path in obsolete():
        path.unlink()
        print(f"removed {path.relative_to(DOCS.parent)}")
    for path, page in generated().items():
        text = page()
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
