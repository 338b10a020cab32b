"""``citychain representative``: checks a city's rounds, and votes for those that hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.options import DEFAULT_SERVER, City, Config, Server
from citychain.cli.output import Json, log_to_standard_error, print_json, say

if TYPE_CHECKING:
    from citychain.crypto.signatures import SigningKey
    from citychain.errors import InvalidRound
    from citychain.genesis import Genesis

__all__ = ["representative"]

TIMEOUT_SECONDS = 30.0
GENESIS_FILE = "genesis.json"


def representative(
    context: typer.Context,
    city: City,
    key: Annotated[Path, typer.Option(help="File of the representative's key.", dir_okay=False)],
    state_dir: Annotated[
        Path,
        typer.Option(help="Keeps what was checked and voted for. One key, one directory: ever."),
    ],
    genesis: Annotated[
        Path | None,
        typer.Option(
            help="The city's genesis file. Without it the first start asks the server, and "
            "believes it; later ones hold to that.",
            dir_okay=False,
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    config: Config = None,
    json: Json = False,
) -> None:
    """Follow a city, check everything by itself, and vote, until told to stop.

    Signatures, verdicts, nodes, parents, the Merkle tree, hashing, presences, elections and the
    state that each round leaves are computed anew; a round that is otherwise gets an objection
    instead of a vote, in plain words, here and to the city.

    Each round is kept in the state directory before the vote for it is sent, so that two different
    votes for one round are never given, whatever is killed and whenever. Use a key with one state
    directory only, and never go back to an old copy of it.

    Examples:

        citychain representative --city kanazawa --key rep.key --state-dir rep
    """
    import asyncio

    from citychain.client.keys import load_key

    log_to_standard_error(debug=context.obj.debug)
    signing_key = load_key(key)
    asyncio.run(
        _run(
            city=city,
            key=signing_key,
            state_dir=state_dir,
            genesis_file=genesis,
            server=server,
            config=config,
            json=json,
        )
    )


async def _run(
    *,
    city: str,
    key: SigningKey,
    state_dir: Path,
    genesis_file: Path | None,
    server: str,
    config: Path | None,
    json: bool,
) -> None:
    import asyncio
    import signal

    from citychain.cli.options import connect
    from citychain.config import load_settings
    from citychain.containers import CoreContainer, open_representative

    core = CoreContainer(settings=load_settings(config))
    async with core.compute() as compute, connect(server, city, TIMEOUT_SECONDS) as client:
        info = await client.info()
        genesis = await compute(_pinned, state_dir, genesis_file, info.genesis_file)
        async with open_representative(
            core,
            genesis=genesis,
            key=key,
            client=client,
            directory=state_dir / "ledger",
            objected=lambda error: _tell_objection(error, json),
        ) as running:
            if json:
                print_json({"following": genesis.city, "key_id": running.key_id})
            else:
                say(f"{running.key_id.hex()} follows {genesis.city}")
            work = asyncio.create_task(running.run())
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, work.cancel)
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()


def _pinned(state_dir: Path, genesis_file: Path | None, offered: bytes) -> Genesis:
    """The genesis to hold to, kept at the first start."""
    from citychain.errors import VerificationError
    from citychain.genesis import Genesis

    kept = state_dir / GENESIS_FILE
    file = offered
    if genesis_file is not None:
        file = genesis_file.read_bytes()
    if kept.exists():
        if genesis_file is not None and kept.read_bytes() != file:
            raise VerificationError(f"genesis: {kept} is another city's than {genesis_file}")
        file = kept.read_bytes()
    if offered != file:
        raise VerificationError("genesis: the server's is another city's than the one followed")
    genesis = Genesis.from_bytes(file)
    if not kept.exists():
        state_dir.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file)
    return genesis


def _tell_objection(error: InvalidRound, json: bool) -> None:
    if json:
        record = {"objection": error.check, "round": error.round}
        print_json({**record, "detail": error.detail})
    else:
        print(f"NO VOTE  round {error.round}  {error.check}: {error.detail}", flush=True)
