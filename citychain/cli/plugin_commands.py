"""Sub-commands that plugins offer. A broken one is left out; `citychain plugins` says why."""

from __future__ import annotations

import logging
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from citychain.hooks import CommandDefinition

__all__ = ["command_of", "plugin_commands"]

logger = logging.getLogger(__name__)


@cache
def plugin_commands() -> dict[str, Any]:
    """Commands by name, made from what the active plugins offer."""
    entry_points = metadata.entry_points(group="citychain")
    if not entry_points:
        return {}
    from citychain.config import load_settings
    from citychain.errors import ConfigurationError
    from citychain.hooks.registry import load_plugins

    try:
        settings = load_settings().plugins
    except ConfigurationError as error:
        # Which plugins may be loaded is not known then.
        logger.warning("no sub-commands of plugins: %s", error)
        return {}
    registry = load_plugins(entry_points=entry_points, **settings.model_dump())
    commands = {}
    for name, definition in sorted(registry.commands.items()):
        try:
            commands[name] = command_of(definition)
        except Exception:
            logger.exception("the sub-command %s of a plugin cannot be used", name)
    return commands


def command_of(definition: CommandDefinition) -> Any:
    """The sub-command that a plugin offers; raises whatever typer does where it is none."""
    app = definition.app
    if not isinstance(app, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(definition.name)(definition.app)
    command = typer.main.get_command(app)
    command.name = definition.name
    return command
