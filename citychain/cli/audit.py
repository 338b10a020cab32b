"""``citychain audit``: a whole city, recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import (
    DEFAULT_TIMEOUT,
    City,
    Config,
    FromBackup,
    FromStorage,
    GenesisFile,
    Timeout,
    read_genesis,
)
from citychain.cli.output import Json, counted, print_json, say
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.errors import InvalidRound
    from citychain.following.audit import AuditResult
    from citychain.promise import PromiseVerdict

__all__ = ["audit"]


@asks_servers
def audit(
    city: City,
    genesis: GenesisFile = None,
    from_round: Annotated[
        int,
        typer.Option(
            min=1,
            help="Of the rounds before this one the ledger is repeated, but signatures, hashing "
            "and votes are not checked.",
        ),
    ] = 1,
    acknowledgement: Annotated[
        Path | None,
        typer.Option(help="A signed acknowledgement: was the promise kept?", dir_okay=False),
    ] = None,
    storage: FromStorage = False,
    folder: FromBackup = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check a whole city: recompute everything that it published from its genesis on.

    Signatures, verdicts, nodes, parents, the log's Merkle tree, hashing, judgements of place,
    elections, certificates and the state that each round leaves. The first thing that does not
    hold ends it, and is named.

    With an acknowledgement also whether the transaction became final in time; if it did not, what
    is printed proves it to anybody.

    Exit codes: 0 all of it holds; 1 something does not, or the promise was broken or is due; 2 a
    file cannot be used, such as an acknowledgement that is not this city's.

    Examples:

        citychain audit --city kanazawa --genesis kanazawa.json
        citychain audit --city kanazawa --storage --from-round 1000
        citychain audit --city kanazawa --from backups/kanazawa
        citychain audit --city kanazawa --acknowledgement promise.json
    """
    import asyncio

    from citychain.cli.auditing import run_audit
    from citychain.client.acknowledgements import load_acknowledgement
    from citychain.config import load_settings
    from citychain.errors import ConfigurationError, InvalidAcknowledgement, InvalidRound
    from citychain.promise import PromiseState

    pinned = None if genesis is None else read_genesis(genesis)
    try:
        promised = None if acknowledgement is None else load_acknowledgement(acknowledgement)
    except InvalidAcknowledgement as error:
        raise ConfigurationError(str(error)) from None
    try:
        result, promise = asyncio.run(
            run_audit(
                city=city,
                given=pinned,
                first=from_round,
                promise=promised,
                servers=None if storage else servers,
                folder=folder,
                timeout=timeout,
                settings=load_settings(config),
                progress=not json,
            )
        )
    except InvalidRound as error:
        _tell_failure(error, json)
        raise typer.Exit(Exit.NO) from None
    except InvalidAcknowledgement as error:
        # It promises nothing of this city, whose rounds say nothing of it.
        raise ConfigurationError(f"{acknowledgement}: {error}") from None
    _tell(result, promise, from_round, json)
    if promise is not None and promise.state in (PromiseState.BROKEN, PromiseState.DUE):
        raise typer.Exit(Exit.NO)


def _tell_failure(error: InvalidRound, json: bool) -> None:
    if json:
        record = {"holds": False, "round": error.round, "check": error.check}
        print_json({**record, "detail": error.detail})
    else:
        print(f"DOES NOT HOLD  round {error.round}  {error.check}: {error.detail}")


def _tell(result: AuditResult, promise: PromiseVerdict | None, from_round: int, json: bool) -> None:
    if json:
        print_json(
            {
                "holds": True,
                "rounds": result.rounds,
                "from_round": from_round,
                "certified_round": result.certified_round,
                "transactions": result.transactions,
                "approved": result.approved,
                "rejected": result.transactions - result.approved,
                "checkpoint_hash": result.checkpoint_hash,
                "seconds": round(result.seconds, 3),
                "promise": None if promise is None else _promise_fields(promise),
            }
        )
        return
    print(
        f"HOLDS  {counted(result.rounds, 'round')}, {counted(result.transactions, 'transaction')} "
        f"({result.transactions - result.approved} rejected), in {result.seconds:.1f} s"
    )
    if result.certified_round < result.rounds:
        say(
            f"rounds {result.certified_round + 1} to {result.rounds} have no certificate yet: "
            "they hold, and are not final"
        )
    if promise is not None:
        print(f"{promise.state.upper()}  {promise.detail}")
        if promise.proof is not None:
            print_json(promise.proof.to_fields())


def _promise_fields(promise: PromiseVerdict) -> dict[str, Any]:
    proof = None if promise.proof is None else promise.proof.to_fields()
    fields = {"state": promise.state, "detail": promise.detail, "round": promise.round}
    return {**fields, "proof": proof}
