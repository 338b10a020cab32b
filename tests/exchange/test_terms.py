"""A proof may start from a committee that the ledger knows, and shows what it did from the genesis:
no more and no less."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from exchange.towns import AUTHORS, OPERATOR, Town, peered
from history import History, Members
from hypothesis import given, settings
from hypothesis import strategies as st
from test_committee_histories import Change, histories

from citychain import committee
from citychain.city import sealing
from citychain.compute import Executor
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidReceipt, InvalidRound, StorageError
from citychain.exchange import terms
from citychain.exchange.proof import encode_receipt
from citychain.exchange.terms import term_id, term_object
from citychain.genesis import Genesis
from citychain.receipt import ReceiptVerifier
from citychain.types import Certificate, Handover, ObjectState, Rejection

ANNA, BEN, CARL = AUTHORS[:3]
KEYS = [SigningKey(bytes([100 + number]) * 32) for number in range(7)]


@pytest.fixture
async def compute() -> AsyncIterator[Executor]:
    async with Executor(2) as executor:
        yield executor


class Kept:
    """A ledger that has some terms."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    async def objects(self, objects: Sequence[str]) -> dict[str, ObjectState]:
        return {name: ObjectState(1, self.values[name]) for name in objects if name in self.values}


async def at_once(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def run(work: Any) -> Any:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def stored(genesis: Genesis, handovers: Sequence[Handover]) -> committee.Term | None:
    """The last term of these handovers, as a ledger gives it back that was shown them."""
    shown = terms.follow(genesis, None, handovers)
    if not shown:
        return None
    key = (genesis.id, term_id(genesis, shown[-1]))
    state: Any = Kept(terms.objects_of(genesis.id, shown))
    terms._LOADED.clear()
    return run(terms.known([key], state, at_once))[key]


def verdict(
    genesis: Genesis,
    start: committee.Term | None,
    handovers: Sequence[Handover],
    checkpoint: bytes,
    certificate: Certificate,
) -> str:
    """The check that fails; empty if all hold."""
    try:
        ReceiptVerifier(genesis, start).verify_checkpoint(checkpoint, certificate, handovers)
    except InvalidReceipt as error:
        return error.check
    return ""


# --- the same as from the genesis

Case = tuple[History, list[Handover], list[Handover], bytes, Certificate]
"""A city, what its peer knows of it, what a proof brings, and what that is of."""


def differs(case: Case) -> bool:
    """Whether a proof is judged otherwise if it starts from what is known."""
    history, known, brought, checkpoint, certificate = case
    whole = verdict(history.genesis, None, [*known, *brought], checkpoint, certificate)
    start = stored(history.genesis, known)
    return verdict(history.genesis, start, brought, checkpoint, certificate) != whole


def is_shown(history: History, handovers: Sequence[Handover]) -> bool:
    """Whether handovers hold one after the other, as they do in any proof that does."""
    try:
        committee.CommitteeChain(history.genesis).follow(handovers, 1 << 40)
    except InvalidReceipt:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(histories(), st.data())
def test_a_proof_from_a_known_committee_holds_where_the_whole_one_does(
    any_history: tuple[History, list[Change]], data: st.DataObject
) -> None:
    """Whatever is known, by whichever way, and whatever is brought, true or not."""
    history, changes = any_history
    handovers = [change.handover for change in changes[1:]]
    # A recovery stands wherever it is put; so what is known may be known another way.
    known = [it for it in handovers if data.draw(st.integers(0, 4)) > 0]
    known = known[: data.draw(st.integers(0, len(known)))]
    if not is_shown(history, known):
        return
    rest = handovers[handovers.index(known[-1]) + 1 :] if known else handovers
    brought = rest[: data.draw(st.integers(0, len(rest)))]
    if handovers and data.draw(st.integers(0, 2)) == 0:
        brought = data.draw(st.lists(st.sampled_from(handovers), max_size=3))
    sealed = data.draw(st.sampled_from(history.rounds))
    office = [change for change in changes if change.first_round <= sealed.round][-1]
    if data.draw(st.integers(0, 2)) == 0:
        office = data.draw(st.sampled_from(changes))
    certificate = history.certify(sealed, list(office.members))
    assert not differs((history, known, brought, sealed.checkpoint, certificate))


FIRST: Members = {1: 1, 2: 1}
SECOND: Members = {3: 1}
THIRD: Members = {4: 1, 5: 1}
FOURTH: Members = {6: 1}


def scene() -> tuple[History, dict[str, Handover]]:
    """Round 2 elects the second committee, which the third replaces from round 4 on, when 4 is
    sealed, and the fourth the third, from the same round."""
    history = History(FIRST)
    history.seal(FIRST)
    elects = history.seal(FIRST, SECOND)
    history.seal(SECOND)
    history.seal(SECOND)
    changes = {
        "second": history.election(elects, [1, 2], SECOND),
        "third": history.recovery(4, THIRD),
        "fourth": history.recovery(4, FOURTH),
    }
    history.seal(FOURTH)
    return history, changes


def cases() -> list[Case]:
    """What tells a judge that is wrong from one that is right."""
    history, at = scene()
    second, third, fourth = at.values()
    rounds = history.rounds

    def case(known: list[Handover], brought: list[Handover], round: int, by: list[int]) -> Case:
        sealed = rounds[round - 1]
        return history, known, brought, sealed.checkpoint, history.certify(sealed, by)

    fork = history.seal(SECOND, FIRST, round=2)
    early = history.election(fork, [3], FIRST)
    old = history.recovery(2, THIRD)
    return [
        case([], [], 1, [1, 2]),
        case([second], [], 3, [3]),
        # The fourth certifies a round that names the second, and its own.
        case([second, third, fourth], [], 4, [6]),
        case([second, third, fourth], [], 5, [6]),
        case([second], [third, fourth], 4, [6]),
        case([second, third], [fourth], 4, [6]),
        # Nobody is in office before his first round.
        case([second], [], 2, [3]),
        case([second, third, fourth], [], 3, [6]),
        case([second], [early], 3, [1, 2]),
        case([second, third], [second], 4, [3]),
        case([second], [old], 3, [4, 5]),
        # No recovery comes twice, nor the committee that it replaced.
        case([second, third, fourth], [third], 4, [4, 5]),
        case([second, third, fourth], [fourth], 4, [6]),
        case([second, third, fourth], [second], 4, [3]),
        case([second], [second], 3, [3]),
        # Who is replaced certifies by what is known of him alone, as ever: see the design.
        case([second], [], 4, [3]),
        # One who was never told of the second does not take its rounds from the fourth.
        case([fourth], [], 4, [6]),
        case([fourth], [], 5, [6]),
    ]


def test_what_is_told_by_name_is_judged_as_from_the_genesis() -> None:
    assert [number for number, case in enumerate(cases()) if differs(case)] == []
    history, known, brought, checkpoint, certificate = cases()[4]
    assert verdict(history.genesis, None, [*known, *brought], checkpoint, certificate) == ""


def no_order(original: Any) -> Any:
    def verify_handover(chain: Any, term: Any, index: int) -> None:
        first = chain._terms[index - 1]
        with pytest.MonkeyPatch.context() as patched:
            terms_ = (*chain._terms[: index - 1], replace(first, first_round=1))
            patched.setattr(chain, "_terms", (*terms_, *chain._terms[index:]))
            original(chain, term, index)

    return verify_handover


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        pytest.param(
            terms, "after", lambda _: lambda _, term: term, id="forgets whom a recovery replaced"
        ),
        pytest.param(
            committee.Term,
            "as_replaced",
            lambda _: lambda term: committee.Replaced(bytes(32), committee._seats_hash(term.seats)),
            id="lets a recovery come twice",
        ),
        pytest.param(
            committee.Term,
            "as_replaced",
            lambda _: lambda term: committee.Replaced(term.link, bytes(32)),
            id="knows no seats of who was replaced",
        ),
        pytest.param(
            committee.CommitteeChain,
            "_verify_handover",
            no_order,
            id="lets a committee act before its first round",
        ),
        pytest.param(
            committee.CommitteeChain,
            "_may_name",
            lambda _: lambda *_: True,
            id="takes any committee's name",
        ),
    ],
)
def test_a_judge_that_is_wrong_in_one_thing_is_found_out(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mutant: Callable[[Any], Any]
) -> None:
    told = cases()
    right = [verdict(h.genesis, None, [*known, *more], c, by) for h, known, more, c, by in told]
    monkeypatch.setattr(owner, name, mutant(getattr(owner, name)))
    wrong = [
        verdict(h.genesis, stored(h.genesis, known), more, c, by) for h, known, more, c, by in told
    ]
    assert wrong != right


# --- what the ledger keeps


def test_a_term_stands_in_the_ledger_as_the_protocol_says() -> None:
    history, at = scene()
    genesis = history.genesis
    shown = terms.follow(genesis, None, list(at.values()))
    objects = terms.objects_of(genesis.id, shown)
    expected = b"".join(
        (
            (4).to_bytes(8, "big"),
            shown[2].link,
            history.hash_of(3),
            b"\0\1" + shown[2].seats[0].key_id + (1).to_bytes(8, "big"),
            b"\3",
            *(
                term.link
                + hashlib.sha256(
                    b"citychain/seats/v1\0"
                    + len(term.seats).to_bytes(2, "big")
                    + b"".join(
                        seat.key_id + seat.stake.to_bytes(8, "big") for seat in sorted(term.seats)
                    )
                ).digest()
                for term in (shown[1], shown[0], committee.first_term(genesis))
            ),
        )
    )
    # The first committee was replaced by nobody: the second is the last that is kept.
    expected = expected[:-64]
    expected = expected.replace(b"\3" + shown[1].link, b"\2" + shown[1].link)
    digest = hashlib.sha256(b"citychain/term/v1\0" + genesis.id + expected).digest()
    assert objects[f"$peer-term/{genesis.id.hex()}/{digest.hex()}/0"] == expected
    assert term_id(genesis, shown[2]) == digest
    keys = {name for name in objects if name.startswith("$peer-key/")}
    assert keys == {f"$peer-key/{key.hex()}" for term in shown for key in term.public_keys}


def test_a_long_term_is_put_together_of_its_pieces() -> None:
    history = History(FIRST)
    many: Members = {number: number for number in range(1, 421)}
    handover = history.election(history.seal(FIRST, many), [1, 2], many)
    objects = terms.objects_of(history.genesis.id, terms.follow(history.genesis, None, [handover]))
    assert len([name for name in objects if name.startswith("$peer-term/")]) == 2
    found = stored(history.genesis, [handover])
    assert found is not None
    assert found == replace(terms.follow(history.genesis, None, [handover])[0], handover=None)
    sizes = sum(len(name) + len(value) + 11 for name, value in objects.items())
    assert sizes <= terms.recorded_most([handover])


def test_replaced_committees_are_kept_within_a_bound() -> None:
    history = History(FIRST)
    recoveries = [history.recovery(1, {number: 1}) for number in range(3, 43)]
    *_, last = terms.follow(history.genesis, None, recoveries)
    assert len(last.replaced) == terms.REPLACED_MAX
    shown = terms.objects_of(history.genesis.id, terms.follow(history.genesis, None, recoveries))
    sizes = sum(len(name) + len(value) + 11 for name, value in shown.items())
    assert sizes <= terms.recorded_most(recoveries)


def test_what_is_not_what_its_name_says_is_not_taken() -> None:
    history, at = scene()
    shown = terms.follow(history.genesis, None, [at["second"]])
    key = (history.genesis.id, term_id(history.genesis, shown[0]))
    for spoil in ("altered", "gone"):
        terms._LOADED.clear()
        objects = terms.objects_of(history.genesis.id, shown)
        name = term_object(*key) if spoil == "altered" else next(reversed(objects))
        if spoil == "altered":
            objects[name] = objects[name][:-1] + bytes((objects[name][-1] ^ 1,))
        else:
            del objects[name]
        state: Any = Kept(objects)
        with pytest.raises(StorageError):
            run(terms.known([key], state, at_once))
    assert run(terms.known([key], Kept({}), at_once)) == {}  # type: ignore[arg-type]


# --- in towns


async def pair(compute: Executor) -> tuple[Town, Town]:
    """One whose committee changes, and one that does not; they know each other."""
    aomori, beppu = Town("aomori", compute, members=KEYS[:3]), Town("beppu", compute)
    await peered(aomori, beppu)
    return aomori, beppu


async def sent(source: Town, target: Town) -> Any:
    remittance = source.remittance(ANNA, target, BEN, 1)
    assert await source.codes(remittance) == [""]
    return remittance


async def known_terms(town: Town) -> set[str]:
    return {
        write.object
        for played in town.rounds.played
        for write in played.sealed.writes
        if write.object.startswith("$peer-term/")
    }


async def test_what_a_proof_has_shown_another_starts_from(compute: Executor) -> None:
    aomori, beppu = await pair(compute)
    aomori.elect(KEYS[2:5])
    await aomori.close()
    first, second = await sent(aomori, beppu), await sent(aomori, beppu)
    handovers = await aomori.handovers(4)
    ids = aomori.terms(handovers)
    assert len(ids) == 2
    # What is shown in this round is known from the next one on.
    receipt = await aomori.receipt(second.tx_id)
    short = encode_receipt(replace(receipt, handovers=()), ids[1])
    whole = await beppu.delivery(aomori, first)
    early = await beppu.delivery(aomori, second, proof=short, key=CARL)
    unknown = Rejection("UNKNOWN_TERM", f"no proof has shown the committee {ids[1].hex()}")
    assert await beppu.close(whole, early) == [None, unknown]
    assert await known_terms(beppu) == {term_object(aomori.id, ids[1])}
    later = await beppu.delivery(aomori, second, proof=short)
    assert await beppu.codes(later) == [""]
    assert len(later.envelope) < len(whole.envelope) - 3 * 2_592
    await beppu.replay()


async def test_a_proof_shows_what_it_shows_whatever_becomes_of_it(compute: Executor) -> None:
    aomori, beppu = await pair(compute)
    early = await sent(aomori, beppu)
    assert await beppu.codes(await beppu.delivery(aomori, early)) == [""]
    aomori.elect(KEYS[2:5])
    await aomori.close()
    late = await sent(aomori, beppu)
    # Rejected by its proof, it shows nothing; rejected since there is nothing to do, it does.
    false = await beppu.delivery(aomori, late, amount=2)
    assert await beppu.codes(false) == ["WRONG_PROOF"]
    assert await known_terms(beppu) == set()
    assert await beppu.codes(await beppu.anchor(aomori, 4), await beppu.anchor(aomori, 3)) == [
        "",
        "ANCHORED",
    ]
    assert len(await known_terms(beppu)) == 1
    aomori.elect(KEYS[1:4])
    await aomori.close()
    await sent(aomori, beppu)
    await beppu.codes(await beppu.anchor(aomori, 6))
    both = await beppu.delivery(aomori, late), await beppu.delivery(aomori, late, key=CARL)
    assert await beppu.codes(*both) == ["", "DELIVERED"]
    assert len(await known_terms(beppu)) == 2
    # Each is written once, however often it is shown.
    writes = [write for it in beppu.rounds.played for write in it.sealed.writes]
    assert all(it.version == 1 for it in writes if it.object.startswith(("$peer-t", "$peer-k")))
    await beppu.replay()


async def test_a_committee_is_known_of_its_own_city_alone(compute: Executor) -> None:
    """Also where two cities have had the same people in office."""
    aomori, beppu = Town("aomori", compute, members=KEYS[:3]), Town("beppu", compute)
    chiba = Town("chiba", compute, members=KEYS[:3])
    await peered(aomori, beppu, chiba)
    for town in (aomori, chiba):
        town.elect(KEYS[2:5])
        await town.close()
    remittances = [await sent(town, beppu) for town in (aomori, chiba)]
    assert await beppu.codes(await beppu.delivery(aomori, remittances[0])) == [""]
    receipt = await chiba.receipt(remittances[1].tx_id)
    for town in (aomori, chiba):
        start = town.terms(await town.handovers(9))[1]
        told = encode_receipt(replace(receipt, handovers=()), start)
        false = await beppu.delivery(chiba, remittances[1], proof=told)
        assert await beppu.codes(false) == ["UNKNOWN_TERM"]
    assert await beppu.codes(await beppu.delivery(chiba, remittances[1])) == [""]


async def test_a_held_transaction_shows_nothing_yet(compute: Executor) -> None:
    aomori, beppu = await pair(compute)
    aomori.elect(KEYS[2:5])
    await aomori.close()
    late = await sent(aomori, beppu)
    whole = await beppu.delivery(aomori, late)
    assert whole.delivery is not None
    waits = beppu.rounds.sign(OPERATOR, whole.delivery, depends_on=[bytes(32)])
    await beppu.rounds.seal(beppu.dag, beppu.step, [waits])
    assert await known_terms(beppu) == set()
    for _ in range(beppu.genesis.hold_rounds):
        await beppu.rounds.seal(beppu.dag, beppu.step, [])
    assert len(await known_terms(beppu)) == 1


async def test_whoever_repeats_a_round_finds_the_committees_that_it_writes(
    compute: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    aomori, beppu = await pair(compute)
    aomori.elect(KEYS[2:5])
    await aomori.close()
    late = await sent(aomori, beppu)

    async def mute(decision: Any, *_: Any) -> Any:
        return decision

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "_with_shown", mute)
        assert await beppu.codes(await beppu.delivery(aomori, late)) == [""]
    with pytest.raises(InvalidRound, match="peer-key") as caught:
        await beppu.replay()
    assert caught.value.round == 2


async def test_who_was_replaced_puts_nobody_else_at_a_loss(compute: Executor) -> None:
    """What is known of a committee stays when a recovery replaces it; what others have under way
    holds, and so does what the new committee says of the rounds before it."""
    aomori, beppu = await pair(compute)
    aomori.elect(KEYS[2:5])
    await aomori.close()
    early = await sent(aomori, beppu)
    assert await beppu.codes(await beppu.anchor(aomori, 3)) == [""]
    under_way = await beppu.delivery(aomori, early, proof=await aomori.proof(early.tx_id, beppu))
    stuck = aomori.remittance(ANNA, beppu, BEN, 2)
    await aomori.close(stuck, certify=False)
    await aomori.recover(KEYS[5:7])
    await aomori.certify()
    assert await beppu.codes(under_way) == [""]
    proof = await aomori.proof(stuck.tx_id, beppu)
    assert await beppu.codes(await beppu.delivery(aomori, stuck, proof=proof)) == [""]
    # From the recovered one on, with nothing else, for the round that names who it replaced.
    receipt = await aomori.receipt(stuck.tx_id)
    ids = aomori.terms(receipt.handovers)
    assert len(ids) == 3
    short = encode_receipt(replace(receipt, handovers=()), ids[2])
    again = await beppu.delivery(aomori, stuck, proof=short, key=CARL)
    assert await beppu.codes(again) == ["DELIVERED"]
    await beppu.replay()
