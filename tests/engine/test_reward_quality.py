"""What is said of a reward model: counted by prompt, beside length, and never more than the pairs can carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat import Encoded
from engine.training.preferences import Better, Conversation, Ranked
from engine.training.reward_quality import BINS, accuracy_by_prompt, quality


def prompt(key: str, lengths: list[int], pairs: list[tuple[int, int, float]]) -> Ranked:
    answers = [Conversation(Encoded([1] * (5 + length), [], False, []), 5, 5 + length) for length in lengths]
    return Ranked(key, answers, [Better(winner, loser, weight, 0.0) for winner, loser, weight in pairs])


def test_accuracy_is_the_mean_over_prompts_of_the_weight_that_is_right() -> None:
    three = prompt("a", [4, 4, 4], [(0, 1, 1 / 3), (0, 2, 1 / 3), (1, 2, 1 / 3)])
    two = prompt("b", [4, 4], [(0, 1, 1.0)])
    found = accuracy_by_prompt([three, two], [[3.0, 1.0, 2.0], [0.0, 0.0]])
    assert found["rate"] == pytest.approx((2 / 3 + 0) / 2)  # equal rewards order nothing
    assert (found["prompts"], found["pairs"]) == (2, 4)


def test_six_prompts_that_are_all_right_are_not_certainty() -> None:
    for count, low in ((6, 0.61), (12, 0.757)):
        found = accuracy_by_prompt([prompt(str(n), [4, 4], [(0, 1, 1.0)]) for n in range(count)], [[1.0, 0.0]] * count)
        assert found["rate"] == found["high"] == 1
        assert found["low"] == pytest.approx(low, abs=0.01)


def test_prompts_that_all_say_the_same_are_not_certainty() -> None:
    three = [prompt(str(n), [4, 4, 4], [(0, 1, 1 / 3), (0, 2, 1 / 3), (1, 2, 1 / 3)]) for n in range(6)]
    found = accuracy_by_prompt(three, [[3.0, 1.0, 2.0]] * 6)
    assert found["low"] < 0.4 < found["rate"] < 0.9 < found["high"]


def test_length_is_looked_at_only_where_there_is_enough_to_see() -> None:
    unlike = [prompt(str(n), [4, 40], [(0, 1, 1.0)]) for n in range(30)]
    alike = [prompt(str(n), [20, 18], [(0, 1, 1.0)]) for n in range(10)]
    assert quality(unlike, [[1.0, 0.0]] * 30)["length_matched"] == {"pairs": 0, "prompts": 0}
    assert quality(alike[:9], [[1.0, 0.0]] * 9)["length_matched"] == {"pairs": 9, "prompts": 9}
    found = quality(alike, [[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    assert found["length_matched"]["rate"] == 0.9
    assert found["length"]["pearson"] > 0.5
    assert quality([prompt("a", [7, 7], [(0, 1, 1.0)])], [[1.0, 0.0]])["length"] == {"answers": 2}


def test_pairs_of_one_prompt_are_not_more_evidence_of_like_length() -> None:
    """Of each prompt all six pairs go the same way: as much is known as from one pair each."""
    one = [prompt(str(n), [20, 20], [(0, 1, 1.0)]) for n in range(20)]
    orders = [(a, b, 1 / 6) for a in range(4) for b in range(a + 1, 4)]
    six = [prompt(str(n), [20] * 4, orders) for n in range(20)]
    few = quality(one, [[1.0, 0.0]] * 14 + [[0.0, 1.0]] * 6)["length_matched"]
    many = quality(six, [[4.0, 3.0, 2.0, 1.0]] * 14 + [[1.0, 2.0, 3.0, 4.0]] * 6)["length_matched"]
    assert (many["rate"], many["pairs"], many["prompts"]) == (0.7, 120, 20)
    assert many["high"] - many["low"] == pytest.approx(few["high"] - few["low"], abs=0.02)
    assert quality(six[:9], [[4.0, 3.0, 2.0, 1.0]] * 9)["length_matched"] == {"pairs": 54, "prompts": 9}


def test_nothing_held_out_says_nothing() -> None:
    assert quality([], []) == {}


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=40))
def test_every_pair_lies_in_the_histogram_once_on_each_side(rewards: list[tuple[float, float]]) -> None:
    found = quality([prompt(str(n), [4, 9], [(0, 1, 1.0)]) for n in range(len(rewards))], rewards)
    histogram = found["histogram"]
    assert len(histogram["edges"]) == BINS + 1
    assert sum(histogram["chosen"]) == sum(histogram["rejected"]) == len(rewards) == histogram["pairs"]
    assert 0 <= found["accuracy"]["low"] <= found["accuracy"]["rate"] <= found["accuracy"]["high"] <= 1
