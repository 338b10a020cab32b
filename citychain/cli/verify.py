"""``citychain verify``: receipts, checked without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import read_genesis
from citychain.cli.output import Json, print_json

__all__ = ["verify"]


def verify(
    receipts: Annotated[list[Path], typer.Argument(metavar="RECEIPT...", help="Receipt files.")],
    genesis: Annotated[
        Path,
        typer.Option("--genesis", "-g", help="The city's genesis file, or that of the top city."),
    ],
    json: Json = False,
) -> None:
    """Check that receipts prove what they claim, with the city's genesis file alone.

    The genesis file says who the city is: have it from somebody you trust. What does not hold is
    told by the name of the check that failed first. A committee that the operator replaced is told
    of: from that round on, the operator's signature stands for the representatives' choice.

    A receipt that `citychain receipt --up-to` wrote needs the genesis file of the city that it
    leads up to, and no other.

    Exit codes: 0 all are valid; 1 some are not; 2 a file cannot be read, or is no receipt.

    Examples:

        citychain verify deed.receipt.json --genesis kanazawa.json
        citychain verify deed.world.json --genesis world.json
    """
    from citychain.receipt import ReceiptVerifier

    verifier = ReceiptVerifier(read_genesis(genesis))
    worst = Exit.OK
    for path in receipts:
        record = {"file": path} | _verdict(path, verifier)
        worst = max(worst, record.pop("exit"))
        if json:
            print_json(record)
        elif record["valid"]:
            print(f"valid    {path}  {record['state']} in round {record['round']}{_way(record)}")
            for round in record.get("committee_replaced", ()):
                print(f"         the committee was replaced by the operator in round {round}")
        else:
            print(f"INVALID  {path}  {record['check']}: {record['detail']}")
    if worst != Exit.OK:
        raise typer.Exit(worst)


def _way(record: dict[str, Any]) -> str:
    """Of which city, where the genesis does not say it."""
    cities = record.get("levels", ())
    above = f", anchored through {len(cities)} levels" if len(cities) > 1 else ", anchored above"
    return f" of {cities[0].hex()[:16]}…{above}" if cities else ""


def _verdict(path: Path, verifier: Any) -> dict[str, Any]:
    from citychain.client.levels import is_level_receipt, load_level_receipt
    from citychain.client.receipts import load_receipt
    from citychain.errors import ConfigurationError, InvalidReceipt
    from citychain.levels import LevelReceipt, verify_levels

    try:
        leads_up = is_level_receipt(path)
        found = load_level_receipt(path) if leads_up else LevelReceipt((), load_receipt(path))
    except ConfigurationError as error:
        return {"valid": False, "check": "file", "detail": str(error), "exit": Exit.UNUSABLE}
    except InvalidReceipt as error:
        return _invalid(error, Exit.UNUSABLE)
    try:
        verify_levels(found, verifier)
    except InvalidReceipt as error:
        return _invalid(error, Exit.NO)
    receipt = found.subject
    # Whose word it is that the rounds from there on are right.
    replaced = verifier.recovered_rounds(found.top.round)
    verdict = {
        "valid": True,
        "tx_id": receipt.tx_id,
        "state": "APPROVED" if receipt.rejection is None else "REJECTED",
        "code": receipt.rejection.code if receipt.rejection else "",
        "round": receipt.round,
        "seq": receipt.seq,
        "exit": Exit.OK,
    }
    if found.levels:
        verdict["levels"] = [level.genesis for level in found.levels]
    return verdict | ({"committee_replaced": replaced} if replaced else {})


def _invalid(error: Any, code: Exit) -> dict[str, Any]:
    return {"valid": False, "check": error.check, "detail": error.detail, "exit": code}
