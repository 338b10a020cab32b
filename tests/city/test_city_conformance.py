"""Whole cities of built-in parts pass the suite that plugins of cities are given."""

from __future__ import annotations

import pytest

from citychain.client.actions import Candidacy
from citychain.client.keys import create_key, load_key
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.hooks.definitions import CityDefinition
from citychain.testing.conformance import CitySuite, _city_installed
from citychain.testing.conformance._city_session import Cities
from citychain.testing.shared import SharedMemory
from citychain.types import Presence


class TestTheDefault(CitySuite):
    """On disk, in sealed rounds, approved by the operator."""

    @pytest.fixture
    def definition(self):
        return CityDefinition("tokyo", titles={"en": "Tokyo"}, aliases=("東京", "도쿄", "Токио"))


class TestInMemory(CitySuite):
    """Nothing outlives the process, and edges are declared ones."""

    @pytest.fixture
    def definition(self):
        return CityDefinition("sandbox", storage="memory", dag="dependencies-only")


class TestWithRepresentatives(CitySuite):
    """Two representatives vote inside the server, until one of them is elected alone; nodes link
    to others at random."""

    many = 200

    @pytest.fixture
    def definition(self):
        return CityDefinition(
            "assembly", dag="random-tips", dag_options={"tips": 2}, consensus="poh-pop"
        )

    @pytest.fixture
    def files(self, tmp_path):
        files = [tmp_path / "ana.key", tmp_path / "ben.key"]
        for file in files:
            create_key(file)
        return files

    @pytest.fixture
    def options(self, files):
        keys = [load_key(file).public_key for file in files]
        return {
            "committee": [{"public_key": key.hex()} for key in keys],
            "representatives": files,
            "balances": {"stake": {key_id(keys[0]).hex(): 100}},
            "consensus_options": {"epoch_rounds": 3, "seed_rounds": 1, "seed_hashes": 10},
        }

    @pytest.fixture
    def transactions(self, signed_transactions, files):
        ana = load_key(files[0])

        async def sign(city, count=1, *, key=0):
            info = await city.info()
            if not info.head.round:
                await approved(city, ana, info.genesis, Candidacy("stake", 10))
            return await signed_transactions(city, count, key=key)

        return sign


class TestWhereEachShowsToBeThere(CitySuite):
    """A key is heard once it has said where it is."""

    many = 200
    examples = 4

    @pytest.fixture
    def definition(self):
        disc = {"latitude_e7": 36_5613000, "longitude_e7": 136_6562000, "radius_m": 15_000}
        options = {"policy": "claimed", "place": {"disc": disc}}
        return CityDefinition(
            "lakeside", storage="memory", consensus="poh-pop", consensus_options=options
        )

    @pytest.fixture
    def transactions(self, signed_transactions):
        async def sign(city, count=1, *, key=0):
            signer = signed_transactions.key(key)
            info = await city.info()
            shown = f"$presence/{key_id(signer.public_key).hex()}"
            if not (await city.objects([shown]))[shown].version:
                head = info.head
                anchor = head.checkpoint_hash if head.round else info.genesis
                here = Presence(
                    36_5613000, 136_6562000, 10, head.round, head.round + 500, anchor, ()
                )
                await approved(city, signer, info.genesis, here)
            return await signed_transactions(city, count, key=key)

        return sign


async def approved(city, key, genesis, action):
    signed = sign_transaction(key, genesis=genesis, action=action, with_public_key=True)
    await city.submit([signed])
    await city.wait([signed.tx_id])


async def test_a_city_that_only_happens_to_be_installed_may_share_an_alias(
    city_server, monkeypatch, tmp_path, capsys
):
    with monkeypatch.context() as named:
        named.setattr(_city_installed, "DISTRIBUTION", "another-city")
        other = CityDefinition("elsewhere", aliases=("新城",))
        _city_installed.install(monkeypatch, tmp_path / "other", [other], [])
    mine = CityDefinition("mine", storage="memory", aliases=("新城", "新しい町"))
    _city_installed.install(monkeypatch, tmp_path / "site", [mine], [])
    city = Cities("mine", {}, {}, city_server, tmp_path / "cities")()
    await CitySuite().test_each_of_its_names_means_the_city(city)
    await city.close()
    assert "新城 is left out" in capsys.readouterr().out


class TestShared(CitySuite):
    """Several servers share its storage."""

    many = 200

    @pytest.fixture
    def definition(self):
        return CityDefinition("harbour", storage="shared-memory")

    @pytest.fixture
    def plugins(self):
        return [SharedMemory().definition]
