"""The second act of the demonstration: a server lies, and its city's representatives refuse.

Three representatives, each in a process of its own, follow a city whose server passes
off as approved what the rules reject. They approve what is honest. The lie gets no
vote, so it has no certificate and no receipt; an audit of what the server stored
finds it, too.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from citychain.cli.demo.plan import ASSET
from citychain.cli.server_process import ServerProcess
from citychain.client.actions import Transfer
from citychain.client.channels import ChannelFactory
from citychain.client.city import CityClient
from citychain.client.keys import create_key
from citychain.client.transactions import sign_transaction
from citychain.crypto.keys import key_id
from citychain.crypto.signatures import SigningKey
from citychain.ports import CommitteeStatus
from citychain.types import State

__all__ = ["Caught", "catch_a_lie"]

CITY: Final = "riverside"
LIE: Final = "approve what is rejected"
REPRESENTATIVES: Final = 3
HAS: Final = 10
SPENDS: Final = 500
PATIENCE: Final = timedelta(seconds=60)


@dataclass(slots=True)
class Caught:
    """What came of it."""

    honest: str = ""
    """State of the honest transaction."""
    votes: int = 0
    """For the round that has it."""
    lie: str = ""
    """State of the one that the server lies about."""
    refusals: list[str] = field(default_factory=list)
    """What each representative says of the lie."""
    receipts: int = 0
    """For the lie."""
    audit: str = ""
    """What an audit of the server's storage says."""

    @property
    def differences(self) -> list[str]:
        """What is not as it must be."""
        must = {
            f"the honest transaction is {self.honest}, not APPROVED": self.honest == "APPROVED",
            f"the lie is {self.lie}, not SEALED": self.lie == "SEALED",
            f"{len(self.refusals)} representatives refused, not {REPRESENTATIVES}": len(
                self.refusals
            )
            == REPRESENTATIVES,
            "the lie has a receipt": self.receipts == 0,
            f"the audit says {self.audit}": "verdict" in self.audit,
        }
        return [f"{CITY}: {difference}" for difference, holds in must.items() if not holds]


async def catch_a_lie(directory: Path, say: Callable[[str], None]) -> Caught:
    """Run the lying server, its representatives and the two transactions.

    Args:
        directory: A new one.
        say: Told what happens, in plain words.

    Raises:
        ServerUnavailable: the server did not start.
    """
    ana, ben = _prepare(directory)
    caught = Caught()
    command = ("-m", "citychain.cli.demo.lying_server", str(directory), CITY, LIE)
    server = ServerProcess(directory, command)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        await server.start()
        say(f"a second server lies: what the rules of {CITY} reject, it passes off as approved")
        for number in range(REPRESENTATIVES):
            await stack.enter_async_context(_representative(directory, number, server.address))
        channels = ChannelFactory([server.address])
        city = await stack.enter_async_context(CityClient(CITY, channels, timeout=PATIENCE))
        genesis = (await city.info()).genesis

        def pay(amount: int, payer: Any, payee: Any) -> Any:
            transfer = Transfer(ASSET, key_id(payee.public_key), amount)
            return sign_transaction(payer, genesis=genesis, transfer=transfer, with_public_key=True)

        honest, overdraft = pay(HAS, ana, ben), pay(SPENDS, ben, ana)
        await city.submit([honest])
        event = (await city.wait([honest.tx_id]))[honest.tx_id]
        caught.honest = event.state.name
        [stored] = await city.rounds(event.round, 1)
        caught.votes = len(stored.certificate.votes) if stored.certificate else 0
        say(
            f"Ana pays Ben {HAS} {ASSET}: round {event.round} holds, {caught.votes} of "
            f"{REPRESENTATIVES} representatives signed, it is {caught.honest}"
        )
        await city.submit([overdraft])
        event = (await city.wait([overdraft.tx_id], State.SEALED))[overdraft.tx_id]
        say(
            f"Ben spends {SPENDS} {ASSET} that he has not: the server says that it is good "
            f"(round {event.round})"
        )
        status = await _refusals(city)
        for member in status.members:
            if member.objection is not None:
                refusal = f"{member.objection.check}: {member.objection.detail}"
                caught.refusals.append(refusal)
                say(
                    f"representative {member.key_id.hex()[:12]}… refuses round "
                    f"{member.objection.round}: {_shortened(refusal)}"
                )
        caught.lie = (await city.status([overdraft.tx_id]))[overdraft.tx_id].state.name
        caught.receipts = len(await city.receipts([overdraft.tx_id]))
        say(f"the lie stays {caught.lie}: no certificate, no receipt, and nobody is paid")
    caught.audit = await _audit(directory)
    say(f"the server is stopped; an audit of what it stored says: {_shortened(caught.audit)}")
    return caught


def _shortened(text: str) -> str:
    """A text whose ids people can read over."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", text)


def _prepare(directory: Path) -> tuple[SigningKey, SigningKey]:
    """Write keys and configuration; returns the keys of the two who pay."""
    directory.mkdir(parents=True)
    create_key(directory / "operator.key")
    ana, ben = create_key(directory / "ana.key"), create_key(directory / "ben.key")
    seats = [create_key(directory / f"representative-{n}.key") for n in range(REPRESENTATIVES)]
    committee = ", ".join(f'{{ public_key = "{key.public_key.hex()}" }}' for key in seats)
    (directory / "citychain.toml").write_text(
        'network = "demo"\n[pacer]\nmin_seconds = 0.1\nmax_seconds = 0.2\n'
        f'[cities.{CITY}]\nconsensus = "poh-pop"\ncommittee = [{committee}]\n'
        f"[cities.{CITY}.balances.{ASSET}]\n{key_id(ana.public_key).hex()} = {HAS}\n"
    )
    return ana, ben


async def _refusals(city: CityClient) -> CommitteeStatus:
    """Wait until each representative has refused."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            status = await city.committee()
            if all(member.objection is not None for member in status.members):
                return status
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _representative(directory: Path, number: int, address: str) -> AsyncIterator[None]:
    """A process that follows the city and votes."""
    name = f"representative-{number}"
    with (directory / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "citychain", "representative"),
            *("--city", CITY, "--key", f"{name}.key", "--state-dir", name),
            *("--server", address, "--config", "citychain.toml"),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _audit(directory: Path) -> str:
    """What ``citychain audit`` says of the storage that the server left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citychain", "audit", "--city", CITY, "--storage", "--json"),
        *("--config", "citychain.toml"),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if not out:
        return err.decode(errors="replace").strip().rpartition("\n")[2] or "nothing"
    found = json.loads(out)
    if found["holds"]:
        return f"all {found['rounds']} rounds hold"
    return f"round {found['round']} does not hold: {found['check']}: {found['detail']}"
