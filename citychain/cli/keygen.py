"""``citychain keygen``: keys of residents, representatives, witnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citychain.cli.output import Json, print_json, say

__all__ = ["keygen"]


def keygen(
    path: Annotated[Path, typer.Argument(help="The key file.", dir_okay=False)],
    show: Annotated[
        bool, typer.Option("--show", help="Show the id and public key of a file that is there.")
    ] = False,
    public: Annotated[
        Path | None,
        typer.Option("--public", help="Write the public key to this file.", dir_okay=False),
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and print its id.

    The file can be read by its owner alone (mode 0600); it is never written over. Whoever has it
    signs for its owner: keep it secret, and keep a copy. The public key is for everybody: a
    committee's members give theirs to the operator.

    Examples:

        citychain keygen alice.key
        citychain keygen alice.key --show
        citychain keygen rep1.key --public rep1.pub
    """
    from citychain.client.keys import create_key, load_key, save_public_key
    from citychain.crypto.keys import key_id

    key = load_key(path) if show else create_key(path)
    identity = key_id(key.public_key)
    if public is not None:
        save_public_key(public, key.public_key)
    if json:
        record = {"path": path, "key_id": identity}
        print_json({**record, "public_key": key.public_key} if show else record)
        return
    if not show:
        say(f"{path} is made; its id is:")
    print(identity.hex())
    if show:
        print(key.public_key.hex())
