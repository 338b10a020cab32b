"""``citychain submit``: sign transactions and send them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from citychain.cli.exits import Exit
from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout
from citychain.cli.output import Json, say, tell_transaction
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.acknowledgement import Promise
    from citychain.cli.drafts import Draft
    from citychain.client.city import CityClient
    from citychain.client.transactions import SignedTransaction
    from citychain.crypto.signatures import SigningKey

__all__ = ["Wait", "Work", "reasons_of", "submit"]

LINES: Final = 500
"""Lines that are signed and sent at a time."""
LINE_BYTES_MAX: Final = 2 << 20


class Wait(StrEnum):
    """The state to wait for."""

    RECEIVED = "received"
    SEALED = "sealed"
    APPROVED = "approved"
    DELIVERED = "delivered"
    """As approved; of an amount for another city, that city's answer."""

    @property
    def state(self) -> str:
        """Name of the transaction's own state."""
        return "APPROVED" if self is Wait.DELIVERED else self.name


@asks_servers
def submit(
    city: City,
    key: Annotated[Path, typer.Option("--key", "-k", help="The key file that signs.")],
    data: Annotated[
        str | None, typer.Option(metavar="TEXT|@FILE", help="Content: text, or a file's.")
    ] = None,
    content_type: Annotated[str, typer.Option(help="Media type of the content.")] = "",
    transfer: Annotated[
        str | None,
        typer.Option(
            metavar="ASSET:AMOUNT:TO[@CITY]",
            help="An amount for a key id, here or in another city.",
        ),
    ] = None,
    candidacy: Annotated[
        str | None, typer.Option(metavar="ASSET:AMOUNT", help="An amount for one's own stake.")
    ] = None,
    withdrawal: Annotated[
        str | None, typer.Option(metavar="ASSET:AMOUNT", help="An amount out of one's own stake.")
    ] = None,
    witness: Annotated[
        Path | None,
        typer.Option(
            metavar="PUBLIC_KEY_FILE", help="Register a witness; the operator's key signs."
        ),
    ] = None,
    revoke_witness: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC_KEY_FILE", help="Revoke a witness; the operator's key signs."),
    ] = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(metavar="TX_ID", help="Must be approved first. Can be repeated."),
    ] = None,
    read: Annotated[
        list[str] | None,
        typer.Option(metavar="OBJECT@VERSION", help="Must stand so. Can be repeated."),
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OBJECT@VERSION",
            help="An object to write, and its version before, 0 for a new one. Can be repeated.",
        ),
    ] = None,
    valid_for: Annotated[
        str | None, typer.Option(metavar="30s|10m|2h|1d", help="Rejected in a later round.")
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Transactions, a JSON object a line.")
    ] = None,
    wait: Annotated[Wait, typer.Option(help="The state to wait for.")] = Wait.RECEIVED,
    acknowledgement: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Have the city sign what it received, in a new file; with --jsonl a folder, a "
            "file for each.",
        ),
    ] = None,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Sign one transaction, or many, and send them.

    What is received is stored durably and will have a final state; what is refused is not
    stored. An output line for each says its state and id.

    A line of `--jsonl` has one of `data` (text), `data_base64`, `transfer`
    (`{"asset": "coin", "amount": 5, "to": "<key id>"}`), `candidacy` and `withdrawal`
    (`{"asset": "coin", "stake": 5}`), `presence`, `witness`, `equivocation`, `recovery`, `peer`,
    `remittance` (`{"asset": "coin", "amount": 5, "city": "<genesis id>", "to": "<key id>"}`),
    `delivery`, `settlement`, `anchor` and `reward`, and may have `content_type`, `depends_on` (a
    list of ids), `reads` and `writes` (`{"<object>": <version>}`) and `valid_for`. A line that
    cannot be read is refused like any other.

    An amount for a key in another city, named by the slug of a peer (see `citychain peers`) or by
    its genesis id, is in escrow once it is approved; `citychain get` tells what becomes of it.

    With `--acknowledgement` the city signs that what it received has a final state by a time,
    and `citychain audit` can hold it to that. With `--jsonl` the files are `<tx_id>.json`.

    Exit codes: 0 all were received (and, with `--wait`, none was rejected or returned); 1 some were
    refused, rejected or returned; 3 some were received, and did not come so far within `--timeout`.

    Examples:

        citychain submit --city kanazawa --key alice.key --data "hello" --wait approved
        citychain submit --city kanazawa --key alice.key --transfer coin:5:<key id>
        citychain submit --city kanazawa --key alice.key --transfer coin:5:<key id>@otsu
        citychain submit --city kanazawa --key alice.key --data "deed" --acknowledgement deed.json
        citychain submit --city kanazawa --key operator.key --witness bob.pub
        citychain submit --city kanazawa --key alice.key --jsonl - --json < many.jsonl
    """
    import asyncio

    from citychain.cli.drafts import from_options
    from citychain.client.keys import load_key
    from citychain.errors import InvalidRequest

    signer = load_key(key)
    single = (
        data, transfer, candidacy, withdrawal, witness, revoke_witness, depends_on, read, write,
        valid_for,
    )  # fmt: skip
    with ExitStack() as stack:
        drafts: Iterator[Draft | InvalidRequest]
        if jsonl is not None:
            if any(option for option in single) or content_type:
                raise InvalidRequest("--jsonl", "stands alone: the lines have all the fields")
            file = sys.stdin.buffer if jsonl == "-" else stack.enter_context(open(jsonl, "rb"))
            drafts = _lines(file)
        else:
            draft = from_options(
                data=data,
                content_type=content_type,
                transfer=transfer,
                peer=asyncio.run(_peer(servers, city, timeout, transfer or "")),
                candidacy=candidacy,
                withdrawal=withdrawal,
                witness=witness,
                revoke_witness=revoke_witness,
                depends_on=depends_on or (),
                reads=read or (),
                writes=write or (),
                valid_for=valid_for,
            )
            drafts = iter([draft])
        if acknowledgement is not None:
            _check_place(acknowledgement, folder=jsonl is not None)
        work = Work(signer, wait, acknowledgement, json=json, numbered=jsonl is not None)
        asyncio.run(work.run(servers, city, timeout, drafts))
    if not work.all_well:
        raise typer.Exit(Exit.NO)


async def _peer(servers: Servers, city: str, timeout: float, transfer: str) -> bytes | None:
    """Genesis id of the other city of a transfer, given as that or as the slug of a peer; ``None``
    where it names none."""
    from citychain.cli.options import parse_id

    other = transfer.partition("@")[2]
    if not other:
        return None
    if len(other) == 64:
        return parse_id(other, "--transfer")
    async with connect(servers, city, timeout) as client:
        return await client.peer_id(other)


def _check_place(path: Path, *, folder: bool) -> None:
    """Before anything is sent: what is signed then must find its place."""
    from citychain.errors import InvalidRequest

    if folder:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InvalidRequest("--acknowledgement", f"{path} is no folder") from None
        return
    if not path.parent.is_dir():
        raise InvalidRequest("--acknowledgement", f"{path.parent} is no folder: make it first")
    if path.is_dir():
        raise InvalidRequest("--acknowledgement", f"{path} is a folder: name a file in it")
    if path.exists():
        detail = f"{path} exists, and a promise is never written over: name another file"
        raise InvalidRequest("--acknowledgement", detail)


def _lines(file: BinaryIO) -> Iterator[Any]:
    """A draft for each line, or what is wrong with the line."""
    from citychain.cli.drafts import parse_line
    from citychain.errors import InvalidRequest

    while line := file.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX:
            raise InvalidRequest("--jsonl", f"a line has more than {LINE_BYTES_MAX} bytes")
        try:
            yield parse_line(line)
        except InvalidRequest as error:
            yield error


@dataclass
class Work:
    """Signs, sends, waits, and tells of each transaction once."""

    signer: SigningKey
    wait: Wait
    acknowledgement: Path | None
    """Where to keep what the city signs: a file, or a folder where lines are numbered."""
    json: bool
    numbered: bool
    """Whether lines are told by number."""
    all_well: bool = True
    _line: int = 0

    async def run(
        self, servers: Servers, city: str, timeout: float, drafts: Iterator[Draft | Exception]
    ) -> None:
        """Send everything; then wait."""
        import asyncio

        received: dict[bytes, dict[str, Any]] = {}
        async with connect(servers, city, timeout) as client:
            genesis = (await client.info()).genesis
            while batch := await asyncio.to_thread(lambda: list(islice(drafts, LINES))):
                signed = await asyncio.to_thread(self._sign, genesis, batch)
                received |= await self._send(client, signed)
            await self._wait(client, city, received)

    def _sign(
        self, genesis: bytes, drafts: Sequence[Draft | Exception]
    ) -> list[SignedTransaction | Exception]:
        from citychain.client.transactions import sign_transaction
        from citychain.errors import InvalidRequest

        def sign(draft: Draft | Exception) -> SignedTransaction | Exception:
            if isinstance(draft, Exception):
                return draft
            try:
                return sign_transaction(
                    self.signer,
                    genesis=genesis,
                    action=draft.action,
                    depends_on=draft.depends_on,
                    reads=draft.reads,
                    writes=draft.writes,
                    valid_for=draft.valid_for,
                )
            except InvalidRequest as error:
                return error

        return [sign(draft) for draft in drafts]

    async def _send(
        self, client: CityClient, batch: Sequence[SignedTransaction | Exception]
    ) -> dict[bytes, dict[str, Any]]:
        """Send a batch; returns the records of what was received, by id."""
        from citychain.errors import InvalidRequest
        from citychain.handler import Received

        answers = iter(
            await client.submit(
                [item for item in batch if not isinstance(item, Exception)],
                acknowledge=self.acknowledgement is not None,
            )
        )
        received: dict[bytes, dict[str, Any]] = {}
        for item in batch:
            self._line += 1
            record: dict[str, Any] = {"line": self._line} if self.numbered else {}
            if isinstance(item, Exception):
                assert isinstance(item, InvalidRequest)
                self._refused(record, "MALFORMED", item.field, item.detail)
                continue
            answer = next(answers)
            record["tx_id"] = item.tx_id
            if isinstance(answer, Received):
                record |= {"state": answer.state.name, "duplicate": answer.duplicate}
                if answer.promise is not None:
                    record["acknowledgement"] = self._keep(answer.promise)
                received[item.tx_id] = record
                if self.wait is Wait.RECEIVED:
                    self._tell(record)
            else:
                self._refused(record, answer.code, answer.field, answer.detail)
        return received

    def _keep(self, promise: Promise) -> Path:
        from citychain.client.acknowledgements import save_acknowledgement

        path = self.acknowledgement
        assert path is not None
        if self.numbered:
            path /= f"{promise.tx_id.hex()}.json"
        save_acknowledgement(path, promise)
        return path

    async def _wait(
        self, client: CityClient, city: str, received: dict[bytes, dict[str, Any]]
    ) -> None:
        """Wait for the state that was asked for, a batch at a time, and tell."""
        from citychain.errors import CityUnavailable, ServerUnavailable
        from citychain.types import State

        if self.wait is Wait.RECEIVED:
            return
        ids = iter(received)
        while batch := list(islice(ids, LINES)):
            try:
                reached = await client.wait(batch, State[self.wait.state])
            except (TimeoutError, CityUnavailable, ServerUnavailable) as error:
                left = [*batch, *ids]
                for tx_id in left:
                    self._tell(received[tx_id])
                self._tell_unreached(city, left)
                if not isinstance(error, TimeoutError):
                    raise
                await _tell_wait(client)
                raise typer.Exit(Exit.UNAVAILABLE) from None
            rejected = [tx_id for tx_id in batch if reached[tx_id].code]
            reasons = await reasons_of(client, rejected)
            for tx_id in batch:
                event = reached[tx_id]
                record = received[tx_id] | {"state": event.state.name}
                record |= {"round": event.round, "seq": event.seq}
                if event.code:
                    record["code"] = event.code
                    if tx_id in reasons:
                        record |= {"field": "", "detail": reasons[tx_id]}
                    self.all_well = False
                elif self.wait is Wait.DELIVERED:
                    record |= await self._delivered(client, city, tx_id)
                self._tell(record)

    async def _delivered(self, client: CityClient, city: str, tx_id: bytes) -> dict[str, Any]:
        """What another city answers, where the transaction is for one."""
        from citychain.between_cities import RemittanceState
        from citychain.errors import NotFound

        try:
            found = await client.delivered(tx_id)
        except NotFound:
            return {}
        except TimeoutError:
            command = f"citychain get --city {quote(city)} {tx_id.hex()}"
            say(f"approved, without the other city's answer yet: {command} tells it")
            raise typer.Exit(Exit.UNAVAILABLE) from None
        record: dict[str, Any] = {"state": found.outgoing.state.name}
        if found.outgoing.state is RemittanceState.RETURNED:
            self.all_well = False
        if found.refusal is not None:
            record |= {"code": found.refusal.code, "detail": found.refusal.reason, "field": ""}
        return record

    def _tell_unreached(self, city: str, left: Sequence[bytes]) -> None:
        """What was received is not lost, and is not to be signed again."""
        state = "sealed" if self.wait is Wait.SEALED else "final"
        if len(left) == 1:
            command = f"citychain watch --city {quote(city)} {left[0].hex()}"
            say(f"received, not {state} yet: {command} tells when, citychain get where it stands")
        else:
            command = f"citychain watch --city {quote(city)} TX_ID..."
            say(
                f"received, {len(left)} not all {state} yet: {command} tells when, "
                "citychain get where each stands"
            )

    def _refused(self, record: dict[str, Any], code: str, field: str, detail: str) -> None:
        self.all_well = False
        self._tell(record | {"state": "REFUSED", "code": code, "field": field, "detail": detail})

    def _tell(self, record: dict[str, Any]) -> None:
        tell_transaction(record, json=self.json)


async def reasons_of(client: CityClient, tx_ids: Sequence[bytes]) -> dict[bytes, str]:
    """Why the city rejected these, in words, as far as it says so now."""
    from citychain.errors import CitychainError

    try:
        found = await client.status(tx_ids)
    except (CitychainError, TimeoutError):
        return {}  # Their codes are known all the same.
    return {
        tx_id: status.node.rejection.reason
        for tx_id, status in found.items()
        if status.node is not None and status.node.rejection is not None
    }


async def _tell_wait(client: CityClient) -> None:
    """What the city waits for, if its committee is what keeps it."""
    from citychain.errors import CitychainError
    from citychain.waiting import wait_in_words

    try:
        status = await client.committee()
    except (CitychainError, TimeoutError):
        # It takes no votes from elsewhere, or does not answer: there is nothing to add.
        return
    if status.round <= status.sealed_round:
        say(wait_in_words(status))
