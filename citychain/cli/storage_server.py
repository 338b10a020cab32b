"""``citychain storage-server``: a folder of fragments that others reach."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.listening import Certificate, Key, Plaintext, ReadyFile, server_tls
from citychain.cli.output import Json
from citychain.cli.serving import clear_ready_file, reloads_held, serve_until_stopped
from citychain.roles import Role

if TYPE_CHECKING:
    from citychain.config_auth import AuthSettings, RatesSettings
    from citychain.config_tls import ServerTlsSettings
    from citychain.rpc.storage_server import StorageServerOptions

__all__ = ["storage_server"]

logger = logging.getLogger(__name__)


def storage_server(
    context: typer.Context,
    directory: Annotated[
        Path,
        typer.Option(
            "--dir", help="The folder of the fragments, which must be there.", file_okay=False
        ),
    ],
    listen: Annotated[
        str, typer.Option(help="host:port; port 0 takes a free one.")
    ] = "127.0.0.1:50061",
    certificate: Certificate = None,
    key: Key = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Serve only who shows a certificate of an authority in this PEM file.",
            dir_okay=False,
        ),
    ] = None,
    plaintext: Plaintext = False,
    limit_mib: Annotated[
        int | None, typer.Option(min=1, help="Most that all fragments may take.")
    ] = None,
    owner_limit_mib: Annotated[
        int | None, typer.Option(min=1, help="Most that the fragments of each owner may take.")
    ] = None,
    token_keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--token-keys",
            help="File of public keys: whoever calls needs a token of one of them. Can be "
            "repeated.",
            dir_okay=False,
        ),
    ] = None,
    token_audience: Annotated[
        str | None, typer.Option(help="The name of this server in tokens (`aud`).")
    ] = None,
    token_issuer: Annotated[
        str | None, typer.Option(help="Who must have issued them (`iss`).")
    ] = None,
    anonymous: Annotated[
        list[Role] | None,
        typer.Option(help="A role that callers without a token have. Can be repeated."),
    ] = None,
    per_second: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1_000_000, help="Calls a second of each caller; without it no bound."
        ),
    ] = None,
    burst_seconds: Annotated[
        float, typer.Option(min=0.001, max=3_600, help="Of so many seconds they may come at once.")
    ] = 10.0,
    open_calls: Annotated[
        int, typer.Option(min=1, max=256, help="Calls that each caller may have open, of 256.")
    ] = 128,
    ready_file: ReadyFile = None,
    json: Json = False,
) -> None:
    """Keep fragments for others, until it is told to stop.

    Who has a `[fragments.stores.NAME]` with `kind = "remote"` and this server's address stores
    here. Anybody may read and store, unless `--token-keys` is given: then it takes a token that
    grants `fetch` or `store`. Only who stored a fragment may delete it. A full disk, or what is
    beyond a limit, is told to who stores, and nothing is left half-written, however this or a
    client ends. With a certificate it speaks TLS alone; new files are used without a restart.

    SIGTERM or SIGINT: calls under way may finish, for ten seconds at most. A second signal ends the
    server at once. Nothing acknowledged is lost either way.

    SIGHUP: the keys of tokens are read again, which happens within ten seconds after their files
    change, too. All else takes a restart.

    Exit codes: 0 it was told to stop; 2 an option cannot be used, or the address is taken; 3 the
    folder is in use, or cannot be read or written; 130 a second signal ended it.

    Examples:

        citychain storage-server --dir /mnt/cellar/fragments
        citychain storage-server --dir /mnt/cellar/fragments --limit-mib 500000 --json
        citychain storage-server --dir fragments --listen [::]:50061 \\
            --certificate tls/server.crt --key tls/server.key
    """
    import asyncio

    from citychain.config_auth import RatesSettings
    from citychain.rpc.storage_server import StorageServerOptions

    tls = server_tls(certificate, key, client_ca)
    options = StorageServerOptions(listen=listen, plaintext=plaintext)
    options.check(encrypted=tls is not None)
    auth = _auth(token_keys, token_audience, token_issuer, anonymous)
    rates = RatesSettings(per_second=per_second, burst_seconds=burst_seconds, open_calls=open_calls)
    context.obj.log.show()
    if ready_file is not None:
        clear_ready_file(ready_file)
    limits = (limit_mib, owner_limit_mib)
    with reloads_held():
        asyncio.run(_serve(directory, options, limits, auth, rates, tls, ready_file, json=json))


def _auth(
    keys: list[Path] | None,
    audience: str | None,
    issuer: str | None,
    anonymous: list[Role] | None,
) -> AuthSettings:
    """Raises `ConfigurationError`: an option needs another one."""
    from citychain.config_auth import AuthSettings
    from citychain.errors import ConfigurationError

    if not keys and (audience or issuer or anonymous):
        raise ConfigurationError("--token-keys: without it no token is looked at: give it too")
    if not keys:
        return AuthSettings()
    if not audience:
        raise ConfigurationError("--token-audience: must be given with --token-keys")
    return AuthSettings(
        keys=tuple(keys), audience=audience, issuer=issuer, anonymous=tuple(anonymous or ())
    )


async def _serve(
    directory: Path,
    options: StorageServerOptions,
    limits_mib: tuple[int | None, int | None],
    auth: AuthSettings,
    rates: RatesSettings,
    tls: ServerTlsSettings | None,
    ready_file: Path | None,
    *,
    json: bool,
) -> None:
    from citychain.keeping.serving import RunningStorageServer, open_storage_server

    async def reload(server: RunningStorageServer) -> None:
        await server.reload()
        logger.info("the keys of tokens were read again")

    limit, owner_limit = (None if mib is None else mib << 20 for mib in limits_mib)
    server = open_storage_server(
        directory,
        options,
        limit=limit,
        owner_limit=owner_limit,
        auth=auth,
        rates=rates,
        tls=tls,
    )
    await serve_until_stopped(
        server,
        answers="citychain storage-server",
        stopping="calls under way may finish first",
        ready_file=ready_file,
        json=json,
        reload=reload,
    )
