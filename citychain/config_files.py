"""The files that settings are read from.

Paths in them are relative to the folder of ``citychain.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from citychain.errors import ConfigurationError
from citychain.explain import Source, toml_place

__all__ = ["read_cities", "read_file"]


def read_file(config: Path, defaults: Mapping[str, str]) -> Source:
    """``citychain.toml``; paths in it, and in the defaults, are relative to its folder.

    Raises:
        ConfigurationError: it cannot be read.
    """
    text, values = _read_toml(config)
    folder = config.absolute().parent
    values = {**defaults, **values}
    for key in ("data_dir", "operator_key", "cities_from"):
        _make_absolute(values, key, folder)
    if isinstance(auth := values.get("auth"), dict):
        _make_absolute(auth, "keys", folder)
    _make_cities_absolute(values, folder)
    for table in _tables(values, "peers"):
        _make_absolute(table, "genesis", folder)
        _make_absolute(table, "token_file", folder)
    for owner in (values.get("server"), *_tables(values, "peers")):
        if isinstance(owner, dict) and isinstance(tls := owner.get("tls"), dict):
            for key in tls:  # All of them are files.
                _make_absolute(tls, key, folder)
    return Source(values, partial(toml_place, config, text))


def read_cities(files: Any, config: Path | None) -> tuple[Source, ...]:
    """The files of ``cities_from``; what is no list of them is told when it is validated.

    Raises:
        ConfigurationError: one cannot be read, or has other tables.
    """
    if not isinstance(files, list | tuple) or not all(isinstance(it, str | Path) for it in files):
        return ()
    sources = []
    for file in map(Path, files):
        text, values = _read_toml(file)
        if other := values.keys() - {"cities"}:
            raise ConfigurationError(
                f"{toml_place(file, text, (min(other),))}{min(other)}: only [cities.SLUG] tables "
                f"can stand in a file of cities_from"
            )
        _make_cities_absolute(values, config.absolute().parent if config else Path())
        sources.append(Source(values, partial(toml_place, file, text)))
    return tuple(sources)


def _read_toml(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text("utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _make_cities_absolute(values: dict[str, Any], folder: Path) -> None:
    for table in _tables(values, "cities"):
        for key in ("genesis", "representatives"):
            _make_absolute(table, key, folder)
        members = table.get("committee")
        for member in members if isinstance(members, list) else ():
            if isinstance(member, dict):
                _make_absolute(member, "key", folder)


def _tables(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The tables ``[name.SLUG]``; what is none is told when it is validated."""
    tables = values.get(name)
    found = tables.values() if isinstance(tables, dict) else ()
    return [table for table in found if isinstance(table, dict)]


def _make_absolute(table: dict[str, Any], key: str, folder: Path) -> None:
    """Let a path, or each of a list, be relative to a folder."""
    value = table.get(key)
    if isinstance(value, str):
        table[key] = folder / value
    elif isinstance(value, list):
        table[key] = [folder / path if isinstance(path, str) else path for path in value]
