"""The tables of ``docs/access.md``, from the roles and the one table of calls."""

from __future__ import annotations

from citychain.access.table import NEEDS
from citychain.roles import Role
from pages.source import field_texts
from pages.tables import cell, code, table

__all__ = ["every_call", "every_role"]


def every_role() -> str:
    """A row for each role."""
    texts = field_texts(Role)
    return table(
        ("role", "lets its holder"),
        [[code(role.value), cell(texts[role.name])] for role in Role],
    )


def every_call() -> str:
    """A row for each role that a service needs, with its calls."""
    rows: dict[tuple[str, str], list[str]] = {}
    for path, need in NEEDS.items():
        service, _, method = path[1:].partition("/")
        role = "none" if need.role is None else code(need.role.value)
        if need.role is not None and not need.of_city:
            role += ", in any city"
        rows.setdefault((service, role), []).append(code(method))
    return table(
        ("service", "role", "calls"),
        [[code(service), role, ", ".join(calls)] for (service, role), calls in rows.items()],
    )
