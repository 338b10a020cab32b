"""``citychain presence``: claim having been at a place, have it witnessed, submit it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout
from citychain.cli.output import Json, print_json, say
from citychain.cli.reaching import Servers, asks_servers, connect
from citychain.cli.shown_actions import degrees
from citychain.cli.submit import Wait, Work

if TYPE_CHECKING:
    from citychain.client.claims import Claim

__all__ = ["presence"]

DEFAULT_WINDOW: Final = 60

presence = typer.Typer(
    name="presence",
    help="Claim having been at a place, have it witnessed, submit it.",
    no_args_is_help=True,
)

ClaimFile = Annotated[Path, typer.Argument(metavar="CLAIM", help="The claim file.", dir_okay=False)]


@presence.command()
@asks_servers
def make(
    city: City,
    key: Annotated[Path, typer.Option("--key", "-k", help="The key file of who claims it.")],
    at: Annotated[str, typer.Option(metavar="LAT,LON", help="Degrees north and east.")],
    accuracy: Annotated[
        int, typer.Option(min=0, max=(1 << 32) - 1, help="Metres by which it may be wrong.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    window: Annotated[
        int, typer.Option(min=1, max=1 << 32, help="Rounds within which it has to be sealed.")
    ] = DEFAULT_WINDOW,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Write a claim into a file, for witnesses to sign.

    It names the latest approved checkpoint, so it cannot have been made before that, and is good
    for `--window` rounds from there. A city may bound these.

    Examples:

        citychain presence make --city kanazawa --key alice.key --at 36.5614,136.6562 \\
            --accuracy 20 -o claim.json
    """
    import asyncio

    from citychain.client.claims import Claim, save_claim
    from citychain.client.keys import load_key
    from citychain.crypto.keys import key_id
    from citychain.errors import InvalidRequest
    from citychain.types import Presence

    latitude, longitude = parse_place(at)
    if output.exists():
        detail = f"{output} exists, and may have witnesses' signatures: name another file"
        raise InvalidRequest("--output", detail)
    subject = key_id(load_key(key).public_key)

    async def ask() -> Claim:
        async with connect(servers, city, timeout) as client:
            info = await client.info()
            first, anchor = 0, info.genesis
            if info.head.certified_round > 0:
                latest = await client.checkpoint()
                first, anchor = latest.round, latest.checkpoint_hash
        made = Presence(latitude, longitude, accuracy, first, first + window, anchor)
        return Claim(info.listing.slug, info.genesis, subject, made)

    claim = asyncio.run(ask())
    save_claim(output, claim)
    rounds = {"first_round": claim.presence.first_round, "last_round": claim.presence.last_round}
    if json:
        print_json({"file": output, **rounds, "anchor": claim.presence.anchor})
    else:
        print(output)


@presence.command()
def witness(
    claim: ClaimFile,
    key: Annotated[Path, typer.Option("--key", "-k", help="The key file of the witness.")],
    json: Json = False,
) -> None:
    """Sign a claim as a witness: the signature is added to the file.

    What is signed is shown. Whether the key counts as a witness is for the city to say: its
    operator registers witnesses with `citychain submit --witness`. Nobody witnesses their own
    claim.

    Examples:

        citychain presence witness claim.json --key bob.key
    """
    from citychain.client.claims import load_claim, save_claim
    from citychain.client.keys import load_key
    from citychain.crypto.keys import key_id
    from citychain.errors import InvalidRequest

    signer = load_key(key)
    identity = key_id(signer.public_key)
    before = load_claim(claim)
    if identity == before.subject:
        detail = "is the claimant's own, which never counts as a witness of the claim"
        raise InvalidRequest("--key", detail)
    repeated = any(witness.key_id == identity for witness in before.presence.witnesses)
    signed = before.witnessed(signer)
    save_claim(claim, signed)
    place = signed.presence
    if json:
        count = len(place.witnesses)
        print_json({"file": claim, "witness": identity, "witnesses": count, "repeated": repeated})
        return
    say(
        f"signed: {signed.subject.hex()} was within {place.accuracy_m} m of "
        f"{degrees(place.latitude_e7)}, {degrees(place.longitude_e7)} after round "
        f"{place.first_round}, up to round {place.last_round}, for the city {signed.city} "
        f"with the genesis {signed.genesis.hex()}"
    )
    if repeated:
        say("this key had signed it already: its signature takes the place of the earlier one")
    print(identity.hex())


@presence.command()
@asks_servers
def submit(
    claim: ClaimFile,
    key: Annotated[Path, typer.Option("--key", "-k", help="The key file of who claims it.")],
    wait: Annotated[Wait, typer.Option(help="The state to wait for.")] = Wait.RECEIVED,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Sign what a claim file says as a transaction, and send it to the claim's city.

    Exit codes: 0 it was received (and, with `--wait`, not rejected); 1 it was refused or rejected.

    Examples:

        citychain presence submit claim.json --key alice.key --wait approved
    """
    import asyncio

    from citychain.cli.drafts import Draft
    from citychain.client.claims import PresenceForm, load_claim
    from citychain.client.keys import load_key
    from citychain.crypto.keys import key_id
    from citychain.errors import InvalidRequest

    signer = load_key(key)
    claimed = load_claim(claim)
    if key_id(signer.public_key) != claimed.subject:
        raise InvalidRequest("--key", f"is not that of the claim's subject {claimed.subject.hex()}")
    draft = Draft(presence=PresenceForm.of(claimed.presence))
    work = Work(signer, wait, None, json=json, numbered=False)

    async def send() -> None:
        async with connect(servers, claimed.city, timeout) as client:
            genesis = (await client.info()).genesis
        if genesis != claimed.genesis:
            detail = f"is {claimed.genesis.hex()}, the server's {claimed.city} is {genesis.hex()}"
            raise InvalidRequest("genesis", detail)
        await work.run(servers, claimed.city, timeout, iter([draft]))

    asyncio.run(send())
    if not work.all_well:
        raise typer.Exit(Exit.NO)


def parse_place(text: str) -> tuple[int, int]:
    """Degrees north and east times 10**7, rounded.

    Raises:
        InvalidRequest: it is no place on Earth.
    """
    from decimal import Decimal

    from citychain.errors import InvalidRequest

    number = r"\s*([+-]?[0-9]{1,3}(?:\.[0-9]{1,20})?)\s*"
    match = re.fullmatch(f"{number},{number}", text)
    if match is None:
        raise InvalidRequest("--at", f"{text!r} is not LAT,LON in decimal degrees")
    latitude, longitude = (round(Decimal(part) * 10_000_000) for part in match.groups())
    if abs(latitude) > 900_000_000 or abs(longitude) > 1_800_000_000:
        raise InvalidRequest("--at", f"{text!r} is past 90 degrees of latitude or 180 of longitude")
    return latitude, longitude
