"""``citychain explorer``: a web page that shows cities."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.listening import Certificate, Key, Plaintext, ReadyFile, server_tls
from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers
from citychain.cli.serving import clear_ready_file, serve_until_stopped

if TYPE_CHECKING:
    from citychain.config_tls import ServerTlsSettings
    from citychain.explorer.serving import ExplorerOptions
    from citychain.explorer.upstream import Upstream

__all__ = ["explorer"]


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
    viewers_each: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000,
            help="Most of them from one address, or from one network of IPv6 (/64).",
        ),
    ] = 128,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            metavar="ADDRESS",
            help="Address or network of a proxy in front of it, which says in X-Forwarded-For who "
            "asks; of others that is not believed. Can be repeated.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Tell Prometheus how many look, here: /metrics, /healthz and /readyz, over plain "
            "HTTP.",
        ),
    ] = None,
    certificate: Certificate = None,
    key: Key = None,
    plaintext: Plaintext = False,
    ready_file: ReadyFile = None,
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

    from citychain.errors import ConfigurationError

    try:
        from citychain.explorer.serving import ExplorerOptions
        from citychain.explorer.upstream import Upstream
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the explorer needs {error.name}: pip install 'citychain[explorer]'"
        ) from None
    tls = server_tls(certificate, key)
    options = ExplorerOptions(
        listen=listen,
        names=tuple(host or ()),
        plaintext=plaintext,
        viewers_max=viewers,
        viewers_each=viewers_each,
        proxies=tuple(proxy or ()),
        metrics=metrics,
    )
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
