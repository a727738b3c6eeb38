"""Rows of like length meet, in an order that depends on (seed, epoch) alone."""

import random

from engine.training.batches import LengthSorted, by_length

CHANCE = random.Random(0)
LENGTHS = [CHANCE.randint(5, 500) for _ in range(50)]


def order(epoch: int, chunk: int = 8, seed: int = 3) -> list[int]:
    sampler = LengthSorted(LENGTHS, chunk, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def padding(rows: list[int], size: int) -> float:
    batches = [[LENGTHS[row] for row in rows[i : i + size]] for i in range(0, len(rows), size)]
    return 1 - sum(LENGTHS) / sum(max(batch) * len(batch) for batch in batches)


def test_every_row_once_an_epoch() -> None:
    assert sorted(order(0)) == sorted(order(1)) == list(range(50))


def test_processes_that_share_a_run_read_every_row_once_and_fill_up_with_nothing() -> None:
    alone, shared = LengthSorted(LENGTHS, 8, 3), LengthSorted(LENGTHS, 8, 3, shared=4)
    assert list(shared) == [*alone, 50, 50]
    assert (len(alone), len(shared)) == (50, 52)
    assert list(LengthSorted(LENGTHS[:48], 8, 3, shared=4)) == list(LengthSorted(LENGTHS[:48], 8, 3))


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert order(1) == order(1)
    assert order(0) != order(1)
    assert order(0) != order(0, seed=4)


def test_batches_are_in_random_order_but_waste_little() -> None:
    rows = order(0)
    longest = [max(LENGTHS[row] for row in rows[i : i + 8]) for i in range(0, 48, 8)]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert padding(rows, 4) < 0.15 < 0.3 < padding(list(range(50)), 4)


def test_the_short_rest_is_not_always_the_longest_rows() -> None:
    assert len({tuple(sorted(order(epoch)[48:])) for epoch in range(5)}) > 1


def test_by_length_keeps_the_given_order_among_equals() -> None:
    assert by_length([3, 9, 3, 9, 1], 2) == [[1, 3], [0, 2], [4]]
