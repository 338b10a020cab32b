"""The table of ``docs/operations.md``: every alert, and what to do when it fires."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

from pages.tables import cell, code, table

__all__ = ["every_alert"]

RULES: Final = Path(__file__).resolve().parents[1] / "observability" / "alerts.yml"


def every_alert() -> str:
    """A row for each."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return table(
        ("alert", "severity", "says", "do"),
        [
            [
                code(rule["alert"]),
                rule["labels"]["severity"],
                _readable(rule["annotations"]["summary"]),
                _readable(rule["annotations"]["action"]),
            ]
            for rule in rules
        ],
    )


def _readable(annotation: str) -> str:
    """Without templates: a label by its name."""
    return cell(re.sub(r"{{ *\$labels\.(\w+) *}}", r"*\1*", annotation))
