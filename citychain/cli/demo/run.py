"""Carries a plan out: sends, kills the server half-way, waits, fetches and checks receipts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from citychain.cli.demo.check import CityResult, Result
from citychain.cli.demo.plan import UNKNOWN_CITY, CityPlan, Step
from citychain.cli.demo.sign import Signed, sign
from citychain.cli.server_process import ServerProcess
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidReceipt, NotFound
from citychain.genesis import Genesis
from citychain.handler import Received
from citychain.receipt import Receipt, ReceiptVerifier

__all__ = ["Stage", "ask_unknown_city", "run"]

PATIENCE: Final = timedelta(seconds=60)
"""How long a call goes on while the server is away, and how long the last become final."""
IN_FLIGHT_SECONDS_MAX: Final = 0.05
"""From sending the middle chunks to the kill: before or after they are stored, by chance."""


class Stage(NamedTuple):
    """Where the run is shown."""

    advance: Callable[[str, int], None]
    """A city's slug, and by how many of `CityPlan.work` its work went on."""
    say: Callable[[str], None]


async def run(
    plans: Sequence[CityPlan],
    server: ServerProcess,
    data_dir: Path,
    residents: Sequence[SigningKey],
    stage: Stage,
) -> list[CityResult]:
    """Carry the plans out on a server that runs, and stop it.

    Raises:
        ServerUnavailable: the server did not come back.
    """
    halfway = asyncio.Barrier(len(plans) + 1)
    async with AsyncExitStack() as stack:
        cities = []
        for plan in plans:
            channels = ChannelFactory([server.address])
            client = CityClient(plan.city.slug, channels, timeout=PATIENCE)
            await stack.enter_async_context(client)
            cities.append(_City(plan, client, server, stage))
        for city in cities:
            await city.sign(residents)
        async with asyncio.TaskGroup() as group:
            for city in cities:
                group.create_task(city.send_and_wait(halfway))
            await halfway.wait()
            await asyncio.sleep(random.uniform(0, IN_FLIGHT_SECONDS_MAX))
            await server.kill()
            stage.say("half-way: the server is killed (SIGKILL), with transactions under way")
            await server.start()
            stage.say(f"the server is back after {server.away_seconds:.1f} s; the clients go on")
        for city in cities:
            await city.fetch()
    await server.stop()
    stage.say("the server is stopped; every receipt is checked without it")
    for city in cities:
        genesis_file = data_dir / "genesis" / f"{city.result.plan.city.slug}.json"
        await asyncio.to_thread(city.verify, genesis_file)
    return [city.result for city in cities]


async def ask_unknown_city(server: ServerProcess) -> str:
    """What the server answers to a submission to `UNKNOWN_CITY`."""
    channels = ChannelFactory([server.address])
    async with CityClient(UNKNOWN_CITY, channels, timeout=PATIENCE) as client:
        try:
            await client.submit([b""])
        except NotFound as error:
            return f"NOT_FOUND, did you mean {', '.join(error.suggestions) or 'nothing'}?"
    return "accepted"


class _City:
    """One city's part of the run."""

    def __init__(
        self, plan: CityPlan, client: CityClient, server: ServerProcess, stage: Stage
    ) -> None:
        self.result = CityResult(plan, [])
        self._plan = plan
        self._client = client
        self._server = server
        self._stage = stage
        self._signed: Sequence[Signed] = ()
        self._final: dict[bytes, tuple[str, float]] = {}
        self._told = asyncio.Event()
        self._receipts: dict[bytes, Receipt] = {}

    def _advance(self, count: int) -> None:
        self._stage.advance(self._plan.city.slug, count)

    async def sign(self, residents: Sequence[SigningKey]) -> None:
        """Open the city and sign all that is sent to it."""
        info = await self._client.info()
        self.result.dag = info.listing.dag
        self._signed = await sign(self._plan, info.genesis, residents)
        self.result.results = [Result(signed.step, signed.tx_id) for signed in self._signed]

    async def send_and_wait(self, halfway: asyncio.Barrier) -> None:
        """Send chunk by chunk, and wait until what was acknowledged is final."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            for index, chunk in enumerate(self._plan.chunks):
                if index == self._plan.middle:
                    await halfway.wait()
                await self._send(chunk)
            # What is not final by then is a difference that the check names.
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await self._all_final()
            watching.cancel()
        self.result.seconds = time.monotonic() - started

    async def _send(self, chunk: Sequence[Step]) -> None:
        if not chunk:
            return
        sent_at, starts = time.monotonic(), self._server.starts
        answers = await self._client.submit([self._signed[step.number].item for step in chunk])
        answered_at = time.monotonic()
        for step, answer in zip(chunk, answers, strict=True):
            result = self.result.results[step.number]
            result.sent_at, result.answered_at = sent_at, answered_at
            result.resent = self._server.starts != starts
            if isinstance(answer, Received):
                result.answer = "DUPLICATE" if answer.duplicate else "RECEIVED"
                result.answered_id = answer.tx_id
            else:
                result.answer = f"REFUSED {answer.code}"
        self._advance(len(chunk))

    async def _watch(self) -> None:
        async with aclosing(self._client.watch(after=0)) as batches:
            async for batch in batches:
                now = time.monotonic()
                for event in batch.events:
                    state = f"{event.state.name} {event.code}".strip()
                    self._final[event.tx_id] = (state, now)
                self._advance(len(batch.events))
                self._told.set()

    async def _all_final(self) -> None:
        waiting = {result.tx_id for result in self.result.results if result.acknowledged}
        while not waiting <= self._final.keys():
            self._told.clear()
            await self._told.wait()

    async def fetch(self) -> None:
        """Fetch what the end must be judged by: all receipts, and the size of the log."""
        for result in self.result.results:
            if result.acknowledged and result.tx_id in self._final:
                result.final, result.final_at = self._final[result.tx_id]
        self._receipts = await self._client.receipts(list(self._final))
        self.result.log_size = (await self._client.info()).head.size

    def verify(self, genesis_file: Path) -> None:
        """Check every receipt with the genesis file alone."""
        verifier = ReceiptVerifier(Genesis.from_bytes(genesis_file.read_bytes()))
        verdicts = {
            tx_id: self._verdict(verifier, tx_id, receipt)
            for tx_id, receipt in self._receipts.items()
        }
        for result in self.result.results:
            if result.acknowledged:
                result.receipt = verdicts.get(result.tx_id, "none")
        self._advance(len(verdicts))

    def _verdict(self, verifier: ReceiptVerifier, tx_id: bytes, receipt: Receipt) -> str:
        try:
            verifier.verify(receipt)
        except InvalidReceipt as error:
            return str(error)
        rejection = receipt.rejection
        state = "APPROVED" if rejection is None else f"REJECTED {rejection.code}"
        if receipt.tx_id != tx_id or state != self._final[tx_id][0]:
            return f"proves another thing: {state} of {receipt.tx_id.hex()}"
        return "valid"
