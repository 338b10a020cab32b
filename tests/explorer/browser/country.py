"""A country on one server: a city that representatives check, the cities above it, and two that
say where they are. Whoever sends needs a token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from explorer.browser.town import HANG_SECONDS, Town

from citychain.access.keys import new_key_pair, read_signing_key
from citychain.access.tokens import issue_token
from citychain.checkpoint import OBJECTION_CONTEXT, objection_message
from citychain.client import CityClient, create_key, load_key
from citychain.client.levels import fetch_level_receipt
from citychain.crypto.keys import key_id
from citychain.roles import Grants, Role
from citychain.types import Objection, State

__all__ = ["REPRESENTATIVES", "TOP", "WITH_REGION", "Country"]

REPRESENTATIVES: Final = 2
"""All are needed for a round."""
TOP: Final = "earth"
PATIENCE: Final = timedelta(seconds=HANG_SECONDS)
WITH_REGION: Final = {"hakusan": "Hakusan", "nanao": "Nanao"}
AUDIENCE: Final = "explorer.test"

SETTINGS: Final = """\
network = "test"

[pacer]
min_seconds = 0.1

[exchange]
anchor_seconds = 0.05

[auth]
keys = ["tokens.pub"]
audience = "{audience}"
anonymous = ["read", "vote"]

[cities.kanazawa]
titles = {{ en = "Kanazawa", ja = "金沢" }}
aliases = ["カナザワ"]
parent = "ishikawa"
num_hashes = 100
consensus = "poh-pop"
committee = [{committee}]

[cities.ishikawa]
titles = {{ en = "Ishikawa", ja = "石川" }}
parent = "earth"
num_hashes = 100

[cities.earth]
titles = {{ en = "Earth", ja = "地球" }}
num_hashes = 100

[cities.hakusan]
titles = {{ en = "Hakusan", ja = "白山" }}
consensus = "poh-pop"
consensus_options.policy = "claimed"
[cities.hakusan.consensus_options.place]
disc = {{ latitude_e7 = 365146000, longitude_e7 = 1365656000, radius_m = 15000 }}
neighbours.kaga.disc = {{ latitude_e7 = 363027000, longitude_e7 = 1363146000, radius_m = 9000 }}

[cities.nanao]
titles = {{ en = "Nanao", ja = "七尾" }}
consensus = "poh-pop"
consensus_options.policy = "claimed"
[cities.nanao.consensus_options.place]
polygons = [[[370000000, 1369000000, 370000000, 1370500000, 371000000, 1370500000,
              370000000, 1369000000]]]
"""


class Country(Town):
    """A directory with a server's files, and those of representatives of Kanazawa."""

    city = "kanazawa"
    sends = ()

    def __init__(self, directory: Path) -> None:
        keys = [create_key(directory / f"{_name(n)}.key") for n in range(REPRESENTATIVES)]
        self._committee = ", ".join(f'{{ public_key = "{it.public_key.hex()}" }}' for it in keys)
        private, public = new_key_pair()
        (directory / "tokens.key").write_bytes(private)
        (directory / "tokens.pub").write_bytes(public)
        super().__init__(directory)
        sender = self.issue(Role.SUBMIT, Role.READ)
        self.token = lambda: sender

    def settings(self) -> str:
        """The server's configuration."""
        return SETTINGS.format(audience=AUDIENCE, committee=self._committee)

    def issue(self, *roles: Role) -> str:
        """A token with these roles."""
        return issue_token(
            read_signing_key(self.directory / "tokens.key"),
            subject="resident",
            audience=AUDIENCE,
            grants=Grants.everywhere(roles),
            lifetime=timedelta(hours=1),
        )

    def serve(self) -> None:
        """Start the server and the representatives, and open those cities that nobody asked for."""
        super().serve()
        for number in range(REPRESENTATIVES):
            self.represent(number)
        for city in WITH_REGION:
            self.ask(CityClient.info, city)

    def represent(self, number: int) -> None:
        """Start a representative."""
        name = _name(number)
        files = ("--key", f"{name}.key", "--state-dir", name)
        self.run(name, "representative", "--city", self.city, "--server", self.address, *files)

    def absent(self, number: int) -> None:
        """End a representative."""
        self.end(_name(number))

    def object(self, number: int, round: int, detail: str) -> None:
        """Have an absent representative object to a round, which nobody has to believe."""
        key = load_key(self.directory / f"{_name(number)}.key")

        async def objected(city: CityClient) -> None:
            genesis = (await city.info()).genesis
            hash = (await city.checkpoint(round)).checkpoint_hash
            said = objection_message(genesis, round, hash, "verdict", detail)
            signature = key.sign(said, OBJECTION_CONTEXT)
            told = Objection(round, hash, "verdict", detail, key_id(key.public_key), signature)
            await city.cast_votes([], [told])

        self.ask(objected)

    def sealed(self, tx_id: bytes) -> int:
        """Wait until a transaction is sealed; returns its round."""

        async def told(city: CityClient) -> int:
            return (await city.wait([tx_id], State.SEALED))[tx_id].round

        return self.ask(told)

    def anchored(self, tx_id: bytes) -> None:
        """Wait until all cities above have what a transaction's receipt needs."""

        def above(name: str, _endpoints: Sequence[str]) -> CityClient:
            return self.client(name)

        async def proven(city: CityClient) -> None:
            await fetch_level_receipt(city, tx_id, TOP, above, timeout=PATIENCE)

        self.ask(proven)


def _name(number: int) -> str:
    return f"representative-{number}"
