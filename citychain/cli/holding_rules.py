"""``citychain holding-rules``: the operator says how holders are asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout
from citychain.cli.output import Json
from citychain.cli.reaching import Servers, asks_servers

if TYPE_CHECKING:
    from citychain.client.city import CityClient
    from citychain.genesis import Genesis

__all__ = ["holding_rules"]

NUMBER_MAX = (1 << 53) - 1


@asks_servers
def holding_rules(
    city: City,
    key: Annotated[Path, typer.Option("--key", "-k", help="The operator's key file.")],
    challenge_rounds: Annotated[
        int,
        typer.Option(min=1, max=NUMBER_MAX, help="The checkpoint of every so many rounds asks."),
    ],
    answer_rounds: Annotated[
        int,
        typer.Option(min=1, max=NUMBER_MAX, help="An answer counts in so many rounds after it."),
    ],
    receipts: Annotated[
        int, typer.Option(min=1, max=NUMBER_MAX, help="Holders that a fragment wants.")
    ],
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """State how those are asked who hold a city's archive, for the challenges that come.

    The operator alone can. Until it does, the checkpoint of every 3,600th round asks, an answer
    counts in the 600 rounds after it, and a fragment wants 1 holder. It waits until the statement
    is approved, from which round on it counts.

    Exit codes: 0 it is approved; 1 it was refused or rejected; 2 the key is not the operator's, or
    an option cannot be used; 3 the city does not answer, or has not approved it within `--timeout`.

    Examples:

        citychain holding-rules --city kanazawa --key operator.key --challenge-rounds 1200 \\
            --answer-rounds 300 --receipts 2
        citychain holding-rules --city kanazawa --key operator.key --challenge-rounds 3600 \\
            --answer-rounds 600 --receipts 1 --json
    """
    from citychain.cli.stating import check_operator, run_statements
    from citychain.client.keys import load_key
    from citychain.statements import HoldingRules

    signer = load_key(key)
    rules = HoldingRules(
        challenge_rounds=challenge_rounds, answer_rounds=answer_rounds, receipts=receipts
    )

    async def check(_: CityClient, genesis: Genesis) -> None:
        check_operator(genesis, signer, "--key")

    run_statements(
        [rules],
        signer,
        check,
        city=city,
        servers=servers,
        timeout=timeout,
        json=json,
    )
