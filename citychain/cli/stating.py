"""Statements that people make by a command: signed, sent, and waited for until they count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import typer

from citychain.cli.drafts import Draft
from citychain.cli.exits import Exit
from citychain.cli.reaching import Servers, connect
from citychain.cli.submit import Wait, Work
from citychain.client.city import CityClient
from citychain.crypto.signatures import SigningKey
from citychain.errors import ConfigurationError
from citychain.genesis import Genesis
from citychain.statements import Statement

__all__ = ["check_operator", "run_statements"]


def check_operator(genesis: Genesis, key: SigningKey, option: str) -> None:
    """Refuse a key that is not the operator's.

    Args:
        option: By which it was given.

    Raises:
        ConfigurationError: it is another.
    """
    if key.public_key.hex() != genesis.operator:
        raise ConfigurationError(
            f"{option}: is not the key of the operator that the genesis of {genesis.city} names, "
            f"{genesis.operator_id.hex()}"
        )


def run_statements(
    statements: Sequence[Statement],
    key: SigningKey,
    check: Callable[[CityClient, Genesis], Awaitable[None]],
    *,
    city: str,
    servers: Servers,
    timeout: float,
    json: bool,
) -> None:
    """Sign these, send them, and wait until they are approved; each is told in a line.

    Args:
        check: Asked first; raises what keeps them from being made.

    Raises:
        Exit: with what the command ends with, unless all are approved.
    """
    drafts = [Draft(data=it.encode().decode(), content_type=it.CONTENT_TYPE) for it in statements]
    work = Work(key, Wait.APPROVED, None, json=json, numbered=False)

    async def run() -> None:
        async with connect(servers, city, timeout) as client:
            await check(client, Genesis.from_bytes((await client.info()).genesis_file))
        await work.run(servers, city, timeout, iter(drafts))

    asyncio.run(run())
    if not work.all_well:
        raise typer.Exit(Exit.NO)
