"""A data directory of an earlier release goes on under this one, as it was left."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
from cli.conftest import Server, run_here, start_server

__all__ = ["start_server"]

FROZEN = Path(__file__).parent / "schema_2"
DATABASE = "data/sqlite/citychain.db"
GENESIS = "data/genesis/hometown.json"
FILES = {
    DATABASE: "cd3b3246be3b054fdc4251dbeefdab2fc815a946094acba4e1f8cecd0dced875",
    GENESIS: "314cc94774733c89c88768f98a1003617ad5e627c548870486b259bd30c5e4fc",
}
"""SHA-256 of what must never be edited."""

LINE, PAYMENT, REJECTED = (
    "afc4f46b816e219c60b4e997b5d5cab1aecc34220f77c95d38537a537f1a7690",
    "78d52b2db12801061afab91effc105fdb6950384bfc48420338ff6bc72c4565f",
    "e5793ad125e3177e16f9de0c021d08fb126cc8c223690a63181a408e3d015113",
)


def schema_version(database: Path) -> int:
    connection = apsw.Connection(str(database))
    try:
        version: int = connection.execute("PRAGMA user_version").get
    finally:
        connection.close()
    return version


def test_a_city_of_an_earlier_release_goes_on(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    for name, digest in FILES.items():
        assert hashlib.sha256((FROZEN / name).read_bytes()).hexdigest() == digest, name
    place = Path(shutil.copytree(FROZEN, tmp_path / "town"))
    for key in place.glob("*.key"):
        key.chmod(0o600)  # Which a checkout does not keep.
    assert schema_version(place / DATABASE) == 2

    server = start_server(place)
    city = ("--city", "hometown")
    states = [server.run("get", tx_id, *city, "--json").record for tx_id in (LINE, PAYMENT)]
    assert [(state["state"], state["round"]) for state in states] == [
        ("APPROVED", 1),
        ("APPROVED", 2),
    ]
    rejected = server.run("get", REJECTED, *city, "--json").record
    assert (rejected["state"], rejected["code"]) == ("REJECTED", "OVERDRAFT")
    # What was proven then is proven now, to the last byte.
    assert server.run("receipt", LINE, *city, "-o", "now.json").code == 0
    assert json.loads((place / "now.json").read_text()) == json.loads(
        (place / "receipt.json").read_text()
    )
    # Of 700 coins that alice has left she can pay 700, and not one more.
    to = ("--wait", "approved", "--json")
    for amount, state in ((701, "REJECTED"), (700, "APPROVED")):
        transfer = f"coin:{amount}:{'ab' * 32}"
        ran = server.run("submit", *city, "--key", "alice.key", "--transfer", transfer, *to)
        assert ran.record["state"] == state, ran.err
    assert server.end().code == 0

    audited = run_here("audit", *city, "--storage", "--json", cwd=place)
    assert (audited.code, audited.record["certified_round"]) == (0, 5), audited.err
    migrated = run_here("db", "stats", "--storage", "sqlite", "--json", cwd=place)
    version = migrated.record["schema_version"]
    assert version == migrated.record["schema_version_known"] > 2
    assert schema_version(place / DATABASE) == version
