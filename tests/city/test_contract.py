"""Parts are held to their contract, and what they may do is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from citychain.city.directory import CityDirectory
from citychain.client.transactions import sign_transaction
from citychain.crypto.signatures import SigningKey
from citychain.handler import CityHandler
from citychain.log_fields import log_fields, set_log_fields
from citychain.types import Decision, NodeRef, Rejection, State

OpenCities = Callable[..., AbstractAsyncContextManager[CityDirectory]]
KEY = SigningKey(bytes(32))


def sign(city: CityHandler, **fields: Any) -> Any:
    return sign_transaction(
        KEY, genesis=city.genesis.id, with_public_key=True, **({"data": b"x"} | fields)
    )


class Around:
    """Stands in front of a real part and changes what one method returns, once."""

    def __init__(self, method: str, change: Callable[[Any, Sequence[Any]], Any]) -> None:
        self.method, self.change, self.changes = method, change, 1
        self.real: Any = None

    def __call__(self, real: Any) -> Around:
        self.real = real
        return self

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.real, name)
        if name != self.method:
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await attribute(*args, **kwargs)
            if self.changes:
                self.changes -= 1
                return self.change(result, args)
            return result

        return call


WRONG_DECISIONS: Mapping[str, Callable[[Decision, Sequence[Any]], Decision]] = {
    "loses one": lambda decision, args: replace(
        decision, order=decision.order[1:], verdicts=decision.verdicts[1:],
        parents=decision.parents[1:],
    ),
    "repeats one": lambda decision, args: replace(
        decision, order=[*decision.order[:1], *decision.order[:1]],
    ),
    "columns differ": lambda decision, args: replace(decision, verdicts=decision.verdicts[1:]),
    "parents of a rejected one": lambda decision, args: replace(
        decision, verdicts=[Rejection("RULE", "no")] * len(decision.order)
    ),
    "no parents": lambda decision, args: replace(decision, parents=[()] * len(decision.order)),
    "a parent that comes later": lambda decision, args: replace(
        decision, parents=[(1,), *decision.parents[1:]]
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_DECISIONS)
async def test_a_dag_handler_that_breaks_its_contract_makes_no_round(
    open_cities: OpenCities, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    dag = Around("decide", WRONG_DECISIONS[wrong])
    async with open_cities({"tokyo": {"dag": dag}}) as directory:
        city = await directory.handler("tokyo")
        transactions = [sign(city), sign(city)]
        await city.submit([transaction.envelope for transaction in transactions])
        async for batch in city.watch_transactions(
            [transaction.tx_id for transaction in transactions], State.APPROVED
        ):
            assert all(event.code == "" for event in batch.events)
        assert dag.changes == 0
        assert "round 1 failed" in caplog.text
        assert (await city.head()).size == 2


async def test_the_log_of_a_round_names_the_city_and_not_the_call_that_opened_it(
    open_cities: OpenCities,
) -> None:
    fields: list[Mapping[str, str]] = []

    def keep_fields(decision: Decision, args: Sequence[Any]) -> Decision:
        fields.append(log_fields())
        return decision

    async with open_cities({"tokyo": {"dag": Around("decide", keep_fields)}}) as directory:

        async def call() -> CityHandler:
            set_log_fields(request_id="opens it")
            return await directory.handler("tokyo")

        city = await asyncio.create_task(call())
        transaction = sign(city)
        await city.submit([transaction.envelope])
        async for _ in city.watch_transactions([transaction.tx_id], State.APPROVED):
            pass
    assert fields == [{"city": "tokyo"}]


async def test_a_dag_handler_cannot_approve_what_the_consensus_step_refused(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(judgement: Any, args: Sequence[Any]) -> Any:
        return replace(judgement, refused={0: Rejection("NO_PRESENCE", "was never there")})

    def approve(decision: Decision, args: Sequence[Any]) -> Decision:
        assert decision.verdicts == [Rejection("NO_PRESENCE", "was never there")]
        genesis = NodeRef(0, 0, args[0].genesis)
        return replace(decision, verdicts=[None], parents=[(genesis,)])

    parts = {"dag": Around("decide", approve), "consensus": Around("judge", refuse)}
    async with open_cities({"tokyo": parts}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await city.submit([transaction.envelope])
        async for _ in city.watch_transactions([transaction.tx_id], State.APPROVED):
            pass
        assert "approved what the consensus step refused" in caplog.text


async def test_a_consensus_step_writes_no_object_of_a_transaction(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    def effects(judgement: Any, args: Sequence[Any]) -> Any:
        return replace(judgement, effects=lambda approved: {"seat": b"mine"})

    consensus = Around("judge", effects)
    async with open_cities({"tokyo": {"consensus": consensus}}) as directory:
        city = await directory.handler("tokyo")
        transaction = sign(city)
        await city.submit([transaction.envelope])
        async for _ in city.watch_transactions([transaction.tx_id], State.APPROVED):
            pass
        assert "the consensus step writes seat, which is no $-object" in caplog.text
        assert await city.storage.objects(["seat"]) == {}


async def test_a_consensus_step_writes_objects_of_its_own_for_what_is_approved(
    open_cities: OpenCities,
) -> None:
    def effects(judgement: Any, args: Sequence[Any]) -> Any:
        candidates = args[1]
        return replace(
            judgement,
            refused={1: Rejection("NO_PRESENCE", "was never there")},
            pops=[bytes([index]) * 32 for index in range(len(candidates))],
            effects=lambda approved: {f"$seen/{tx.content.decode()}": b"yes" for tx in approved},
        )

    consensus = Around("judge", effects)
    async with open_cities({"tokyo": {"consensus": consensus}}) as directory:
        city = await directory.handler("tokyo")
        good, refused = sign(city, data=b"a"), sign(city, data=b"b")
        await city.submit([good.envelope, refused.envelope])
        codes = {}
        async for batch in city.watch_transactions([good.tx_id, refused.tx_id], State.APPROVED):
            codes |= {event.tx_id: event.code for event in batch.events}
        assert codes == {good.tx_id: "", refused.tx_id: "NO_PRESENCE"}
        assert await city.storage.objects(["$seen/a", "$seen/b"]) == {"$seen/a": (1, b"yes")}
        # The judgement is part of the node's id, so its receipt must carry it.
        from citychain.errors import InvalidReceipt
        from citychain.receipt import ReceiptVerifier

        receipt = (await city.receipts([good.tx_id]))[good.tx_id]
        assert receipt.pop == bytes(32)
        ReceiptVerifier(city.genesis).verify(receipt)
        with pytest.raises(InvalidReceipt, match="node"):
            ReceiptVerifier(city.genesis).verify(replace(receipt, pop=b"\1" * 32))
        # A rejected one was judged as well, which binds nothing.
        rejection = (await city.receipts([refused.tx_id]))[refused.tx_id]
        assert rejection.pop is None
        ReceiptVerifier(city.genesis).verify(rejection)


async def test_a_citys_own_rule_that_raises_is_a_failed_round_not_a_lost_transaction(
    open_cities: OpenCities, caplog: pytest.LogCaptureFixture
) -> None:
    from citychain.dag.sealed_rounds import SealedRounds

    class Moody(SealedRounds):
        raised = False

        def validate(self, transaction: Any, round: Any) -> Rejection | None:
            if not Moody.raised:
                Moody.raised = True
                raise RuntimeError("not today")
            return Rejection("RULE", "no") if transaction.content == b"bad" else None

    def moody(real: Any) -> Any:
        return Moody(real.city)

    async with open_cities({"tokyo": {"dag": moody}}) as directory:
        city = await directory.handler("tokyo")
        good, bad = sign(city), sign(city, data=b"bad")
        await city.submit([good.envelope, bad.envelope])
        codes = {}
        async with asyncio.timeout(120):
            async for batch in city.watch_transactions([good.tx_id, bad.tx_id], State.APPROVED):
                codes |= {event.tx_id: event.code for event in batch.events}
        assert codes == {good.tx_id: "", bad.tx_id: "RULE"}
    assert "Moody.validate raised RuntimeError('not today')" in caplog.text
    assert good.tx_id.hex() in caplog.text
