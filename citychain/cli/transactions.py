"""``citychain get``, ``watch`` and ``receipt``: what became of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout, TxId, parse_id
from citychain.cli.output import Json, print_json, printable
from citychain.cli.reaching import Servers, asks_servers, connect
from citychain.cli.shown_actions import action_in_words, action_record

if TYPE_CHECKING:
    from citychain.client.city import CityClient
    from citychain.handler import RemittanceStatus, TransactionEvent, TransactionStatus

__all__ = ["get", "receipt", "watch"]


@asks_servers
def get(
    tx_id: TxId,
    city: City,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Show a transaction: its state, its place, what it says.

    It is shown as soon as it is stored; its place is known once it is sealed. Of an amount for
    another city, `delivery` says what became of it: PENDING until that city's answer is in this
    city's ledger, then DELIVERED, or RETURNED with the reason.

    Examples:

        citychain get --city kanazawa <id>
        citychain get --city kanazawa <id> --json
    """
    import asyncio

    from citychain.errors import NotFound
    from citychain.types import State

    wanted = parse_id(tx_id, "TX_ID")

    async def ask() -> tuple[TransactionStatus, RemittanceStatus | None]:
        async with connect(servers, city, timeout) as client:
            found = await client.status([wanted])
            if wanted not in found:
                raise NotFound("transaction", tx_id)
            status = found[wanted]
            if status.state != State.APPROVED or not _remits(status):
                return status, None
            try:
                return status, await client.remittance(wanted)
            except NotFound:  # What was pruned may have been anything.
                return status, None

    status, remittance = asyncio.run(ask())
    record = _record(status, plain=not json) | _delivery(remittance)
    if json:
        print_json(record)
        return
    for name, value in record.items():
        if value not in (None, "", [], {}):
            print(printable(f"{name:<16}{_plain(value)}"))


def _remits(status: TransactionStatus) -> bool:
    """Whether it sends something to another city, as far as is known."""
    from citychain._native.transactions import decode_batch

    if status.envelope is None:
        return True
    [transaction] = decode_batch([status.envelope])
    return transaction.action == "remittance"


def _delivery(remittance: RemittanceStatus | None) -> dict[str, Any]:
    """What became of an amount for another city."""
    if remittance is None:
        return {}
    record: dict[str, Any] = {"delivery": remittance.outgoing.state.name}
    if remittance.settlement is not None:
        record["settlement"] = remittance.settlement
    if remittance.refusal is not None:
        record |= {"code": remittance.refusal.code, "reason": remittance.refusal.reason}
    return record


def _record(status: TransactionStatus, *, plain: bool) -> dict[str, Any]:
    from citychain._native.transactions import decode_batch

    record: dict[str, Any] = {"tx_id": status.tx_id, "state": status.state.name}
    if (node := status.node) is not None:
        record |= {
            "round": node.round,
            "seq": node.seq,
            "time_ms": status.time_ms,
            "node_id": node.node_id,
            "parents": [parent.node_id.hex() for parent in node.parents],
        }
        if node.rejection is not None:
            record |= {"code": node.rejection.code, "reason": node.rejection.reason}
    if status.envelope is not None:
        [body] = decode_batch([status.envelope])
        record |= {
            "author": body.author,
            "created_at_ms": body.created_at_ms,
            "valid_until_ms": body.valid_until_ms,
            "depends_on": [dependency.hex() for dependency in body.depends_on],
            "reads": dict(body.reads),
            "writes": dict(body.writes),
        }
        record |= action_in_words(body) if plain else action_record(body)
    elif node is not None:
        # What the ledger says of it is left.
        record |= {"author": node.author, "pruned": "what it said, from here" if plain else True}
    return record


def _plain(value: object) -> str:
    match value:
        case bytes():
            return value.hex()
        case list():
            return " ".join(map(str, value))
        case dict():
            return " ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return str(value)


@asks_servers
def watch(
    city: City,
    tx_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[TX_ID]...", help="Transactions to watch.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(metavar="KEY_ID", help="Watch all of one author.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Watch all of the city.")] = False,
    after: Annotated[
        int | None,
        typer.Option(
            "--from",
            min=0,
            metavar="ROUND",
            help="With --author or --all: begin after this round; 0 is the beginning.",
            show_default="what comes next",
        ),
    ] = None,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="With --author or --all: before approval, too.")
    ] = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Tell of transactions as their states change, a line for each change.

    Given ids, it ends when all of these are final. Otherwise it goes on until it is stopped; the
    round in its last line is where another `--from` goes on.

    Exit codes: 0 all of the ids were approved; 1 some were rejected.

    Examples:

        citychain watch --city kanazawa <id> <id>
        citychain watch --city kanazawa --all --from 0 --json
    """
    import asyncio

    from citychain.cli.submit import reasons_of
    from citychain.errors import InvalidRequest
    from citychain.types import State

    if (bool(tx_ids) + (author is not None) + everything) != 1:
        raise InvalidRequest("watch", "give ids, or --author, or --all")
    if tx_ids and (after is not None or sealed):
        raise InvalidRequest("watch", "--from and --sealed go with --author or --all")
    ids = [parse_id(tx_id, "TX_ID") for tx_id in tx_ids or ()]
    author_id = parse_id(author, "--author") if author is not None else None

    async def tell(client: CityClient, events: Sequence[TransactionEvent]) -> None:
        reasons = await reasons_of(client, [event.tx_id for event in events if event.code])
        for event in events:
            tell_one(event, reasons.get(event.tx_id, ""))

    def tell_one(event: TransactionEvent, reason: str) -> None:
        record = {
            "tx_id": event.tx_id,
            "state": event.state.name,
            "round": event.round,
            "seq": event.seq,
            "code": event.code,
            "reason": reason,
        }
        if json:
            print_json(record)
        else:
            place = f"  round {event.round}, {event.seq}" if event.round else ""
            why = "".join(f"  {it}" for it in (event.code, reason) if it)
            print(f"{event.state.name:<8}  {event.tx_id.hex()}{place}{why}", flush=True)

    async def follow_each(client: CityClient) -> bool:
        await client.wait(ids, State.RECEIVED)
        results = await asyncio.gather(*(follow(client, tx_id) for tx_id in dict.fromkeys(ids)))
        return all(results)

    async def follow(client: CityClient, tx_id: bytes) -> bool:
        told = None
        for state in (State.RECEIVED, State.SEALED, State.APPROVED):
            [event] = (await client.wait([tx_id], state, timeout=timedelta(days=365))).values()
            if event.state != told:
                told = event.state
                await tell(client, [event])
        return told == State.APPROVED

    async def ask() -> bool:
        async with connect(servers, city, timeout) as client:
            if ids:
                return await follow_each(client)
            state = State.SEALED if sealed else State.APPROVED
            async for batch in client.watch(author=author_id, from_state=state, after=after):
                await tell(client, batch.events)
        return True

    if not asyncio.run(ask()):
        raise typer.Exit(Exit.NO)


@asks_servers
def receipt(
    tx_id: TxId,
    city: City,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write.", show_default="TX_ID.receipt.json"
        ),
    ] = None,
    up_to: Annotated[
        str | None,
        typer.Option(
            metavar="CITY", help="Lead up to a city above: its country, continent, the world."
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Fetch a transaction's receipt, once it is final, into a file.

    A receipt proves to anybody, with the city's genesis file alone, that the transaction was
    approved or rejected: see `citychain verify`. With `--up-to` it proves that with the genesis
    file of a city above alone. Each city on the way must have anchored its checkpoint since; that
    is waited for within `--timeout`.

    Examples:

        citychain receipt --city kanazawa <id> -o deed.receipt.json
        citychain receipt --city kanazawa <id> --up-to world -o deed.world.json --timeout 300
    """
    import asyncio

    from citychain.client.levels import fetch_level_receipt, save_level_receipt
    from citychain.client.receipts import save_receipt
    from citychain.levels import LevelReceipt

    wanted = parse_id(tx_id, "TX_ID")

    def above(name: str, endpoints: Sequence[str]) -> CityClient:
        return connect(servers.at(endpoints), name, timeout)

    async def ask() -> LevelReceipt:
        async with connect(servers, city, timeout) as client:
            if up_to is not None:
                limit = timedelta(seconds=timeout)
                return await fetch_level_receipt(client, wanted, up_to, above, timeout=limit)
            await client.wait([wanted])
            return LevelReceipt((), (await client.receipts([wanted]))[wanted])

    found = asyncio.run(ask())
    path = output or Path(f"{wanted.hex()}.receipt.json")
    if up_to is None:
        save_receipt(path, found.top)
    else:
        save_level_receipt(path, found)
    subject = found.subject
    state = "APPROVED" if subject.rejection is None else "REJECTED"
    if json:
        print_json({"tx_id": wanted, "state": state, "round": subject.round, "file": path})
    else:
        print(path)
