"""The environment as a source of settings; `citychain.config` has its rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from citychain.errors import ConfigurationError
from citychain.explain import Key, Source
from citychain.nearest import did_you_mean

__all__ = ["CONFIG_VARIABLE", "ENVIRONMENT_PREFIX", "read_environment", "read_mongodb", "variable"]

ENVIRONMENT_PREFIX: Final = "CITYCHAIN_"
CONFIG_VARIABLE: Final = "CITYCHAIN_CONFIG"


class _Variables(EnvSettingsSource):
    """Variables as nested values; only what looks like JSON is read as JSON."""

    def __init__(self, variables: Mapping[str, str | None], settings: type[BaseSettings]) -> None:
        super().__init__(
            settings,
            case_sensitive=False,
            env_prefix=ENVIRONMENT_PREFIX,
            env_nested_delimiter="__",
            env_ignore_empty=True,
        )
        self.env_vars = variables

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        if isinstance(value, str) and value.lstrip()[:1] not in ("[", "{"):
            return value
        return super().decode_complex_value(field_name, field, value)


def read_environment(
    environment: Mapping[str, str], settings: type[BaseSettings]
) -> dict[str, Any]:
    """Those variables that are settings, as nested values.

    Raises:
        ConfigurationError: one of them names no setting, or cannot be read.
    """
    variables: dict[str, str | None] = {}
    for name, value in environment.items():
        setting = name.removesuffix("_FILE")
        if not value or name == CONFIG_VARIABLE or not _is_setting(setting, settings):
            continue
        if setting == name:
            variables[name.lower()] = value
        elif not environment.get(setting):
            is_path = setting == f"{ENVIRONMENT_PREFIX}OPERATOR_KEY"
            variables[setting.lower()] = value if is_path else _read_secret(name, value)
    try:
        return _Variables(variables, settings)()
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}; write lists and tables as JSON") from None


def read_mongodb(storage: Any, environment: Mapping[str, str]) -> tuple[Source, ...]:
    """The address of MongoDB for those tables that lack it, and for cities that name none."""
    uri, file = environment.get("MONGODB_URI"), environment.get("MONGODB_URI_FILE")
    uri = uri or (file and _read_secret("MONGODB_URI_FILE", file))
    given = {"mongodb": {"backend": "mongodb"}, **(storage if isinstance(storage, dict) else {})}
    tables = {name: it for name, it in given.items() if isinstance(it, dict)}
    names = [n for n, it in tables.items() if not it.keys() & {"uri", "uri_file"}]
    values = {n: {**tables[n], "uri": uri} for n in names if tables[n].get("backend") == "mongodb"}
    return (Source({"storage": values}, lambda key: "MONGODB_URI: "),) if uri else ()


def variable(key: Key) -> str:
    """The place of a setting in the environment, for errors."""
    return f"{ENVIRONMENT_PREFIX}{'__'.join(map(str, key)).upper()}: "


def _read_secret(name: str, file: str) -> str:
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: {file} cannot be read: {error}") from None


def _is_setting(name: str, settings: type[BaseSettings]) -> bool:
    """Whether a variable is ours.

    Not every foreign one is a mistake: Kubernetes sets CITYCHAIN_PORT and the like for
    a service called citychain. A nested or nearly right name is one.
    """
    if not name.startswith(ENVIRONMENT_PREFIX):
        return False
    head = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")[0]
    if head in settings.model_fields:
        return True
    hint = did_you_mean(head, settings.model_fields, similarity=0.75)
    if "__" in name or hint:
        raise ConfigurationError(f"{name}: there is no setting {head}{hint}")
    return False
