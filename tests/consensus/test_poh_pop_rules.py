"""What holds for every round: the same from everybody, whatever order they heard it in."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from consensus.model_city import ModelCity
from consensus.traffic import OPTIONS, drive, some

from citychain.consensus.poh_pop import REJECTION_CODES
from citychain.ports import Judgement, SupportsVotes

NewCity = Callable[..., ModelCity]
TESTS = Path(__file__).parents[1]


def test_it_takes_votes_from_elsewhere(new_city: NewCity) -> None:
    assert isinstance(new_city().consensus, SupportsVotes)


async def test_whatever_is_sent_everybody_repeats_it(new_city: NewCity) -> None:
    """`ModelCity.seal` has each round repeated; here it is given the worst."""
    seen: Counter[str] = Counter()
    for _ in range(4):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        seen += await drive(new_city(**OPTIONS), seed, 30)
    print(seen)
    assert seen["HELD"] > 10
    assert len(seen.keys() & REJECTION_CODES.keys()) >= 10


async def test_order_and_repetition_change_no_judgement(new_city: NewCity) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    choose = random.Random(seed)
    city = new_city(**OPTIONS)
    await drive(city, seed, 7)
    # Rounds in the middle of an epoch, its closing, its last.
    for _ in range(6):
        batch = [some(city, choose) for _ in range(40)]
        judgements = []
        for _ in range(3):
            judgement = await city.judge(*batch)
            by_id = {batch[index].tx_id: it for index, it in judgement.refused.items()}
            pops = {it.tx_id: pop for it, pop in zip(batch, judgement.pops or (), strict=True)}
            judgements.append((judgement.committee, judgement.next_committee, by_id, pops))
            assert written(judgement) == written(await city.judge(*batch))
            choose.shuffle(batch)
        assert judgements[0] == judgements[1] == judgements[2]
        await city.seal(*batch[:5])


def written(judgement: Judgement) -> dict[str, bytes]:
    assert judgement.effects is not None
    return dict(judgement.effects([]))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_process_comes_to_another_result(seed: int) -> None:
    results = {
        subprocess.run(
            [sys.executable, "-m", "consensus.traffic", str(seed)],
            cwd=TESTS,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4242")
    }
    assert len(results) == 1
    assert int(results.pop().split()[1]) > 50
