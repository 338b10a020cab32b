"""``citychain representative``: checks a city's rounds, and votes for those that hold."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from citychain.cli.options import City, Config, read_genesis
from citychain.cli.output import Json, print_json
from citychain.cli.reaching import Servers, asks_servers
from citychain.cli.running import answer, until_told

if TYPE_CHECKING:
    from citychain.crypto.signatures import SigningKey
    from citychain.errors import InvalidRound
    from citychain.genesis import Genesis
    from citychain.ports import CommitteeStatus

__all__ = ["representative"]

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 10.0
"""After which it says that no server answers, and goes on trying."""
GENESIS_FILE: Final = "genesis.json"
KEY_FILE: Final = "key-id"
LEDGER: Final = "ledger"


@asks_servers
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
    *,
    servers: Servers,
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

    While the server does not answer it waits, and votes are sent again when it is back. SIGTERM or
    SIGINT end it with exit code 0.

    Examples:

        citychain representative --city kanazawa --key rep.key --state-dir rep
    """
    import asyncio

    from citychain.client.keys import load_key

    context.obj.log.show()
    asyncio.run(
        until_told(
            _represent(
                city=city,
                key=load_key(key),
                state_dir=state_dir,
                genesis_file=genesis,
                servers=servers,
                config=config,
                json=json,
            )
        )
    )


async def _represent(
    *,
    city: str,
    key: SigningKey,
    state_dir: Path,
    genesis_file: Path | None,
    servers: Servers,
    config: Path | None,
    json: bool,
) -> None:
    from citychain.cli.reaching import connect
    from citychain.config import load_settings
    from citychain.containers import CoreContainer
    from citychain.crypto.keys import key_id
    from citychain.following.composing import open_representative

    core = CoreContainer(settings=load_settings(config))
    async with core.compute() as compute, connect(servers, city, TIMEOUT_SECONDS) as client:
        own = key_id(key.public_key)
        followed = await compute(_followed, state_dir, genesis_file, own)
        info = await answer(client.info, servers)
        genesis = await compute(_keep, state_dir, followed, info.genesis_file, own)
        status = await answer(client.committee, servers)
        async with open_representative(
            core,
            genesis=genesis,
            key=key,
            client=client,
            directory=state_dir / LEDGER,
            objected=lambda error: _tell_objection(error, json),
        ) as running:
            _tell_start(genesis, own, status, json)
            await running.run()


def _followed(state_dir: Path, genesis_file: Path | None, key_id: bytes) -> Genesis | None:
    """The genesis to hold to, if there is one yet.

    Raises:
        ConfigurationError: the state directory is another key's or another city's, or a genesis
            file is none.
    """
    from citychain.errors import ConfigurationError

    owner = _read(state_dir / KEY_FILE)
    if owner is not None and (whose := owner.decode(errors="replace").strip()) != key_id.hex():
        raise ConfigurationError(
            f"{state_dir}: is the state directory of the key {whose}, not of {key_id.hex()}: "
            "each key has one of its own"
        )
    kept_file = state_dir / GENESIS_FILE
    kept = read_genesis(kept_file) if kept_file.exists() else None
    given = None if genesis_file is None else read_genesis(genesis_file)
    if kept is not None and given is not None and kept.file != given.file:
        raise ConfigurationError(
            f"{state_dir}: follows another city than the one of {genesis_file}: "
            "each city has a directory of its own"
        )
    return given if kept is None else kept


def _keep(state_dir: Path, followed: Genesis | None, offered: bytes, key_id: bytes) -> Genesis:
    """The genesis to hold to from now on: at the first start it and the key's id are kept.

    Raises:
        VerificationError: the server offers another.
    """
    from citychain.city.founding import write_new
    from citychain.errors import VerificationError
    from citychain.genesis import Genesis

    genesis = followed or Genesis.from_bytes(offered)
    if genesis.file != offered:
        theirs = Genesis.from_bytes(offered)
        raise VerificationError(
            f"genesis: the server offers {theirs.city} of genesis {theirs.id.hex()}; what is "
            f"followed with {state_dir} is {genesis.city} of genesis {genesis.id.hex()}"
        )
    for name, content in ((GENESIS_FILE, genesis.file), (KEY_FILE, f"{key_id.hex()}\n".encode())):
        if not (state_dir / name).exists():
            write_new(state_dir / name, content)
    return genesis


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _tell_start(genesis: Genesis, key_id: bytes, status: CommitteeStatus, json: bool) -> None:
    stake = {member.key_id: member.stake for member in status.members}.get(key_id, 0)
    if json:
        print_json({"following": genesis.city, "key_id": key_id, "stake": stake})
        return
    logger.info("%s follows %s", key_id.hex(), genesis.city)
    if stake:
        everybody = sum(member.stake for member in status.members)
        logger.info("it has a seat: stake %d of %d", stake, everybody)
    else:
        logger.info(
            "it has no seat in the committee in office, so its votes do not count; "
            "it follows on, and votes if it is elected"
        )


def _tell_objection(error: InvalidRound, json: bool) -> None:
    if json:
        record = {"objection": error.check, "round": error.round}
        print_json({**record, "detail": error.detail})
    else:
        print(f"NO VOTE  round {error.round}  {error.check}: {error.detail}", flush=True)
