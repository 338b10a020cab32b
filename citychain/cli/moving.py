"""What ``citychain move`` does, apart from telling it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from citychain.city.founding import genesis_path
from citychain.cli.output import say
from citychain.cli.reaching import Servers, connect
from citychain.client.moves import request_move
from citychain.config import Settings
from citychain.containers import CoreContainer
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError, NotFound, ServerUnavailable
from citychain.genesis import Genesis
from citychain.moving.composing import city_mover, open_home
from citychain.moving.moving import MoveResult, Phase, Told
from citychain.moving.request import MoveRequest

__all__ = ["run_move"]

DONE = MoveResult(0, 0, 0.0, 0.0)
WORDS: dict[Phase, str] = {
    "copying": "copying rounds",
    "comparing": "comparing rounds",
    "holding": "calls wait",
}


async def run_move(
    *,
    city: str,
    request: MoveRequest,
    operator: SigningKey | None,
    servers: Servers | None,
    timeout: float,
    settings: Settings,
    shown: bool,
) -> MoveResult:
    """Move a city, or remove it from a storage that it left.

    Args:
        operator: Signs the request to a server.
        servers: Where to ask, or ``None`` to do it here.
        shown: Show how far it is.

    Raises:
        MoveFailed: the city lives where it lived.
    """
    with _progress(shown) as told:
        if servers is not None and operator is not None:
            try:
                async with connect(servers, city, timeout) as client:
                    genesis = Genesis.from_bytes((await client.info()).genesis_file)
            except (ServerUnavailable, TimeoutError):
                say(f"no server answers on {servers}: it is done here")
            else:
                return await request_move(
                    servers.channels(), city, genesis, operator, request, told
                )
        return await _offline(city, request, settings, told)


async def _offline(city: str, request: MoveRequest, settings: Settings, told: Told) -> MoveResult:
    core = CoreContainer(settings=settings)
    async with core.compute(), core.engines():
        found = core.catalogue().find(city)
        if found is None:
            raise NotFound("city", city, core.catalogue().suggestions(city))
        plan = core.catalogue().plan(found.slug)
        path = genesis_path(settings.data_dir, plan)
        try:
            genesis = Genesis.read(path)
        except FileNotFoundError:
            raise ConfigurationError(f"city {plan.slug}: there is no genesis file {path}") from None
        home = await open_home(core, plan, genesis)
        mover = city_mover(core)
        if request.forget:
            await mover.forget(genesis, home.storage, request.storage)
            return DONE
        return await mover.move(
            genesis,
            home.storage,
            request.storage,
            nullcontext,
            volatile=request.allow_volatile,
            told=told,
        )


@contextmanager
def _progress(shown: bool) -> Iterator[Told]:
    """A bar on standard error, if that is a terminal; gives what moves it on."""
    from rich.console import Console
    from rich.progress import Progress

    drawn = shown and sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not drawn, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(phase: Phase, done: int, of: int) -> None:
            bar.update(task, description=WORDS[phase], completed=done, total=of)

        yield told
