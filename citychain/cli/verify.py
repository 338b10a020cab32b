"""``citychain verify``: receipts, checked without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from citychain.cli.exits import Exit
from citychain.cli.output import Json, print_json

__all__ = ["verify"]


def verify(
    receipts: Annotated[list[Path], typer.Argument(metavar="RECEIPT...", help="Receipt files.")],
    genesis: Annotated[Path, typer.Option("--genesis", "-g", help="The city's genesis file.")],
    json: Json = False,
) -> None:
    """Check that receipts prove what they claim, with the city's genesis file alone.

    The genesis file says who the city is: have it from somebody you trust. What does not hold is
    told by the name of the check that failed first. A committee that the operator replaced is told
    of: from that round on, the operator's signature stands for the representatives' choice.

    Exit codes: 0 all are valid; 1 some are not; 2 a file cannot be read, or is no receipt.

    Examples:

        citychain verify deed.receipt.json --genesis kanazawa.json
    """
    from citychain.genesis import Genesis
    from citychain.receipt import ReceiptVerifier

    verifier = ReceiptVerifier(Genesis.from_bytes(genesis.read_bytes()))
    worst = Exit.OK
    for path in receipts:
        record = {"file": path} | _verdict(path, verifier)
        worst = max(worst, record.pop("exit"))
        if json:
            print_json(record)
        elif record["valid"]:
            print(f"valid    {path}  {record['state']} in round {record['round']}")
            for round in record.get("committee_replaced", ()):
                print(f"         the committee was replaced by the operator in round {round}")
        else:
            print(f"INVALID  {path}  {record['check']}: {record['detail']}")
    if worst != Exit.OK:
        raise typer.Exit(worst)


def _verdict(path: Path, verifier: Any) -> dict[str, Any]:
    from citychain.client.receipts import load_receipt
    from citychain.errors import ConfigurationError, InvalidReceipt

    try:
        receipt = load_receipt(path)
    except ConfigurationError as error:
        return {"valid": False, "check": "file", "detail": str(error), "exit": Exit.UNUSABLE}
    except InvalidReceipt as error:
        return _invalid(error, Exit.UNUSABLE)
    try:
        verifier.verify(receipt)
    except InvalidReceipt as error:
        return _invalid(error, Exit.NO)
    # Whose word it is that the rounds from there on are right.
    replaced = verifier.recovered_rounds(receipt.round)
    return {
        "valid": True,
        "tx_id": receipt.tx_id,
        "state": "APPROVED" if receipt.rejection is None else "REJECTED",
        "code": receipt.rejection.code if receipt.rejection else "",
        "round": receipt.round,
        "seq": receipt.seq,
        "exit": Exit.OK,
    } | ({"committee_replaced": replaced} if replaced else {})


def _invalid(error: Any, code: Exit) -> dict[str, Any]:
    return {"valid": False, "check": error.check, "detail": error.detail, "exit": code}
