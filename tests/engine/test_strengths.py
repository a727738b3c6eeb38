"""Bradley-Terry: what choix and plain optimisation say too, what may not change it, and how often its interval is right."""

import choix
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from engine.agreement import Ranking
from engine.statistics import LEAST_ITEMS
from engine.strengths import PRIOR, Wins, bradley_terry, cycles, strengths, win_matrix


def matrices(least: int = 2, most: int = 6):
    sizes = st.integers(least, most)
    return sizes.flatmap(lambda m: st.lists(st.lists(st.integers(0, 30), min_size=m, max_size=m), min_size=m, max_size=m)).map(
        lambda rows: numpy.array(rows, float) * (1 - numpy.eye(len(rows)))
    )


def as_data(wins):
    return [(int(i), int(j)) for i, j in numpy.argwhere(wins) for _ in range(int(wins[i, j]))]


@pytest.mark.parametrize("seed", range(4))
def test_the_mode_is_choix_s(seed):
    wins = numpy.random.default_rng(seed).integers(0, 8, (6, 6)).astype(float) * (1 - numpy.eye(6))
    theirs = choix.opt_pairwise(6, as_data(wins), alpha=PRIOR / 2, method="Newton-CG", tol=1e-10)
    assert bradley_terry(wins) == pytest.approx(theirs - theirs.mean(), abs=1e-6)


def test_without_a_prior_to_speak_of_it_is_the_maximum_likelihood_choix_finds():
    wins = numpy.random.default_rng(9).integers(1, 9, (5, 5)).astype(float) * (1 - numpy.eye(5))
    assert bradley_terry(wins, 1e-9) == pytest.approx(choix.ilsr_pairwise(5, as_data(wins), tol=1e-12), abs=1e-6)
    two = bradley_terry(numpy.array([[0, 14.0], [6, 0]]), 1e-9)
    assert two[0] - two[1] == pytest.approx(numpy.log(14 / 6))


def test_twenty_to_none_is_no_tie():
    won = bradley_terry(numpy.array([[0, 20.0], [0, 0]]))
    assert won[0] - won[1] > 3
    assert won == pytest.approx(choix.opt_pairwise(2, [(0, 1)] * 20, alpha=PRIOR / 2), abs=1e-4)


WILD = [[0, 273413, 38, 2000033, 0], [12, 0, 0, 0, 14], [89, 599752, 0, 0, 0], [0, 3062571, 0, 0, 5], [0, 348776, 9, 757105, 0]]


@pytest.mark.parametrize("wins", [[[0, 1e9], [0, 0]], [[0, 1e6, 0], [0, 0, 1e6], [1, 0, 0]], [[0, 0], [0, 0]], [[7, 0], [0, 3]], WILD])
def test_lopsided_and_empty_counts_have_a_mode(wins):
    """On the wild one, Newton's whole steps never come to rest."""
    told = bradley_terry(numpy.array(wins, float))
    assert numpy.isfinite(told).all()
    assert told.sum() == pytest.approx(0, abs=1e-9)


def test_a_prior_has_a_precision():
    with pytest.raises(ValueError, match="above 0"):
        bradley_terry(numpy.zeros((2, 2)), 0)


@given(matrices())
def test_nothing_near_the_mode_is_likelier_and_its_slope_is_nought(wins):
    def loss(at):
        return (wins * numpy.logaddexp(0, at[None, :] - at[:, None])).sum() + PRIOR / 2 * (at**2).sum()

    mode = bradley_terry(wins)
    for i, step in enumerate(numpy.eye(len(wins)) * 1e-4):
        assert loss(mode + step) >= loss(mode) - 1e-9, i
        assert loss(mode + step) - loss(mode - step) == pytest.approx(0, abs=1e-7)


@given(matrices(), st.randoms(use_true_random=False))
def test_swapping_models_swaps_strengths(wins, random):
    order = random.sample(range(len(wins)), len(wins))
    assert bradley_terry(wins[numpy.ix_(order, order)]) == pytest.approx(bradley_terry(wins)[order], abs=1e-8)
    assert bradley_terry(wins.T) == pytest.approx(-bradley_terry(wins), abs=1e-8)


@given(st.lists(matrices(4, 4), min_size=1, max_size=5))
def test_a_batch_is_its_members(several):
    assert bradley_terry(numpy.stack(several)) == pytest.approx(numpy.stack([bradley_terry(one) for one in several]), abs=1e-9)


def simulated(true, prompts, rng, answers=4, raters=2, leaning=0.0):
    """Rankings of `answers` of the models a prompt by Plackett-Luce, each prompt leaning to some models for all its raters."""
    wins = numpy.zeros((prompts, len(true), len(true)))
    for prompt in range(prompts):
        shown = rng.choice(len(true), answers, replace=False)
        lean = leaning * rng.normal(size=answers)
        for _ in range(raters):
            order = shown[numpy.argsort(-(true[shown] + lean + rng.gumbel(size=answers)))]
            for place, winner in enumerate(order):
                wins[prompt, winner, order[place + 1 :]] += 1
    return Wins(tuple(f"m{i}" for i in range(len(true))), tuple(range(prompts)), wins)


def test_adding_a_constant_to_strengths_changes_nothing():
    true = numpy.array([-1, -0.3, 0.2, 0.4, 0.7])
    plain, raised = (simulated(true + constant, 40, numpy.random.default_rng(3)) for constant in (0, 100))
    assert strengths(plain) == strengths(raised)


def test_many_labels_find_the_strengths():
    true = numpy.array([-1, -0.3, 0.2, 0.4, 0.7])
    told = strengths(simulated(true, 2000, numpy.random.default_rng(4)))
    assert [one.model for one in told] == ["m4", "m3", "m2", "m1", "m0"]
    for one in told:
        assert one.strength.value == pytest.approx(true[int(one.model[1])], abs=0.1)
        assert one.strength.interval[0] < one.strength.value < one.strength.interval[1]
    assert sum(one.win_rate.value * one.win_rate.n for one in told) == pytest.approx(2000 * 2 * 6)


@pytest.mark.long
@pytest.mark.parametrize(("prompts", "raters", "leaning"), [(40, 1, 0.0), (150, 1, 0.0), (60, 4, 1.5)])
def test_the_interval_covers_at_the_stated_rate(prompts, raters, leaning):
    """95 % intervals have the true strength in them in 95 % of samples, as far as these tell (binomial, p > 0.001).

    Where prompts lean to some of their answers, the true strength is the one many prompts give; there, an interval from
    the curvature alone, which takes comparisons for independent, is right in 74 %.
    """
    rng, true = numpy.random.default_rng(0), numpy.array([-1.0, -0.4, 0.1, 0.5, 0.8])
    target = bradley_terry(simulated(true, 20_000, rng, 3, raters, leaning).total) if leaning else true
    hits, samples = 0, 300
    for seed in range(samples):
        told = strengths(simulated(true, prompts, rng, 3, raters, leaning), seed)
        hits += sum(one.strength.interval[0] <= target[int(one.model[1])] <= one.strength.interval[1] for one in told)
    # The five of a sample sum to nought: no more than four of them are looks of their own.
    assert binom.cdf(int(hits * 4 / 5), samples * 4, 0.95) > 0.001, hits / samples / 5


def test_raters_who_repeat_each_other_make_nobody_surer():
    """An interval over prompts is as wide for ten raters who say the same as for one."""
    once = simulated(numpy.array([-0.5, 0.0, 0.5]), 80, numpy.random.default_rng(5), 3, 1)
    often = Wins(once.models, once.prompts, once.matrices * 10)
    for one, ten in zip(strengths(once), strengths(often), strict=True):
        width, wide = (x.strength.interval[1] - x.strength.interval[0] for x in (one, ten))
        assert wide == pytest.approx(width, rel=0.15)
        assert ten.win_rate.interval == pytest.approx(one.win_rate.interval, abs=1e-9)


def test_always_winning_is_no_certainty():
    wins = numpy.zeros((20, 2, 2))
    wins[:, 0, 1] = 1
    first, second = strengths(Wins(("a", "b"), tuple(range(20)), wins))
    assert (first.model, first.win_rate.value, second.win_rate.value) == ("a", 1, 0)
    assert first.strength.interval[1] - first.strength.interval[0] > 1
    assert first.strength.interval[0] > 0 > second.strength.interval[1]
    assert 0.8 < first.win_rate.interval[0] < 0.9


def test_few_prompts_say_not_enough_labels():
    wins = numpy.zeros((LEAST_ITEMS, 3, 3))
    wins[:, 0, 1] = 1
    wins[0, 0, 2] = 1
    told = strengths(Wins(("a", "b", "c"), tuple(range(LEAST_ITEMS)), wins))
    assert [(one.model, one.strength.why) for one in told] == [("a", ""), ("b", ""), ("c", "not enough labels")]
    assert (told[2].strength.value, told[2].win_rate.value, told[2].strength.n) == (None, None, 1)
    nothing = strengths(win_matrix([], {1: {"x": "a", "y": "b"}}))
    assert [(one.strength.value, one.strength.n, one.strength.why) for one in nothing] == [(None, 0, "not enough labels")] * 2


MODELS = {1: {"p": "a", "q": "b", "r": "c"}, 2: {"s": "b", "t": "a", "u": "b"}}


def test_wins_are_counted_by_model():
    rankings = [
        Ranking(1, "ann", (("p",), ("q", "r"))),
        Ranking(1, "bo", (("r",), ("q",), ("p",))),
        Ranking(2, "ann", (("s",), ("t",), ("u",))),  # b above a, a above b; b above b says nothing
        Ranking(3, "ann", (("p",), ("q",)), of=1),  # a repeat is no second vote
        Ranking(9, "ann", (("p",), ("q",))),  # whose models nobody named
    ]
    told = win_matrix(rankings, MODELS)
    assert (told.models, told.prompts) == (("a", "b", "c"), (1, 2, 9))
    assert told.matrices[0].tolist() == [[0, 1, 1], [1, 0, 0.5], [1, 1.5, 0]]
    assert told.matrices[1].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert not told.matrices[2].any()
    assert told.total.tolist() == [[0, 2, 1], [2, 0, 0.5], [1, 1.5, 0]]
    shared = win_matrix(rankings, MODELS, {1: 7, 2: 7, 9: 8})
    assert (shared.prompts, shared.matrices.shape) == ((7, 8), (2, 3, 3))
    assert shared.total.tolist() == told.total.tolist()


@given(st.permutations("pqr"), st.lists(st.booleans(), min_size=2, max_size=2))
def test_each_two_answers_share_one_win(order, ties):
    text = order[0] + "".join(("" if tie else " ") + key for tie, key in zip(ties, order[1:], strict=True))
    total = win_matrix([Ranking(1, "ann", tuple(tuple(tier) for tier in text.split()))], MODELS).total
    assert (total + total.T).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_cycles_are_found_and_orders_have_none():
    beats = numpy.zeros((6, 6))
    for winner, loser in [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (4, 0), (5, 4)]:
        beats[winner, loser], beats[loser, winner] = 3, 1
    assert cycles(beats) == [(0, 1, 2)]
    beats[0, 4] = 9  # 4 was above 0; now below, and still below 5
    assert cycles(beats) == [(0, 1, 2)]
    beats[3, 5] = 1  # 0 above 3 above 5 above 4: the way back to 0 is closed
    assert cycles(beats) == [(0, 1, 2)]
    assert cycles(numpy.triu(numpy.ones((7, 7)), 1)) == []
    assert cycles(numpy.ones((4, 4))) == []
    assert cycles(numpy.zeros((0, 0))) == []


@given(matrices(3, 7))
def test_cycles_are_the_strong_components(wins):
    from scipy.sparse.csgraph import connected_components

    count, labels = connected_components(wins > wins.T, connection="strong")
    found = [tuple(numpy.flatnonzero(labels == one).tolist()) for one in range(count)]
    assert cycles(wins) == sorted(one for one in found if len(one) > 1)
    assert all(len(one) >= 3 for one in cycles(wins))
