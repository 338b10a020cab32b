"""DAG tests: what is between cities, and rewards."""

from __future__ import annotations

from typing import Final

import pytest

from citychain._native.transactions import Transaction
from citychain.client.actions import Action
from citychain.ports import settled_actions
from citychain.testing.conformance._dag_city import DagCity
from citychain.testing.conformance._rounds import ASSET, FUNDS, OPERATOR, id_of, new_genesis
from citychain.types import Anchor, Delivery, Peer, Remittance, Reward, Settlement

__all__ = ["CityTests"]

PROOF: Final = b"proof"
"""Whether it holds is judged before a rule is asked, so it says nothing here."""


class CityTests:
    """Part of `DagSuite`. Skipped for a rule that settles none of it."""

    async def test_what_is_between_cities_is_settled(self, city: DagCity) -> None:
        async with city.rule() as rule:
            settled = settled_actions(rule)
        if not settled:
            pytest.skip("the rule settles nothing between cities, and no rewards")
        if settled & {"delivery", "settlement"}:
            assert "anchor" in settled, (
                "`settles` names deliveries or settlements and no anchors: other cities show "
                "their committees by anchors, before either"
            )
        signed = [self._sign(city, action) for action in self._actions(city)]
        new = [item for item in signed if item.action in settled]
        for alone in new:
            await city.needs(alone, f"a {alone.action}")
        sent = [item for item in new if item.action == "remittance"]
        if "settlement" in settled:
            new += [self._sign(city, self._answer(item, True)) for item in sent]
            new += [self._sign(city, self._answer(item, False)) for item in sent * 2]
        async with city.rule() as rule:
            # Each approved one is held to what it says, in whatever order they are decided.
            await city.ask(rule, new)
            await city.ask(rule, new[::-1])

    def _actions(self, city: DagCity) -> list[Action]:
        other, third = (new_genesis(city=name) for name in ("elsewhere", "third"))
        renamed = new_genesis(city="elsewhere", num_hashes=3)
        payee, id = id_of(city.part.authors[1]), bytes(32)
        checkpoints = [bytes(41) + bytes((round,)) for round in (1, 3, 2, 3)]
        return [
            *(Peer(genesis.file) for genesis in (other, third, renamed, other)),
            *(Remittance(ASSET, other.id, payee, amount) for amount in (1, 7, FUNDS - 8)),
            Delivery(other.id, id, ASSET, payee, 5, PROOF),
            Delivery(other.id, id, ASSET, payee, 5, PROOF, "NO", "it came before"),
            Delivery(third.id, id, ASSET, payee, 5, PROOF, "NO"),
            *(Anchor(other.id, checkpoint, PROOF) for checkpoint in checkpoints),
            *(Reward(epoch, ASSET, payee, amount) for epoch, amount in ((1, 2), (1, 3), (2, 1))),
        ]

    def _answer(self, remittance: Transaction, returned: bool) -> Settlement:
        sent = remittance.remittance
        assert sent is not None
        payer = remittance.author
        return Settlement(
            remittance.tx_id, payer, sent.city, sent.asset, sent.amount, returned, PROOF
        )

    def _sign(self, city: DagCity, action: Action) -> Transaction:
        pays = isinstance(action, (Remittance, Reward))
        key = city.part.authors[0] if pays else OPERATOR
        return city.rounds.sign(key, action)
