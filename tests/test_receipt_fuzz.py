"""No byte of a receipt can be altered and the result verify; and two verifiers agree on all that
fuzzing comes upon: citychain's own, and docs/verifier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import primitives
import pytest
import transactions as plain_transactions
import verifier
from hypothesis import given, settings
from hypothesis import strategies as st
from test_vectors import case_bytes, cities, content, our_verdict, plain_verdict

from citychain import checkpoint as checkpoints
from citychain._native.transactions import decode_batch
from citychain.client.receipts import load_receipt, save_receipt
from citychain.errors import InvalidReceipt, VerificationError
from citychain.genesis import Genesis
from citychain.receipt import ReceiptVerifier
from citychain.rpc._generated.citychain.v1 import ledger_pb2
from citychain.rpc.messages import parse_receipt

GOOD = {case["name"]: case["city"] for case in content("receipts")["cases"] if not case["check"]}
FEW = ("approved", "rejected", "removed", "elected", "recovered")
"""One of each kind; in the others nothing new stands. The slow test takes all."""
OPAQUE_BYTES = 2_592
STEP = 97
"""Of keys and signatures every so many bytes are tried; the slow test takes all."""


def verdicts(city: str, data: bytes) -> str | None:
    """The check that fails in both verifiers; they must agree."""
    genesis, plain = cities()[city]
    ours = our_verdict(genesis, data)
    assert plain_verdict(plain, data) == ours, data.hex()
    return ours


def opaque(message: Any) -> Iterator[bytes]:
    """The keys and signatures in a message."""
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if field.message_type:
                yield from opaque(item)
            elif isinstance(item, bytes) and len(item) >= OPAQUE_BYTES:
                yield item


def places(data: bytes) -> tuple[list[int], list[int]]:
    """Places of bytes that have a structure, and of those within keys and signatures."""
    inner: set[int] = set()
    for item in opaque(ledger_pb2.Receipt.FromString(data)):
        start = -1
        while (start := data.find(item, start + 1)) >= 0:
            inner |= set(range(start, start + len(item)))
    return sorted(set(range(len(data))) - inner), sorted(inner)


def altered(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def lengthened(data: bytes, at: int) -> list[bytes]:
    """Other bytes, with some more or less at this place, or in another order."""
    others = (
        data[:at],
        data[:at] + data[at + 1 :],
        data[:at] + b"\0" + data[at:],
        data[:at] + data[at : at + 1] + data[at:],
        data[:at] + data[at + 1 : at + 2] + data[at : at + 1] + data[at + 2 :],
    )
    return [other for other in others if other != data]


@pytest.mark.parametrize("kind", FEW)
def test_no_altered_byte_verifies(kind: str) -> None:
    data, city = case_bytes("receipts")[kind], GOOD[kind]
    structured, inner = places(data)
    assert verdicts(city, data) is None
    for at in (*structured[:: 1 + len(structured) // 1_000], *inner[::STEP]):
        assert verdicts(city, altered(data, at, at * 5 % 8)) is not None, at


@pytest.mark.parametrize("kind", FEW)
def test_no_byte_more_or_less_verifies(kind: str) -> None:
    data, city = case_bytes("receipts")[kind], GOOD[kind]
    structured, _ = places(data)
    for at in structured[:: 1 + len(structured) // 1_000]:
        others = lengthened(data, at)
        assert verdicts(city, others[at % len(others)]) is not None, at


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOOD)
def test_nothing_altered_verifies_at_all(kind: str) -> None:
    data, city = case_bytes("receipts")[kind], GOOD[kind]
    genesis, _ = cities()[city]
    structured, inner = places(data)
    for at in structured:
        for other in (*lengthened(data, at), *(altered(data, at, bit) for bit in range(8))):
            assert verdicts(city, other) is not None, at
    for at in inner:
        assert our_verdict(genesis, altered(data, at, at % 8)) is not None, at


# --- receipts put together of parts of others


def parts(message: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value in a message, with how to reach it."""
    for field, value in message.ListFields():
        if field.is_repeated:
            for index, item in enumerate(value):
                yield (*path, field.name, index), item
                if field.message_type:
                    yield from parts(item, (*path, field.name, index))
        else:
            yield (*path, field.name), value
            if field.message_type:
                yield from parts(value, (*path, field.name))


MESSAGES = {name: ledger_pb2.Receipt.FromString(case_bytes("receipts")[name]) for name in GOOD}
PARTS = {name: list(parts(message)) for name, message in MESSAGES.items()}
KINDS: dict[tuple[type, str], list[Any]] = {}
"""Values by their type and their field's name."""
for _path, _value in (part for found in PARTS.values() for part in found):
    KINDS.setdefault((type(_value), [step for step in _path if isinstance(step, str)][-1]), [])
    KINDS[type(_value), [step for step in _path if isinstance(step, str)][-1]].append(_value)


def put(message: Any, path: tuple[Any, ...], value: Any) -> None:
    """Replace, or with None remove, what stands at a path; nothing where it is gone."""
    *above, last = path
    try:
        for step in above:
            message = message[step] if isinstance(step, int) else getattr(message, step)
        if isinstance(last, int):
            if value is None:
                del message[last]
            elif hasattr(value, "CopyFrom"):
                message[last].CopyFrom(value)
            else:
                message[last] = value
        elif value is None:
            message.ClearField(last)
        elif hasattr(value, "CopyFrom"):
            getattr(message, last).CopyFrom(value)
        else:
            setattr(message, last, value)
    except IndexError:
        pass


def changed(draw: Any, value: Any) -> Any:
    """A value near to this one."""
    if isinstance(value, bytes) and value:
        at = draw(st.integers(0, len(value) - 1))
        return value[:at] + bytes((value[at] ^ draw(st.integers(1, 255)),)) + value[at + 1 :]
    if isinstance(value, int):
        return max(0, value + draw(st.sampled_from((-1, 1))))
    if isinstance(value, str):
        return draw(st.text(max_size=4))
    return None


def _mixture(draw: Any) -> tuple[str, bytes]:
    """A receipt with some parts taken out, altered, or from others, and the city it claims.

    Parts are drawn by number: they are too long to be shown.
    """

    def one(items: list[Any]) -> Any:
        return items[draw(st.integers(0, len(items) - 1))]

    kind = draw(st.sampled_from(sorted(GOOD)))
    message = ledger_pb2.Receipt()
    message.CopyFrom(MESSAGES[kind])
    for _ in range(draw(st.integers(1, 3))):
        path, value = one(PARTS[kind])
        name = path[-1] if isinstance(path[-1], str) else path[-2]
        match draw(st.sampled_from(("remove", "change", "take", "take", "move"))):
            case "remove":
                put(message, path, None)
            case "change":
                put(message, path, changed(draw, value))
            case "take":
                put(message, path, one(KINDS[type(value), name]))
            case _:
                message.handovers.append(one(HANDOVERS))
    return GOOD[kind], message.SerializeToString(deterministic=True)


HANDOVERS = [handover for message in MESSAGES.values() for handover in message.handovers]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_verifiers_agree_on_mixtures_of_receipts(data: Any) -> None:
    city, wire = _mixture(data.draw)
    if verdicts(city, wire) is None:
        # As good as another: only parts of equal worth were exchanged.
        assert parse_receipt(wire).tx_id in {message.tx_id for message in MESSAGES.values()}


# --- files


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("receipts") / "receipt.json"


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["rejected", "removed", "judged"]))
def test_both_read_the_same_files(file: Path, data: Any, kind: str) -> None:
    save_receipt(file, parse_receipt(case_bytes("receipts")[kind]))
    text = file.read_text()
    assert verifier.load_receipt(text.encode()) == verifier.parse_receipt(
        case_bytes("receipts")[kind]
    )
    # Among the names and numbers, rather than within a signature.
    marks = [at for at, letter in enumerate(text) if letter in '{}[]":,=' or letter.isspace()]
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(marks)) + data.draw(st.integers(-1, 1))
        piece = data.draw(st.sampled_from(["", *'{}[]":,=01e-. \\\n', "null", "true", '"seq": 0,']))
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 2)) :]
    file.write_text(text)
    genesis, plain = cities()[GOOD[kind]]
    ours = theirs = None
    try:
        ReceiptVerifier(genesis).verify(load_receipt(file))
    except InvalidReceipt as error:
        ours = error.check
    try:
        verifier.verify_receipt(plain, verifier.load_receipt(text.encode()))
    except primitives.Invalid as error:
        theirs = error.check
    assert ours == theirs


# --- transactions and checkpoints


ENVELOPES = [
    case_bytes("transactions")[case["name"]]
    for case in content("transactions")["cases"]
    if not case["check"]
]


def stored(envelope: bytes) -> tuple[bytes, bytes]:
    """An envelope's body, and its signer and signature as they are stored."""
    message = ledger_pb2.Transaction.FromString(b"\x1a" + length(len(envelope)) + envelope)
    signed = message.transaction
    [author] = [signed.body[at + 2 : at + 34] for at in [signed.body.index(b"\x12\x20")]]
    return signed.body, b"\x10\x01\x22\x20" + author + b"\x2a\x93\x24" + signed.signature


def length(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return encoded + bytes((value,))


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_both_read_the_same_bodies(data: Any) -> None:
    body, rest = stored(ENVELOPES[data.draw(st.integers(0, len(ENVELOPES) - 1))])
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, min(len(body), 240)))
        piece = data.draw(st.binary(max_size=3))
        body = body[:at] + piece + body[at + data.draw(st.integers(0, 3)) :]
    readable = True
    try:
        decode_batch([b"\x0a" + length(len(body)) + body + rest])
    except ValueError as error:
        readable = "in the form in which envelopes are stored" in str(error)
    try:
        plain_transactions.parse_body(body)
    except primitives.Invalid:
        assert not readable
    else:
        assert readable


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_both_read_the_same_checkpoints(data: Any) -> None:
    samples = [*case_bytes("checkpoints").values()]
    encoded = samples[data.draw(st.integers(0, len(samples) - 1))]
    at = data.draw(st.integers(0, len(encoded)))
    piece = data.draw(st.binary(max_size=3))
    encoded = encoded[:at] + piece + encoded[at + data.draw(st.integers(0, 3)) :]
    try:
        ours = checkpoints.decode(encoded)
    except VerificationError:
        with pytest.raises(ValueError):  # noqa: PT011
            verifier.parse_checkpoint(encoded)
    else:
        plain = verifier.parse_checkpoint(encoded)
        assert list(ours.committee) == plain["committee"]
        assert (ours.rule, ours.size, ours.root) == (plain["rule"], plain["size"], plain["root"])


def test_the_command_says_valid_or_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(content("receipts")["genesis"]["harbour"])
    good, bad, junk = (tmp_path / name for name in ("good.json", "bad.json", "junk.json"))
    save_receipt(good, parse_receipt(case_bytes("receipts")["rejected"]))
    fields = json.loads(good.read_text())
    bad.write_text(json.dumps(fields | {"seq": 2}))
    junk.write_text("junk")
    assert verifier.main([str(genesis), str(good), str(bad), str(junk)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["VALID", "INVALID", "INVALID"]
    assert "inclusion:" in lines[1]
    assert "form:" in lines[2]
    assert verifier.main([str(genesis), str(good)]) == 0
    capsys.readouterr()
    assert verifier.main([str(genesis), str(tmp_path / "none.json"), str(good)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["UNREADABLE", "VALID"]
    assert verifier.main([str(genesis)]) == 2


def test_the_command_says_whom_the_operator_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis, path = tmp_path / "genesis.json", tmp_path / "recovered.json"
    genesis.write_text(content("receipts")["genesis"][GOOD["recovered"]])
    receipt = parse_receipt(case_bytes("receipts")["recovered"])
    save_receipt(path, receipt)
    ours = ReceiptVerifier(Genesis.from_bytes(genesis.read_bytes()))
    ours.verify(receipt)
    [round] = ours.recovered_rounds(receipt.round)
    assert verifier.main([str(genesis), str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"VALID    {path}",
        f"         the operator replaced the committee from round {round} on",
    ]
