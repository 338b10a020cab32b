"""Cities are spread over the servers of a shared storage."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from citychain.city.spreading import NOBODY, Move, plan_moves

tables = st.dictionaries(
    st.sampled_from([NOBODY, "a", "b", "c", "d", "e"]), st.integers(0, 12)
).map(
    lambda counts: {
        server: [f"{server}{number}".encode() for number in range(count)]
        for server, count in counts.items()
    }
)


def _after(held: dict[str, list[bytes]], moves: list[Move]) -> dict[str, set[bytes]]:
    after = {server: set(cities) for server, cities in held.items()}
    for move in moves:
        after[move.giver].remove(move.city)
        after[move.taker].add(move.city)
    return after


@given(tables)
def test_after_the_moves_all_lead_alike_and_none_is_left(held: dict[str, list[bytes]]) -> None:
    moves = plan_moves(held)
    after = _after(held, moves)
    left = after.pop(NOBODY, set())
    if not after:
        assert moves == []
        return
    assert left == set()
    counts = [len(cities) for cities in after.values()]
    assert max(counts) - min(counts) <= 1
    cities = [city for cities in held.values() for city in cities]
    assert Counter(city for cities in after.values() for city in cities) == Counter(cities)


@given(tables)
def test_no_city_moves_twice_nor_between_servers_without_need(held: dict[str, list[bytes]]) -> None:
    moves = plan_moves(held)
    assert len({move.city for move in moves}) == len(moves)
    servers = [server for server in held if server != NOBODY]
    if not servers:
        return
    total = sum(map(len, held.values()))
    share, more = divmod(total, len(servers))
    # Whoever has the most to begin with keeps the odd ones.
    most = sorted((len(held[server]) for server in servers), reverse=True)
    allowed = [share + 1] * more + [share] * (len(servers) - more)
    surplus = sum(max(0, has - may) for has, may in zip(most, allowed, strict=True))
    assert sum(move.giver != NOBODY for move in moves) == surplus
    assert plan_moves({s: sorted(c) for s, c in _after(held, moves).items()}) == []


def test_all_servers_plan_the_same() -> None:
    held = {"b": [b"3", b"1", b"2", b"4"], "a": [], NOBODY: [b"9"]}
    assert plan_moves(held) == plan_moves(dict(reversed(held.items())))
    assert plan_moves(held) == [Move(b"9", NOBODY, "a"), Move(b"4", "b", "a")]
