"""``citychain hold``: says what it has of a city's archive, and proves it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import City, Config, Timeout
from citychain.cli.output import (
    Json,
    counted,
    moment_in_words,
    print_json,
)
from citychain.cli.reaching import Servers, asks_servers
from citychain.cli.running import answer, until_told

if TYPE_CHECKING:
    from citychain.genesis import Genesis
    from citychain.holding.deeds import Deed
    from citychain.holding.holder import Holder

__all__ = ["hold"]

logger = logging.getLogger(__name__)

DEFAULT_SECONDS: Final = 30.0
"""To wait for an answer, and with --once until all is approved: a certificate takes its time."""


@asks_servers
def hold(
    context: typer.Context,
    city: City,
    key: Annotated[Path, typer.Option(help="File of the holder's key.", dir_okay=False)],
    once: Annotated[
        bool,
        typer.Option("--once", help="Do what is due now, wait until it is approved, and end."),
    ] = False,
    days: Annotated[
        float, typer.Option(min=0.01, max=365, help="How long a receipt is for.")
    ] = 7.0,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Keeps here how far the city was followed; the next start goes on from there. One "
            "key and city, one file.",
            dir_okay=False,
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_SECONDS,
    config: Config = None,
    json: Json = False,
) -> None:
    """Hold what a city's archive is kept in: say which fragments are here, and prove it.

    The fragments of the city's announced segments that are in the stores of `[fragments.stores]`
    get a receipt, signed by the key and put into the city's ledger; it is renewed in time, and
    taken back when a fragment is gone. When a checkpoint asks for chunks, they are sent with what
    proves them. Anybody counts that: see `citychain holdings`.

    While the server does not answer it waits. It runs until it is told to stop: SIGTERM or SIGINT
    end it with exit code 0. Start it again any time, or by a timer with --once: what it said is in
    the ledger. Of a city with many rounds, let it keep with --state how far it is.

    A challenge that was missed cannot be answered any more. Of fragments that failed so, and of a
    key that is silent, which answered nothing in its last challenge, it says so at each start.

    Exit codes: 2 an option or a file cannot be used. Of --once also: 0 all that is due now is said
    and proven; 1 a fragment that was asked for is gone or wrong; 3 a store or the city does not
    answer, or the city took no more for now.

    Examples:

        citychain hold --city kanazawa --key holder.key
        citychain hold --city kanazawa --key holder.key --once --state holder.state
        citychain hold --city kanazawa --key holder.key --once --json
    """
    import asyncio
    from datetime import timedelta

    from citychain.client.keys import load_key
    from citychain.holding.deeds import Unproven

    context.obj.log.show()
    signer = load_key(key)
    if state is not None:
        _check_writable(state)
    lost, is_all = False, True

    def told(deed: Deed) -> None:
        nonlocal lost
        lost |= isinstance(deed, Unproven) and deed.lost
        _tell(deed, json)

    async def work() -> None:
        from citychain.cli.keeping import open_keeping
        from citychain.cli.reaching import connect
        from citychain.config import load_settings
        from citychain.containers import CoreContainer
        from citychain.crypto.keys import key_id
        from citychain.genesis import Genesis
        from citychain.holding.holder import Holder

        nonlocal is_all
        core = CoreContainer(settings=load_settings(config))
        async with (
            core.compute() as compute,
            open_keeping(config, shown=False) as keeping,
            connect(servers, city, timeout) as client,
        ):
            info = await (client.info() if once else answer(client.info, servers))
            genesis, own = Genesis.from_bytes(info.genesis_file), key_id(signer.public_key)
            holder = Holder(
                genesis=genesis,
                key=signer,
                client=client,
                stores=keeping.opened.stores,
                closed=keeping.away,
                compute=compute,
                clock=core.clock(),
                term=timedelta(days=days),
                told=told,
                **await compute(_kept, state, genesis, own),
            )
            _tell_start(holder, info.listing.slug, json)
            if once:
                is_all = await holder.once(timedelta(seconds=timeout))
                is_all &= not keeping.away
            else:
                await holder.run()

    asyncio.run(until_told(work()))
    if once and lost:
        raise typer.Exit(Exit.NO)
    if once and not is_all:
        raise typer.Exit(Exit.UNAVAILABLE)


def _check_writable(state: Path) -> None:
    """Find out before anything is signed that the file cannot be written.

    Raises:
        InvalidRequest: it cannot.
    """
    from tempfile import TemporaryFile

    from citychain.errors import InvalidRequest

    try:
        # It is replaced whole: what must be writable is its directory.
        TemporaryFile(dir=state.parent).close()
    except OSError as error:
        detail = f"{state}: cannot be written: {error.strerror}"
        raise InvalidRequest("--state", detail) from None


def _kept(state: Path | None, genesis: Genesis, holder: bytes) -> dict[str, Any]:
    """What a holder is given of the file with its state."""
    from functools import partial

    from citychain.holding.kept import load_recount, save_recount

    if state is None:
        return {}
    return {
        "recount": load_recount(state, genesis.id, genesis.operator_id, holder),
        "keep": partial(save_recount, state, genesis.id, holder),
    }


def _tell_start(holder: Holder, city: str, json: bool) -> None:
    if json:
        print_json({"holding": city, "key_id": holder.key_id})
    else:
        logger.info("%s holds for %s", holder.key_id.hex(), city)


def _tell(deed: Deed, json: bool) -> None:
    from citychain.holding.deeds import Answered, Claimed, Missed, Refused, TakenBack, Unproven

    record: dict[str, Any]
    match deed:
        case Claimed(fragments, until_ms):
            record = {"receipts": fragments, "until_ms": until_ms}
            text = f"HOLDS       {counted(fragments, 'fragment')} until {moment_in_words(until_ms)}"
        case TakenBack(fragments):
            record = {"taken_back": fragments}
            text = f"TAKEN BACK  {counted(fragments, 'fragment')}, gone or wrong"
        case Answered(round, chunks):
            record = {"challenge": round, "answered": chunks}
            text = f"ANSWERED    round {round}: {counted(chunks, 'chunk')}"
        case Unproven(round, key, chunk, detail, lost):
            record = {
                "challenge": round,
                "object": key.object_id,
                "index": key.index,
                "chunk": chunk,
                "lost": lost,
                "detail": detail,
            }
            text = (
                f"NOT PROVEN  {f'round {round}: ' if round else ''}chunk {chunk} of fragment "
                f"{key.index} of {key.object_id.hex()}: {detail}"
            )
        case Missed(round, fragments, silent):
            record = {"missed": fragments, "last_round": round, "silent": silent}
            failed = f"{counted(fragments, 'fragment')} failed when last asked for"
            text = f"MISSED      up to round {round}: {failed}"
            if silent:
                text += "; the key is silent: nothing of it counts until it answers a challenge"
            else:
                text += ": they do not count until they are answered for"
        case Refused(code, detail):
            record = {"refused": code, "detail": detail}
            text = f"REFUSED     {code}: {detail}"
    if json:
        print_json(record)
    else:
        print(text, flush=True)
