"""``citychain recover``: an operator replaces a committee that approves nothing any more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout
from citychain.cli.output import Json, print_json, say
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.client.city import CityClient, CityInfo
    from citychain.client.transactions import SignedTransaction
    from citychain.crypto.signatures import SigningKey
    from citychain.ports import CommitteeStatus
    from citychain.types import Recovery, Seat

__all__ = ["recover"]


@asks_servers
def recover(
    city: City,
    operator_key: Annotated[
        Path, typer.Option("--operator-key", help="Key file of the city's operator.")
    ],
    seats: Annotated[
        list[str],
        typer.Option(
            "--seat",
            metavar="PUBLIC_KEY[:STAKE]",
            help="A member of the new committee: a public key file, or 5,184 hexadecimal digits; "
            "the stake is 1 if none is given. Repeat it for each.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also where no round waits for its certificate.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Replace a committee that is lost, by the operator's signature.

    The new committee certifies the first round that has no certificate, and those after it. Every
    later receipt shows that it was put in office by the operator, and from which round on. What is
    certified already stays as it is.

    A committee that keeps no round waiting is replaced with `--force` alone. Repeating it with the
    seats that a recovery put in office changes nothing; one that was broken off is completed.

    Exit codes: 0 the seats are in office; 1 nothing changed.

    Examples:

        citychain recover --city kanazawa --operator-key operator.key --seat a.pub --seat b.pub:3
    """
    import asyncio

    from citychain.client.keys import load_key

    operator = load_key(operator_key)
    members = [_member(seat) for seat in seats]
    recovery = _Recovery(operator, members, force=force, yes=yes, json=json)
    asyncio.run(recovery.run(servers, city, timeout))


class _Member(NamedTuple):
    public_key: bytes
    stake: int

    @property
    def seat(self) -> Seat:
        from citychain.crypto.keys import key_id
        from citychain.types import Seat

        return Seat(key_id(self.public_key), self.stake)


def _member(option: str) -> _Member:
    from citychain.client.keys import load_public_key
    from citychain.errors import InvalidRequest

    match = re.fullmatch(r"(?s)(.+?)(?::([0-9]{1,19}))?", option)
    if match is None:
        raise InvalidRequest("--seat", "is empty")
    name, stake = match[1], int(match[2] or 1)
    if stake < 1:
        raise InvalidRequest("--seat", f"{name[:40]}: a stake is at least 1")
    if re.fullmatch(r"[0-9a-fA-F]{5184}", name):
        return _Member(bytes.fromhex(name), stake)
    return _Member(load_public_key(name), stake)


class _Recovery:
    """One recovery, from what the server says to what came of it."""

    def __init__(
        self,
        operator: SigningKey,
        members: list[_Member],
        *,
        force: bool,
        yes: bool,
        json: bool,
    ) -> None:
        self._operator = operator
        self._members = members
        self._force = force
        self._yes = yes
        self._json = json

    async def run(self, servers: Servers, city: str, timeout: float) -> None:
        from citychain.cli.stating import check_operator
        from citychain.client.transactions import sign_transaction
        from citychain.genesis import Genesis

        async with connect(servers, city, timeout) as client:
            info = await client.info()
            check_operator(Genesis.from_bytes(info.genesis_file), self._operator, "--operator-key")
            status = await client.committee()
            if done := await self._done_before(client, status):
                await self._submit(client, *done)
                return
            self._check_wait(status)
            recovery = await self._build(client, info)
            self._confirm(recovery)
            transaction = sign_transaction(
                self._operator, genesis=info.genesis, action=recovery, with_public_key=True
            )
            await client.recover(transaction, [member.public_key for member in self._members])
            say(
                f"from round {recovery.from_round} on, rounds are certified by the new committee "
                f"of {len(recovery.seats)}"
            )
            await self._submit(client, transaction, recovery)

    async def _done_before(
        self, client: CityClient, status: CommitteeStatus
    ) -> tuple[SignedTransaction, Recovery] | None:
        """The recovery that put these seats in office, if one did."""
        from citychain._native.transactions import decode_batch
        from citychain.client.transactions import SignedTransaction

        wanted = {tuple(member.seat) for member in self._members}
        if wanted != {(member.key_id, member.stake) for member in status.members}:
            return None
        handovers = await client.handovers()
        if not handovers or not (envelope := handovers[-1].recovery):
            return None
        [transaction] = decode_batch([envelope])
        recovery = transaction.recovery
        if recovery is None or wanted != set(map(tuple, recovery.seats)):
            return None
        say(f"these seats are in office already, by a recovery from round {recovery.from_round} on")
        signed = SignedTransaction(transaction.tx_id, envelope, self._operator.public_key)
        return signed, recovery

    def _check_wait(self, status: CommitteeStatus) -> None:
        from citychain.waiting import wait_in_words

        if status.round <= status.sealed_round:
            say(wait_in_words(status))
            return
        well = f"no round waits: the committee approved all {status.sealed_round} rounds"
        if self._force:
            say(well)
            return
        say(f"{well}; --force replaces it all the same")
        raise typer.Exit(Exit.NO)

    async def _build(self, client: CityClient, info: CityInfo) -> Recovery:
        """The recovery from the first round without a certificate on."""
        from citychain.types import Recovery

        last = info.head.certified_round
        previous = (await client.checkpoint(last)).checkpoint_hash if last else info.genesis
        return Recovery(last + 1, previous, tuple(member.seat for member in self._members))

    def _confirm(self, recovery: Recovery) -> None:
        from citychain.waiting import short

        new = ", ".join(f"{short(seat.key_id)} with stake {seat.stake}" for seat in recovery.seats)
        say(f"from round {recovery.from_round} on, in its place: {new}")
        if not self._yes and not typer.confirm("Replace the committee?", err=True):
            say("nothing changed")
            raise typer.Exit(Exit.NO)

    async def _submit(
        self, client: CityClient, transaction: SignedTransaction, recovery: Recovery
    ) -> None:
        """Bring the recovery into the ledger, from where the next rounds name its committee.

        One that is there already stays as it is.
        """
        from citychain.handler import Received

        [result] = await client.submit([transaction])
        if not isinstance(result, Received):
            say(f"its transaction was refused: {result.code}: {result.field} {result.detail}")
            raise typer.Exit(Exit.NO)
        record = {
            "tx_id": transaction.tx_id,
            "state": result.state.name,
            "from_round": recovery.from_round,
            "seats": [
                {"key_id": seat.key_id.hex(), "stake": seat.stake} for seat in recovery.seats
            ],
        }
        if self._json:
            print_json(record)
        else:
            print(transaction.tx_id.hex())
            say("is its transaction; its receipt will show the new committee's votes")
