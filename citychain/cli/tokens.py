"""``citychain token``: tokens that say who calls, for trying them and for small installations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citychain.cli.output import say

if TYPE_CHECKING:
    from datetime import timedelta

    from citychain.roles import Grants

__all__ = ["token"]

token = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@token.callback()
def _group() -> None:
    """Make the tokens that servers with an `[auth]` table ask for.

    Whoever has an identity provider lets it issue them, and needs none of this.

    Examples:

        citychain token keygen tokens.key --public tokens.pub
        citychain token issue --key tokens.key --subject alice --audience nara --role read
    """


@token.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="The file of the private key.", dir_okay=False)],
    public: Annotated[
        Path,
        typer.Option("--public", help="Write the public key to this file.", dir_okay=False),
    ],
) -> None:
    """Make a key that signs tokens: Ed25519, as PEM.

    The private key is for who issues tokens, the public one for `keys` in the `[auth]` table of
    servers. The private file can be read by its owner alone (mode 0600); neither is written over.

    Examples:

        citychain token keygen tokens.key --public tokens.pub
    """
    from citychain.access.keys import new_key_pair

    private_pem, public_pem = new_key_pair()
    _write_new(path, private_pem, 0o600)
    _write_new(public, public_pem, 0o644)
    say(f"{path} signs tokens, {public} is for servers")


@token.command()
def issue(
    key: Annotated[Path, typer.Option("--key", help="The private key, as PEM.", dir_okay=False)],
    subject: Annotated[
        str, typer.Option("--subject", help="Whose token it is; limits are counted by it.")
    ],
    audience: Annotated[
        str, typer.Option("--audience", help="For whom it is: the server's `audience`.")
    ],
    role: Annotated[
        list[str],
        typer.Option(
            "--role",
            metavar="ROLE[=CITY,...]",
            help="What its holder may do, in these cities by slug, or in all. Can be repeated.",
        ),
    ],
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="Who issues it: the server's `issuer`.")
    ] = None,
    lifetime: Annotated[
        str, typer.Option("--lifetime", help="Until it expires, such as 15m, 8h or 7d.")
    ] = "1h",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write it to this file, which its owner alone can read, instead of printing it.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Issue a token.

    The roles are read, submit, vote, store, fetch and admin; none includes another. Whoever sends
    transactions asks for the city too: give read and submit. Nobody can take a token back before it
    expires, unless its key is taken from all servers: let it be short.

    Examples:

        citychain token issue --key tokens.key --subject alice --audience nara \\
            --role read --role submit=nara,kaga --lifetime 8h -o alice.token
    """
    from citychain.access.keys import read_signing_key
    from citychain.access.tokens import issue_token

    text = issue_token(
        read_signing_key(key),
        subject=subject,
        audience=audience,
        grants=_grants(role),
        lifetime=_lifetime(lifetime),
        issuer=issuer,
    )
    if output is None:
        print(text)
        return
    _write_new(output, f"{text}\n".encode(), 0o600)


def _grants(given: Sequence[str]) -> Grants:
    from citychain.errors import InvalidRequest
    from citychain.nearest import unknown
    from citychain.roles import ALL_CITIES, Grants, Role

    claim: dict[str, list[str]] = {}
    for text in given:
        role, equals, cities = text.partition("=")
        if role not in list(Role):
            raise InvalidRequest("--role", unknown("role", role, list(Role)))
        slugs = cities.split(",") if equals else [ALL_CITIES]
        if not all(slugs):
            raise InvalidRequest("--role", f"{text!r} has a city without a name")
        claim.setdefault(role, []).extend(slugs)
    try:
        return Grants.from_claim(claim)
    except ValueError as error:
        raise InvalidRequest("--role", str(error)) from None


def _lifetime(text: str) -> timedelta:
    from pydantic import TypeAdapter, ValidationError

    from citychain.config_tables import Duration
    from citychain.errors import InvalidRequest

    try:
        lifetime: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise InvalidRequest("--lifetime", f"{text!r} is no time such as 15m, 8h or 7d") from None
    return lifetime


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Raises `ConfigurationError`: it exists, or cannot be written."""
    from citychain.errors import ConfigurationError

    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise ConfigurationError(f"{path}: a file of this name exists; choose another") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
