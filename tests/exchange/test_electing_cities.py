"""Cities that elect go on paying each other: committees come, and proofs stay as they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from exchange.cities import (
    ALICE,
    ALICE_ID,
    BOB_ID,
    FUNDS,
    balance,
    founded,
    funded,
    genesis_of,
    pinned,
    plain,
)
from following.test_audit import audit
from free_ports import free_address

from citychain.between_cities import RemittanceState
from citychain.client import CityClient, create_key, load_key
from citychain.client.actions import Candidacy, Data
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.exchange import terms
from citychain.following.source import ServerSource
from citychain.testing.server import CityServer, CityServerFactory


async def known(source: CityClient, target: CityClient) -> int:
    """How many of a city's committees since the first another's ledger has."""
    genesis = await genesis_of(source)
    followed = terms.follow(genesis, None, await source.handovers())
    names = [terms.term_object(genesis.id, terms.term_id(genesis, term)) for term in followed]
    return sum(state.version > 0 for state in (await target.objects(names)).values())


ELECTING = {
    "consensus": "poh-pop",
    "consensus_options": {"epoch_rounds": 3, "seed_rounds": 1, "seed_hashes": 10},
}


async def test_cities_that_elect_each_epoch_go_on_exchanging(
    city_server: CityServerFactory, tmp_path: Path
) -> None:
    """On two servers, of which one begins anew, and after a while in which nothing was sent."""
    member = tmp_path / "member.key"
    create_key(member)
    key = load_key(member)
    member_id = key_id(key.public_key)
    office = {
        **ELECTING,
        "committee": [{"public_key": key.public_key.hex()}],
        "representatives": [member],
        "storage": "sqlite",
    }
    stakes = {"stake": {member_id.hex(): 100}}
    tables = {
        "hill": funded(**office, balances={"coin": {ALICE_ID.hex(): FUNDS}, **stakes}),
        "lake": plain(**office, balances=stakes),
    }
    addresses = {slug: free_address() for slug in tables}
    files = {
        slug: await founded(city_server, tmp_path / slug, slug, table)
        for slug, table in tables.items()
    }

    def serve(slug: str, other: str) -> AbstractAsyncContextManager[CityServer]:
        return city_server(
            {slug: tables[slug]},
            directory=tmp_path / slug,
            peers={other: {"genesis": files[other], "endpoints": [addresses[other]]}},
            server={"listen": addresses[slug]},
        )

    async def elapse(client: CityClient, rounds: int) -> None:
        """So many rounds, in each of which something is said."""
        genesis = await genesis_of(client)
        for number in range(rounds):
            action = Candidacy("stake", 1) if number % 3 == 0 else Data(b"x")
            signed = sign_transaction(key, genesis=genesis.id, action=action, with_public_key=True)
            await client.submit([signed])
            await client.wait([signed.tx_id])

    async with serve("lake", "hill") as elsewhere, elsewhere.client("lake") as there:
        for opened in range(2):
            async with serve("hill", "lake") as here, here.client("hill") as home:
                await pinned(home, there)
                for _ in range(2):
                    await elapse(home, 12)
                    await elapse(there, 12)
                    sent = await home.remit(ALICE, asset="coin", amount=1, to=BOB_ID, city="lake")
                    told = await home.delivered(sent.tx_id)
                    assert told.outgoing.state is RemittanceState.DELIVERED
                assert await balance(there, BOB_ID) == 2 * (opened + 1)
                assert len(await home.handovers()) > 5
                assert len(await there.handovers()) > 5
                assert not [peer.trouble for peer in await home.peers() if peer.trouble]
                assert await known(home, there) >= 5
                assert await known(there, home) >= 5
                for client in (home, there):
                    # Whoever repeats all rounds comes to the same committees of the other.
                    result = await audit(ServerSource(client), await genesis_of(client))
                    assert result.rounds > 24
