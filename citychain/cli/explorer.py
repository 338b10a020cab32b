"""``citychain explorer``: a web page that shows cities."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers
from citychain.cli.serving import clear_ready_file, serve_until_stopped

if TYPE_CHECKING:
    import asyncio

    from citychain.config_tls import ServerTlsSettings
    from citychain.explorer.serving import ExplorerOptions
    from citychain.explorer.upstream import Upstream

logger = logging.getLogger(__name__)

__all__ = ["explorer", "explorer_beside"]

STOP_SECONDS: Final = 10.0


@asks_servers
def explorer(
    context: typer.Context,
    listen: Annotated[
        str, typer.Option(help="host:port; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="A name by which browsers ask for it, such as that of the proxy in front of it. "
            "Can be repeated.",
        ),
    ] = None,
    submit: Annotated[
        bool,
        typer.Option(
            "--submit",
            help="Pass on transactions of people who have no token: where the servers ask for "
            "none.",
        ),
    ] = False,
    viewers: Annotated[
        int, typer.Option(min=1, max=10_000, help="Most who look live at a time.")
    ] = 256,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Speak TLS: PEM file of the explorer's certificate.", dir_okay=False),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="PEM file of the certificate's key.", dir_okay=False)
    ] = None,
    plaintext: Annotated[
        bool,
        typer.Option(
            "--plaintext",
            help="Listen without TLS where other machines reach it: only in a network that you "
            "trust.",
        ),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="A file to write the address to once the explorer answers.", dir_okay=False
        ),
    ] = None,
    while_stdin: Annotated[bool, typer.Option("--while-stdin", hidden=True)] = False,
    *,
    servers: Servers,
    json: Json = False,
) -> None:
    """Show cities in a browser, until it is told to stop.

    The page shows rounds as they are sealed and approved, the graph, transactions and their
    receipts, which the browser checks by itself. The explorer asks servers as anybody may, with a
    token that grants `read` where they want one. It passes transactions on only for who signs in
    with a token of their own, or with `--submit`. It needs `pip install citychain[explorer]`.

    SIGTERM or SIGINT: it stops; a second signal ends it at once.

    Examples:

        citychain explorer
        citychain explorer --server 127.0.0.1:50051 --listen 127.0.0.1:8080 --submit
        citychain explorer --host explorer.example --listen [::]:8443 \\
            --certificate tls/explorer.crt --key tls/explorer.key
    """
    import asyncio

    from citychain.cli.storage_server import server_tls
    from citychain.errors import ConfigurationError

    try:
        from citychain.explorer.serving import ExplorerOptions
        from citychain.explorer.upstream import Upstream
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the explorer needs {error.name}: pip install 'citychain[explorer]'"
        ) from None
    tls = server_tls(certificate, key, None)
    options = ExplorerOptions(listen, tuple(host or ()), plaintext, viewers)
    options.check(encrypted=tls is not None)
    upstream = Upstream(
        lambda token: servers.with_token(token).channels(), servers.token, submits=submit
    )
    context.obj.log.show()
    if ready_file is not None:
        clear_ready_file(ready_file)
    asyncio.run(_serve(upstream, options, tls, ready_file, while_stdin=while_stdin, json=json))


async def _serve(
    upstream: Upstream,
    options: ExplorerOptions,
    tls: ServerTlsSettings | None,
    ready_file: Path | None,
    *,
    while_stdin: bool,
    json: bool,
) -> None:
    import asyncio

    from citychain.explorer.serving import open_explorer

    if while_stdin:
        # Its other end closes with who started this, however that ends.
        asyncio.get_running_loop().add_reader(0, _stop)
    await serve_until_stopped(
        open_explorer(upstream, options, tls),
        answers="citychain explorer",
        stopping="answers under way may finish first",
        ready_file=ready_file,
        json=json,
    )


def _stop() -> None:
    import asyncio

    # What is closed stays readable, and a second signal ends it at once.
    asyncio.get_running_loop().remove_reader(0)
    os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def explorer_beside(
    address: str, listen: str, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An explorer of a server in a process of its own, until this is left.

    It is told by the environment what else it takes to reach the server, as any command is:
    ``CITYCHAIN_TOKEN_FILE``, ``CITYCHAIN_CA``. One that ends does not end the server.

    Args:
        options: More of its own.
    """
    import asyncio

    command = ("-m", "citychain", "explorer", "--server", address, "--listen", listen)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *options,
        "--while-stdin",
        stdin=asyncio.subprocess.PIPE,
        # Ctrl-C is for the server, which then stops the explorer.
        start_new_session=True,
    )
    watching = asyncio.create_task(_warn_of_end(process))
    try:
        yield process
    finally:
        watching.cancel()
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _warn_of_end(process: asyncio.subprocess.Process) -> None:
    code = await process.wait()
    logger.error("the explorer ended with code %d; the server goes on without it", code)
