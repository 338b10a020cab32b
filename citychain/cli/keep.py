"""``citychain keep``: nothing of some transactions goes from a city's storage before a date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout, parse_id
from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from citychain.client.city import CityClient
    from citychain.crypto.signatures import SigningKey
    from citychain.genesis import Genesis
    from citychain.statements import Retention

__all__ = ["keep"]


def _milliseconds(text: str) -> int:
    """A date, or a date and a time, in milliseconds since 1970 UTC."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r}: write it as 2035-12-31, or as 2035-12-31T18:00+09:00"
        ) from None


@asks_servers
def keep(
    city: City,
    until: Annotated[
        int,
        typer.Option(
            metavar="DATE", parser=_milliseconds, help="Such as 2035-12-31; in UTC if not said."
        ),
    ],
    key: Annotated[
        Path, typer.Option("--key", "-k", help="The key file of their author, or the operator's.")
    ],
    tx_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="TX_ID", help="64 hexadecimal digits.", show_default=False),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Instead of TX_ID: all of the city, or by a key that is not the operator's, all "
            "of its own.",
        ),
    ] = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """State that what transactions say stays in a city's storage until a date.

    Otherwise it goes after the city's `retention`, 180 days by default: see `citychain prune`. An
    author extends its own transactions, the operator anybody's. What was stated cannot be taken
    back; of several dates the latest counts. It waits until the statement is approved, from which
    round on it counts.

    Exit codes: 0 all statements are approved; 1 one was refused or rejected, or a transaction is
    not known; 2 a transaction is another author's, or was pruned already, or an option cannot be
    used; 3 the city does not answer, or has not approved it within `--timeout`.

    Examples:

        citychain keep <id> --city kanazawa --until 2035-12-31 --key alice.key
        citychain keep --all --city kanazawa --until 2035-12-31 --key operator.key --json
    """
    from citychain.cli.stating import run_statements
    from citychain.client.keys import load_key
    from citychain.clock import SystemClock
    from citychain.errors import InvalidRequest

    wanted = sorted({parse_id(text, "TX_ID") for text in tx_ids or ()})
    if everything == bool(wanted):
        raise InvalidRequest("TX_ID", "give the ids of transactions, or --all")
    if until <= SystemClock().time_ms():
        raise InvalidRequest("--until", "is over")
    signer = load_key(key)

    async def check(client: CityClient, genesis: Genesis) -> None:
        await _check(client, genesis, signer, wanted)

    run_statements(
        _statements(until, wanted),
        signer,
        check,
        city=city,
        servers=servers,
        timeout=timeout,
        json=json,
    )


def _statements(until: int, tx_ids: Sequence[bytes]) -> list[Retention]:
    from citychain.statements import TX_IDS_MAX, Retention

    if not tx_ids:
        return [Retention(until=until)]
    pages = [tx_ids[at : at + TX_IDS_MAX] for at in range(0, len(tx_ids), TX_IDS_MAX)]
    return [Retention(until=until, tx_ids=tuple(it.hex() for it in page)) for page in pages]


async def _check(
    client: CityClient, genesis: Genesis, signer: SigningKey, tx_ids: Sequence[bytes]
) -> None:
    """Refuse what would be approved, and count for nothing.

    Raises:
        NotFound: a transaction is not known.
        InvalidRequest: it is not the key's to extend, or has nothing left.
    """
    from citychain._native.transactions import decode_batch
    from citychain.crypto.keys import key_id
    from citychain.errors import InvalidRequest, NotFound

    own = key_id(signer.public_key)
    found = await client.status(tx_ids)
    for tx_id in tx_ids:
        if tx_id not in found:
            raise NotFound("transaction", tx_id.hex())
        envelope = found[tx_id].envelope
        if envelope is None:
            raise InvalidRequest("TX_ID", f"{tx_id.hex()} was pruned already")
        [transaction] = decode_batch([envelope])
        if own not in (genesis.operator_id, transaction.author):
            raise InvalidRequest(
                "--key",
                f"{tx_id.hex()} is by another author, {transaction.author.hex()}: that key, or the "
                "operator's, can extend it",
            )
