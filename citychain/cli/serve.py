"""``citychain serve``: the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.listening import ReadyFile
from citychain.cli.options import Config
from citychain.cli.output import Json
from citychain.cli.serving import clear_ready_file, reloads_held, serve_until_stopped

if TYPE_CHECKING:
    from citychain.config import Settings
    from citychain.containers import RunningServer

__all__ = ["serve"]


def serve(
    context: typer.Context,
    listen: Annotated[
        str | None,
        typer.Option(help="host:port, instead of the configuration's; port 0 takes a free one."),
    ] = None,
    ready_file: ReadyFile = None,
    explorer: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Show the cities in a browser, too, here: `citychain explorer` as a process that "
            "ends with the server.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Run a server until it is told to stop.

    SIGTERM or SIGINT: what was accepted is sealed and approved, within the time that the
    configuration gives; what is left then goes on at the next start. A second signal ends the
    server at once. Nothing acknowledged is lost either way.

    SIGHUP: the configuration and the keys of tokens are read again. New cities are served at once;
    what takes a restart is named in the log, and then nothing changes.

    Examples:

        citychain serve
        citychain serve --config town/citychain.toml --listen 127.0.0.1:0 --ready-file address
        citychain serve --explorer 127.0.0.1:8080
    """
    import asyncio

    from citychain.config import load_settings
    from citychain.errors import ConfigurationError

    server = {"server": {"listen": listen}} if listen is not None else {}
    read = partial(load_settings, config, **server)
    with reloads_held():
        settings = read()
        if not settings.operator_key.exists():
            raise ConfigurationError(
                f"{settings.operator_key}: there is no operator key; `citychain init` makes one "
                "with a configuration, `citychain keygen` one alone"
            )
        context.obj.log.show()
        if ready_file is not None:
            clear_ready_file(ready_file)
        asyncio.run(_serve(settings, read, ready_file, explorer, json=json))


async def _serve(
    settings: Settings,
    read: Callable[[], Settings],
    ready_file: Path | None,
    explorer: str | None,
    *,
    json: bool,
) -> None:
    import asyncio

    async def reload(server: RunningServer) -> None:
        await server.reload(await asyncio.to_thread(read))

    await serve_until_stopped(
        _open(settings, explorer),
        answers="citychain",
        stopping="what was accepted is finished first",
        ready_file=ready_file,
        json=json,
        reload=reload,
    )


@asynccontextmanager
async def _open(settings: Settings, explorer: str | None) -> AsyncIterator[RunningServer]:
    from citychain.cli.explorer_beside import explorer_beside
    from citychain.containers import open_server

    async with open_server(settings) as server:
        if explorer is None:
            yield server
        else:
            async with explorer_beside(server.address, explorer, tls=settings.server.tls):
                yield server
