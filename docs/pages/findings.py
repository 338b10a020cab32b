"""The table of ``docs/plugins.md``: what ``citychain plugins doctor`` can find."""

from __future__ import annotations

from citychain.cli.doctor import FINDINGS
from pages.tables import cell, code, table

__all__ = ["every_finding"]


def every_finding() -> str:
    """A row for each."""
    rows = [
        [code(name), row.level, cell(row.meaning), cell(row.fix)] for name, row in FINDINGS.items()
    ]
    return table(("code", "level", "means", "what to do"), rows)
