"""``docs/settings.md``: every setting and option, from the pydantic models that check them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from citychain.client import builtin as client_parts
from citychain.config import (
    CitySettings,
    ClusterSettings,
    CryptoSettings,
    ExchangeSettings,
    LimitsSettings,
    PacerSettings,
    PeerSettings,
    PluginsSettings,
    ServerSettings,
    Settings,
    StorageSettings,
)
from citychain.config_archive import ArchiveSettings
from citychain.config_auth import AuthSettings, RatesSettings
from citychain.config_environment import ENVIRONMENT_PREFIX
from citychain.config_fragments import FragmentsSettings, FragmentStoreSettings
from citychain.config_metrics import MetricsSettings
from citychain.config_reload import TAKEN_UP
from citychain.config_tables import duration_text
from citychain.config_tls import ClientTlsSettings, ServerTlsSettings
from citychain.config_traces import TracesSettings
from citychain.consensus.builtin import citychain_consensus_steps
from citychain.dag.builtin import citychain_dag_handlers
from citychain.fragments.builtin import citychain_fragment_stores
from citychain.genesis import Representative
from citychain.storage.builtin import citychain_storage_backends
from pages.source import field_texts
from pages.tables import cell, code, number, table

__all__ = ["TABLES", "Undescribed", "every_setting", "options_of_parts", "parts", "rows"]

TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "": Settings,
    "server": ServerSettings,
    "server.tls": ServerTlsSettings,
    "auth": AuthSettings,
    "rates": RatesSettings,
    "cluster": ClusterSettings,
    "plugins": PluginsSettings,
    "pacer": PacerSettings,
    "limits": LimitsSettings,
    "crypto": CryptoSettings,
    "exchange": ExchangeSettings,
    "fragments": FragmentsSettings,
    "fragments.stores.NAME": FragmentStoreSettings,
    "archive": ArchiveSettings,
    "metrics": MetricsSettings,
    "traces": TracesSettings,
    "peers.SLUG": PeerSettings,
    "peers.SLUG.tls": ClientTlsSettings,
    "storage.NAME": StorageSettings,
    "cities.SLUG": CitySettings,
    "[cities.SLUG.committee]": Representative,
}
"""Models by the header of their table in citychain.toml."""

UNITS: Final = {
    "seconds": "seconds",
    "mib": "MiB",
    "kib": "KiB",
    "m": "metres",
    "mps": "m/s",
    "ms": "milliseconds",
    "permille": "thousandths",
    "hashes": "hashes",
    "rounds": "rounds",
    "keys": "keys",
    "connections": "connections",
    "calls": "calls",
    "tx": "transactions",
    "transactions": "transactions",
    "pending": "transactions",
    "seats": "seats",
    "candidates": "candidates",
    "witnesses": "witnesses",
    "tips": "tips",
    "window": "rounds",
    "stake": "units of the asset",
    "data": "fragments",
    "parity": "fragments",
    "cities": "cities",
    "ratio": "share",
    "weight": "number",
    "author": "transactions a second",
    "second": "calls a second",
}
"""Unit of a number by a word of its name, the first word here that it has."""


class Undescribed(Exception):
    """Raised when a setting does not say what it is."""


def parts() -> dict[str, type[BaseModel]]:
    """Options of the built-in parts that have any, by the part's name."""
    offered = (
        *citychain_storage_backends(),
        *citychain_dag_handlers(),
        *citychain_consensus_steps(),
        *citychain_fragment_stores(),
        *client_parts.citychain_fragment_stores(),
    )
    return {it.name: it.options for it in offered if it.options.model_fields}


def every_setting() -> str:
    """A section for each table of citychain.toml."""
    return "\n\n".join(_section(header, model) for header, model in TABLES.items())


def what_reloads() -> str:
    """A row for each key or table that a server takes up while it runs."""
    return table(("changed", ""), [(f"`{key}`", text) for key, text in TAKEN_UP.items()])


def options_of_parts() -> str:
    """A section for each built-in part that has options."""
    sections = []
    for name, model in parts().items():
        head = ("option", "default", "is", "")
        sections.append(f"### {name}\n\n{table(head, rows(model, None))}")
    return "\n\n".join(sections)


def _section(header: str, model: type[BaseModel]) -> str:
    title = f"`[{header}]`" if header else "At the top"
    path = None if "SLUG" in header or "NAME" in header else header.split(".") if header else []
    head = ("setting", "default", "is", "") if path is None else (
        "setting", "variable", "default", "is", ""
    )  # fmt: skip
    return f"### {title}\n\n{table(head, rows(model, path))}"


def rows(model: type[BaseModel], path: list[str] | None) -> list[list[str]]:
    """A row for each field that is no table of its own; with its variable where one is told."""
    texts = field_texts(model)
    properties = model.model_json_schema(mode="validation").get("properties", {})
    definitions = model.model_json_schema(mode="validation").get("$defs", {})
    found = []
    for name, field in model.model_fields.items():
        if _is_table(field.annotation) and model in TABLES.values():
            continue
        if not texts.get(name):
            raise Undescribed(
                f"{model.__module__}.{model.__name__}.{name}: say below it what it is"
            )
        variable = "__".join([*(path or []), name]).upper()
        row = [
            code(name),
            *([] if path is None else [code(f"{ENVIRONMENT_PREFIX}{variable}")]),
            _default(field.get_default(call_default_factory=True), field.is_required()),
            _kind(properties[name], definitions, name),
            cell(texts[name]),
        ]
        found.append(row)
    return found


def _is_table(annotation: Any) -> bool:
    """Whether a setting's value is of a model that has a section of its own."""
    if annotation in TABLES.values():
        return True
    return get_origin(annotation) is dict and get_args(annotation)[-1] in TABLES.values()


def _default(value: Any, required: bool) -> str:
    if required or value is PydanticUndefined:
        return "none: it must be given"
    if isinstance(value, timedelta):
        return code(json.dumps(duration_text(value)))
    if value is None or value in ({}, ()):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return code(json.dumps(str(value) if isinstance(value, Path) else value))
    return number(value)


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any], name: str) -> str:
    """What values a setting takes, in words."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions, name)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            kinds = (
                _kind(one, definitions, name)
                for one in schema[several]
                if one.get("type") != "null"
            )
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(code(json.dumps(one)) for one in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return f"{_unit(name)}{_bounds(schema)}"
    if kind == "array":
        return "list"
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "object":
        return "table"
    if schema.get("format") == "duration":
        return "duration, such as `90s`, `15m`, `1h` or `180d`"
    return {"path": "path", None: "anything"}.get(schema.get("format", ""), "text")


def _unit(name: str) -> str:
    if name.endswith("_mib_s"):
        return "MiB/s"
    words = name.split("_")
    for word, unit in UNITS.items():
        if word in words:
            return unit
    raise Undescribed(f"{name}: UNITS has no unit for this number")


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        above = f", more than {number(schema['exclusiveMinimum'])}"
        return above + (f", at most {number(most)}" if most is not None else "")
    if least is None:
        return ""
    return f", {number(least)} to {number(most)}" if most is not None else f", from {number(least)}"
