"""Whatever cities send each other, and whatever befalls it on the way: nothing comes of nothing,
nothing is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

import pytest
from exchange.book import DELIVERED, PENDING, RETURNED, Book, Outgoing, escrow
from exchange.offices import Members
from exchange.towns import AUTHORS, OPERATOR, Town, id_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from citychain._native.transactions import Transaction
from citychain.client.actions import Data, Transfer
from citychain.crypto.signatures import SigningKey
from citychain.exchange import verified
from citychain.exchange.proof import handovers_of, start_of
from citychain.exchange.terms import term_object
from citychain.types import Remittance

T = TypeVar("T")

NAMES = ("aomori", "beppu", "chiba")
PEOPLE = AUTHORS[:3]
LARGE = (1 << 63) - 1
"""All of an asset that one city can begin with: three of them are more than a balance holds."""
MEMBERS = [SigningKey(bytes([100 + number]) * 32) for number in range(5)]
FIRST_MEMBERS: list[Members] = [MEMBERS[:2], MEMBERS[:1], []]
"""The third city keeps its operator."""
BALANCES = {
    "gold": {id_of(key).hex(): 100 for key in PEOPLE},
    "rare": {id_of(PEOPLE[0]).hex(): LARGE},
}
FALSE = {
    "BAD_PROOF",
    "MISMATCH",
    "NOT_APPROVED",
    "NOT_OPERATOR",
    "SETTLED",
    "UNKNOWN_CITY",
    "UNKNOWN_TERM",
    "WRONG_PROOF",
}
"""Codes of what is not honest."""

CHOICES = st.randoms()
SUMS = (("gold", 1), ("gold", 7), ("gold", 40), ("gold", 90), ("rare", 1 << 62), ("rare", LARGE))
BENT_DELIVERY = (
    *("", "", "", "", "", "start"),
    *("amount", "to", "asset", "tx_id", "city", "proof", "elsewhere"),
)
BENT_SETTLEMENT = ("", "", "", "", "start", "returned", "payer", "amount", "city", "tx_id", "proof")


def bent(choose: Random, proof: bytes, what: str) -> bytes:
    """Something else than what stands there: an id of nothing, or an altered proof."""
    if what != "proof":
        return choose.randbytes(32)
    at = choose.randrange(len(proof))
    return proof[:at] + bytes((proof[at] ^ 1 << at % 8,)) + proof[at + 1 :]


async def at_once(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A `Compute` without threads."""
    return function(*args, **kwargs)


def kind_of(transaction: Transaction) -> str:
    if transaction.delivery and transaction.delivery.refusal_code:
        return "refusal"
    if transaction.settlement and transaction.settlement.returned:
        return "return"
    return transaction.action


class Cities(RuleBasedStateMachine):
    """Three cities, and the mail between them, which may be late, doubled, lost or false."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.towns = [
            Town(name, at_once, balances=BALANCES, members=members)
            for name, members in zip(NAMES, FIRST_MEMBERS, strict=True)
        ]
        self.by_id = {town.id: town for town in self.towns}
        self.books = {town.id: Book.begun(town.genesis) for town in self.towns}
        self.objects: dict[bytes, dict[str, bytes]] = {
            town.id: {write.object: write.value for write in town.genesis.initial_objects()}
            for town in self.towns
        }
        self.escrows = frozenset(escrow(town.id) for town in self.towns)
        self.waiting: dict[bytes, list[Transaction]] = {town.id: [] for town in self.towns}
        self.mail: list[tuple[Town | None, Town, Transaction]] = []
        """From where, to where."""
        self.false: set[bytes] = set()
        """Ids of transactions that may not be approved."""
        self.sealed: dict[bytes, tuple[Town, Transaction, str]] = {}
        """By id, with the code of a rejection."""
        self.rounds: dict[bytes, int] = {}
        """In which each is sealed."""
        self.seen: Counter[tuple[str, str]] = Counter()
        """What became of transactions, by what they were."""
        self.shown: defaultdict[tuple[bytes, bytes], set[str]] = defaultdict(set)
        """Ids of committees that one city has been shown of another."""
        self.looked_at: dict[tuple[bytes, bytes], set[str]] = {}
        self.cut: set[tuple[bytes, bytes]] = set()
        self.failed = False
        self.at_first = self.sum()

    def teardown(self) -> None:
        try:
            if not self.failed:
                self.settle_everything()
                for town in self.towns:
                    self.run(town.replay())
        finally:
            self.runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def name_peers(self) -> None:
        for town in self.towns:
            others = [town.peer(other) for other in self.towns if other is not town]
            self.close(town, others)

    # --- residents

    @rule(choose=CHOICES)
    def remit(self, choose: Random) -> None:
        """Sends to a key in another city; now and then to what is an account of escrow there."""
        town, target = choose.sample(self.towns, 2)
        to = escrow(town.id) if choose.randrange(20) == 7 else id_of(choose.choice(PEOPLE))
        asset, amount = choose.choice(SUMS)
        told = Remittance(asset, target.id, to, amount)
        self.send(town, town.sign(choose.choice(PEOPLE), told), choose)

    @rule(choose=CHOICES)
    def transfer(self, choose: Random) -> None:
        """Pays at home; now and then into an escrow, as if that helped anybody."""
        town = choose.choice(self.towns)
        to = id_of(choose.choice(PEOPLE))
        if choose.randrange(6) == 5:
            to = escrow(choose.choice(self.towns).id)
        asset, amount = choose.choice(SUMS)
        self.send(town, town.sign(choose.choice(PEOPLE), Transfer(asset, to, amount)), choose)

    # --- who carries proofs

    def proven(self, action: str) -> list[tuple[Town, Transaction]]:
        """Sealed transactions of whose rounds there are certificates."""
        return [
            (town, item)
            for tx_id, (town, item, _) in self.sealed.items()
            if item.action == action
            and all(stored.round != self.rounds[tx_id] for stored in town.uncertified)
        ]

    def any_proven(self, action: str, choose: Random) -> tuple[Town, Transaction]:
        """One of them; more often one that was approved."""
        proven = self.proven(action)
        approved = [item for item in proven if not self.sealed[item[1].tx_id][2]]
        return choose.choice(approved if approved and choose.randrange(4) else proven)

    @precondition(lambda self: self.proven("remittance"))
    @rule(choose=CHOICES)
    def bring(self, choose: Random) -> None:
        """Makes a delivery of any remittance, approved or not, delivered or not, or a false one."""
        source, remittance = self.any_proven("remittance", choose)
        said = remittance.remittance
        assert said is not None
        target, bend = self.by_id[said.city], choose.choice(BENT_DELIVERY)
        if bend == "elsewhere":
            [target] = [town for town in self.towns if town not in (source, target)]
        fields: dict[str, Any] = {}
        if choose.randrange(3) == 2:
            fields["refusal_code"] = "NO"
        if bend == "amount":
            fields["amount"] = said.amount + 1
        elif bend == "asset":
            fields["asset"] = "gold" if said.asset == "rare" else "rare"
        elif bend in ("to", "tx_id", "city", "proof"):
            fields[bend] = bent(choose, self.run(source.proof(remittance.tx_id)), bend)
        elif bend == "start":
            fields["proof"] = self.unheard_of(choose, source, remittance)
        elif choose.randrange(4):
            fields["proof"] = self.run(source.proof(remittance.tx_id, target, choose.choice))
        by = choose.choice(PEOPLE) if choose.randrange(4) == 3 else OPERATOR
        delivery = self.run(target.delivery(source, remittance, by, **fields))
        refuses_as_nobody = by is not OPERATOR and "refusal_code" in fields
        if bend or self.sealed[remittance.tx_id][2] or refuses_as_nobody:
            self.false.add(delivery.tx_id)
        self.send(target, delivery, choose, source)

    @precondition(lambda self: self.proven("delivery"))
    @rule(choose=CHOICES)
    def answer(self, choose: Random) -> None:
        """Brings what became of any delivery home, true or false, settled or not."""
        target, delivery = self.any_proven("delivery", choose)
        told = delivery.delivery
        assert told is not None
        if told.tx_id not in self.sealed:
            return
        source, remittance, _ = self.sealed[told.tx_id]
        bend = choose.choice(BENT_SETTLEMENT)
        fields: dict[str, Any] = {}
        if bend == "returned":
            fields["returned"] = not told.refusal_code
        elif bend == "amount":
            fields["amount"] = told.amount + 1
        elif bend == "start":
            fields["proof"] = self.unheard_of(choose, target, delivery)
        elif bend:
            fields[bend] = bent(choose, self.run(target.proof(delivery.tx_id)), bend)
        elif choose.randrange(4):
            fields["proof"] = self.run(target.proof(delivery.tx_id, source, choose.choice))
        by = choose.choice(PEOPLE)
        settlement = self.run(source.settlement(target, remittance, delivery, by, **fields))
        if bend or self.sealed[delivery.tx_id][2]:
            self.false.add(settlement.tx_id)
        self.send(source, settlement, choose, target)

    def unheard_of(self, choose: Random, town: Town, item: Transaction) -> bytes:
        """A proof from a committee that never was."""
        proof = self.run(town.proof(item.tx_id))
        return proof[:3] + choose.randbytes(32) + proof[35:]

    def send(
        self, town: Town, transaction: Transaction, choose: Random, source: Town | None = None
    ) -> None:
        """It is in a round at once, or waits for one, or stays on its way."""
        is_cut = source is not None and (source.id, town.id) in self.cut
        when = choose.randrange(5)
        if is_cut or when == 4:
            self.mail.append((source, town, transaction))
            return
        self.receive(town, transaction)
        if when < 3:
            waiting, self.waiting[town.id] = self.waiting[town.id], []
            self.close(town, waiting)

    @precondition(lambda self: self.mail)
    @rule(choose=CHOICES)
    def arrive(self, choose: Random) -> None:
        """In any order; what is kept arrives again."""
        for letter in choose.sample(self.mail, choose.randint(1, len(self.mail))):
            source, target, transaction = letter
            if source is None or (source.id, target.id) not in self.cut:
                if choose.randrange(3):
                    self.mail.remove(letter)
                self.receive(target, transaction)

    @precondition(lambda self: self.mail)
    @rule(choose=CHOICES)
    def lose(self, choose: Random) -> None:
        """A letter is lost for good."""
        self.mail.remove(choose.choice(self.mail))

    @rule(choose=CHOICES)
    def part(self, choose: Random) -> None:
        """Nothing from one city arrives at another any more, or all roads are open again."""
        one, other = choose.sample(self.towns, 2)
        self.cut = self.cut | {(one.id, other.id)} if choose.randrange(2) else set()

    def receive(self, town: Town, transaction: Transaction) -> None:
        """As a city's intake does: what is known is not taken twice."""
        known = transaction.tx_id in self.sealed
        if not known and transaction not in self.waiting[town.id]:
            self.waiting[town.id].append(transaction)

    # --- servers

    @rule(choose=CHOICES)
    def round(self, choose: Random) -> None:
        """A round closes, with some of what waits, in any order; its certificate may be late."""
        town = choose.choice(self.towns)
        waiting = self.waiting[town.id]
        taken = choose.sample(waiting, choose.randint(0, len(waiting)))
        self.waiting[town.id] = [item for item in waiting if item not in taken]
        self.close(town, taken, certify=choose.randrange(3) > 0)

    @rule(choose=CHOICES)
    def elect(self, choose: Random) -> None:
        """A city's next round elects a committee."""
        town = choose.choice(self.towns[:2])
        town.elect(choose.sample(MEMBERS, choose.randint(1, 3)))
        self.close(town, [])

    @rule(choose=CHOICES)
    def recover(self, choose: Random) -> None:
        """A committee is lost, maybe before it certified all that it sealed."""
        town = choose.choice(self.towns[:2])
        if choose.randrange(2):
            self.close(town, [], certify=False)
        self.run(town.recover(choose.sample(MEMBERS, choose.randint(1, 3))))

    @rule(choose=CHOICES)
    def crash(self, choose: Random) -> None:
        """A round is decided, and the server dies before it is committed; another begins anew."""
        town = choose.choice(self.towns)
        waiting = self.waiting[town.id]
        self.run(town.rounds.draft(town.dag, town.step, choose.sample(waiting, len(waiting))))
        town.reopen()
        verified.forget()

    @rule()
    def catch_up(self) -> None:
        """Rounds that were committed before a crash get their certificates."""
        for town in self.towns:
            self.run(town.certify())

    @precondition(lambda self: any(book.sent for book in self.books.values()))
    @rule(choose=CHOICES)
    def years_pass(self, choose: Random) -> None:
        """Time alone moves nothing."""
        town = choose.choice(self.towns)
        before = dict(self.objects[town.id])
        town.rounds.time_ms += 10**11
        self.close(town, [town.sign(PEOPLE[0], Data(b"still here"))])
        assert self.objects[town.id] == before

    def close(self, town: Town, new: list[Transaction], *, certify: bool = True) -> None:
        """Close a round; what it decides is what the book says."""
        book = self.books[town.id]
        self.failed = True
        verdicts = self.run(town.close(*new, certify=certify))
        for item, verdict in zip(new, verdicts, strict=True):
            code = verdict.code if verdict else ""
            self.sealed[item.tx_id] = (town, item, code)
            self.rounds[item.tx_id] = len(town.rounds.played)
            self.seen[kind_of(item), code] += 1
            if item.tx_id in self.false:
                assert code in FALSE, (item.action, verdict)
            else:
                assert code == book.enter(item, self.escrows), (item.action, verdict)
            if not code:
                self.shows(town, item)
        for write in town.rounds.played[-1].sealed.writes:
            self.objects[town.id][write.object] = write.value
        self.failed = False

    def shows(self, town: Town, item: Transaction) -> None:
        """Note what an approved proof brought."""
        told = item.delivery or item.settlement
        if told is None:
            return
        other, start = self.by_id[told.city], start_of(told.proof)
        ids = other.terms(self.run(other.proofs.handovers(0)))
        assert start in ids
        count = len(handovers_of(told.proof))
        assert ids.index(start) + count < len(ids)
        first = ids.index(start) + 1
        self.shown[town.id, other.id] |= {id.hex() for id in ids[first : first + count]}

    # --- what must hold

    def sum(self) -> Counter[str]:
        """Of each asset, over all cities: what people have, and what is on its way.

        On its way is a remittance that its city has not settled, unless the other has accepted
        it: then the payee has it. What was paid to an escrow by name is counted there.
        """
        total: Counter[str] = Counter()
        for town in self.towns:
            objects = self.objects[town.id]
            for name, value in objects.items():
                kind, *rest = name.split("/")
                if kind == "$balance" and bytes.fromhex(rest[1]) not in self.escrows:
                    total[rest[0]] += int.from_bytes(value, "big")
                if kind == "$outbox" and value[0] == PENDING:
                    target = self.objects[value[33:65]]
                    outcome = target.get(f"$inbox/{town.id.hex()}/{rest[0]}", b"\0")
                    if outcome[0] != 1:
                        total[value[105:].decode()] += int.from_bytes(value[97:105], "big")
            for (asset, _), amount in self.books[town.id].strays.items():
                total[asset] += amount
        return total

    @invariant()
    def the_sum_of_each_asset_is_constant(self) -> None:
        assert self.sum() == self.at_first

    @invariant()
    def ledgers_say_what_the_books_say(self) -> None:
        for town in self.towns:
            book, objects = self.books[town.id], self.objects[town.id]
            balances = {
                (asset, bytes.fromhex(account)): int.from_bytes(value, "big")
                for name, value in objects.items()
                if name.startswith("$balance/")
                for _, asset, account in [name.split("/")]
            }
            assert {key: amount for key, amount in balances.items() if amount} == {
                key: amount for key, amount in book.balances.items() if amount
            }
            outbox = {
                bytes.fromhex(name.removeprefix("$outbox/")): Outgoing(
                    status=value[0],
                    payer=value[1:33],
                    city=value[33:65],
                    to=value[65:97],
                    amount=int.from_bytes(value[97:105], "big"),
                    asset=value[105:].decode(),
                )
                for name, value in objects.items()
                if name.startswith("$outbox/")
            }
            assert outbox == book.sent
            inbox = {
                (bytes.fromhex(city), bytes.fromhex(tx_id)): (value[0] == 1, value[1:])
                for name, value in objects.items()
                if name.startswith("$inbox/")
                for _, city, tx_id in [name.split("/")]
            }
            assert inbox == book.received

    @invariant()
    def ledgers_know_true_committees_and_those_that_were_shown(self) -> None:
        for town in self.towns:
            keys = self.objects[town.id].keys()
            for (receiver, city), ids in self.shown.items():
                if receiver == town.id:
                    assert all(term_object(city, bytes.fromhex(id)) in keys for id in ids)
            for other in self.towns:
                begin = f"$peer-term/{other.id.hex()}/"
                found = {name.split("/")[2] for name in keys if name.startswith(begin)}
                if found == self.looked_at.get((town.id, other.id), set()):
                    continue
                self.looked_at[town.id, other.id] = found
                true = self.run(other.proofs.handovers(0)) if found else ()
                assert found <= {id.hex() for id in other.terms(true)}

    @invariant()
    def an_escrow_holds_what_is_not_settled(self) -> None:
        for town in self.towns:
            book = self.books[town.id]
            owed = Counter(book.strays)
            for sent in book.sent.values():
                if sent.status == PENDING:
                    owed[sent.asset, escrow(sent.city)] += sent.amount
            for key in owed.keys() | book.balances.keys():
                if key[1] in self.escrows:
                    assert book.balances[key] == owed[key]

    def settle_everything(self) -> None:
        """The roads are open again, and an honest courier finds what is left: all is settled, as
        the other city has decided."""
        for town in self.towns:
            self.run(town.certify())
        for town in self.towns:
            for tx_id, sent in self.books[town.id].sent.items():
                if sent.status == PENDING:
                    self.carry(town, self.sealed[tx_id][1], self.by_id[sent.city])
        for town in self.towns:
            for tx_id, sent in self.books[town.id].sent.items():
                accepted, _ = self.books[sent.city].received[town.id, tx_id]
                if (status := sent.status) != PENDING:
                    assert status == (DELIVERED if accepted else RETURNED)
                else:
                    # Whoever gets it back has no room for it.
                    assert not accepted
                    has = self.books[town.id].balances[sent.asset, sent.payer]
                    assert has + sent.amount >= 1 << 64
        self.the_sum_of_each_asset_is_constant()
        self.ledgers_say_what_the_books_say()
        self.an_escrow_holds_what_is_not_settled()

    def carry(self, source: Town, remittance: Transaction, target: Town) -> None:
        """What the courier does, whatever was done before."""
        key = (source.id, remittance.tx_id)
        if key not in self.books[target.id].received:
            self.close(target, [self.run(target.delivery(source, remittance))])
        if key not in self.books[target.id].received:  # The payee has no room.
            refusal = self.run(target.delivery(source, remittance, refusal_code="OVERFLOW"))
            self.close(target, [refusal])
        _, tx_id = self.books[target.id].received[key]
        delivery = self.sealed[tx_id][1]
        self.close(source, [self.run(source.settlement(target, remittance, delivery))])


TestCities = Cities.TestCase
TestCities.settings = settings(max_examples=25, stateful_step_count=50, report_multiple_bugs=False)


@pytest.mark.parametrize("seed", range(3))
def test_over_a_long_history(seed: int) -> None:
    """Some hundred steps, in which all happens that can."""
    choose = Random(seed)
    cities = Cities()
    cities.name_peers()
    steps = [
        *[cities.remit] * 3,
        *[cities.bring] * 8,
        *[cities.answer] * 6,
        *(cities.transfer, cities.arrive, cities.round, cities.round, cities.catch_up),
        *(cities.lose, cities.part, cities.crash, cities.years_pass),
        *(cities.elect, cities.recover),
    ]
    for _ in range(800):
        step = choose.choice(steps)
        if step in (cities.arrive, cities.lose) and not cities.mail:
            continue
        if step == cities.bring and not cities.proven("remittance"):
            continue
        if step == cities.answer and not cities.proven("delivery"):
            continue
        step() if step == cities.catch_up else step(choose=choose)
        cities.the_sum_of_each_asset_is_constant()
        cities.ledgers_say_what_the_books_say()
        cities.an_escrow_holds_what_is_not_settled()
        cities.ledgers_know_true_committees_and_those_that_were_shown()
    cities.teardown()
    for town in cities.towns[:2]:
        shown = [ids for (_, other), ids in cities.shown.items() if other == town.id]
        assert min(map(len, shown)) > 3
    assert set(cities.seen) >= {
        *(("remittance", code) for code in ("", "OVERDRAFT")),
        *(("delivery", code) for code in ("", "BAD_PROOF", "WRONG_PROOF", "DELIVERED")),
        *(("delivery", code) for code in ("NOT_APPROVED", "UNKNOWN_CITY", "UNKNOWN_TERM")),
        *(("refusal", code) for code in ("", "DELIVERED", "NOT_OPERATOR")),
        *(("settlement", code) for code in ("", "SETTLED", "BAD_PROOF", "NOT_APPROVED")),
        *(("return", code) for code in ("", "SETTLED", "NOT_APPROVED", "WRONG_PROOF")),
    }


def test_what_no_balance_has_room_for_goes_back() -> None:
    """The third of three largest amounts fits no more, is refused, and returned."""
    cities = Cities()
    cities.name_peers()
    aomori, beppu, chiba = cities.towns
    [payee, *_] = PEOPLE
    for town in (aomori, chiba):
        remittance = town.sign(payee, Remittance("rare", beppu.id, id_of(payee), LARGE))
        cities.close(town, [remittance])
        cities.carry(town, remittance, beppu)
    assert cities.books[beppu.id].balances["rare", id_of(payee)] == 2 * LARGE
    cities.teardown()
    assert cities.seen["delivery", "OVERFLOW"] == 1
