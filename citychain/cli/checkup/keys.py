"""Key files, and who may read what is secret."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr

from citychain.access.keys import read_public_keys
from citychain.cli.checkup.examined import Examined
from citychain.cli.checkup.results import Result, fault, ok, warning
from citychain.client.keys import load_key
from citychain.errors import CitychainError, ConfigurationError
from citychain.explain import place

__all__ = ["check_keys", "check_secrets"]


def check_keys(examined: Examined) -> Iterator[Result]:
    """The keys of the operator, of representatives inside the server, and of tokens."""
    settings = examined.settings
    files = {"operator_key": [settings.operator_key]}
    for slug, city in settings.cities.items():
        files[f"cities.{slug}.representatives"] = list(city.representatives)
    for setting, paths in files.items():
        for path in paths:
            if not path.exists():
                fix = f"citychain keygen {path}, or bring back the one that founded the cities"
                yield fault(setting, f"{path}: there is no such file", fix)
                continue
            try:
                load_key(path)
            except ConfigurationError as error:
                yield fault(setting, str(error), "mend the file, or name another one")
            else:
                yield ok(setting, f"{path} can be used")
    if settings.auth.keys:
        try:
            keys = read_public_keys(settings.auth.keys)
        except ConfigurationError as error:
            yield fault("auth.keys", str(error), "mend the file, or name another one")
        else:
            yield ok("auth.keys", f"{len(keys)} can be used")


def check_secrets(examined: Examined) -> Iterator[Result]:
    """Files that nobody else should be able to read. What is in them is not looked at."""
    loose = 0
    for setting, path in _secret_files(examined):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            loose += 1
            yield fault(setting, f"{path}: {error.strerror}", "bring the file, or name another one")
            continue
        if mode & 0o077:
            loose += 1
            yield warning(
                setting,
                f"{path} has mode {mode:o}: others than its owner can use it",
                f"chmod 600 {path}",
            )
    if not loose:
        yield ok("secrets", "nobody but their owner can read their files")


def _secret_files(examined: Examined) -> Iterator[tuple[str, Path]]:
    settings = examined.settings
    # The operator's key and those of representatives are refused where others can read them.
    if settings.server.tls is not None:
        yield "server.tls.key", settings.server.tls.key
    for slug, peer in settings.peers.items():
        if peer.token_file is not None:
            yield f"peers.{slug}.token_file", peer.token_file
        if peer.tls is not None and peer.tls.key is not None:
            yield f"peers.{slug}.tls.key", peer.tls.key
    options: list[tuple[tuple[str, ...], BaseModel]] = []
    if not isinstance(examined.stores, CitychainError):
        options += [(("fragments", "stores", it.name), it.options) for it in examined.stores]
    for name, part in examined.storages.items():
        if not isinstance(part, CitychainError):
            options.append((("storage", name), part.options))
    for table, model in options:
        for field in type(model).model_fields:
            value, key = getattr(model, field), (*table, field)
            if isinstance(value, Path) and field.endswith("_file"):
                yield ".".join(key), value
            elif isinstance(tls_key := getattr(value, "key", None), Path):
                yield f"{'.'.join(key)}.key", tls_key
            elif (
                isinstance(value, SecretStr)
                and settings.file is not None
                # Else it is from the environment, which is nobody's to read.
                and place(settings.sources, key).startswith(f"{settings.file}:")
            ):
                yield f"{'.'.join(key)}, which is in the configuration", settings.file
