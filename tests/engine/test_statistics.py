"""Verdicts: what may be said, and what may not."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.statistics import (
    backward_transfer,
    bootstrap_difference,
    bootstrap_mean,
    floor_notes,
    forgetting,
    holm,
    mcnemar,
    net_loss_upper,
    verdicts,
    wilson,
)

counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)).filter(lambda c: sum(c) > 0)


@pytest.mark.parametrize(("n", "percent"), [(20, 13.9), (60, 4.9), (100, 3.0)])
def test_with_nothing_lost_the_upper_end_is_the_published_one(n: int, percent: float) -> None:
    assert round(100 * net_loss_upper(0, 0, n), 1) == percent


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_sum(lost: int, gained: int) -> None:
    n = lost + gained
    tail = sum(comb(n, k) for k in range(min(lost, gained) + 1)) / 2**n
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail) if n else 1.0)


@given(counts)
def test_the_upper_end_lies_above_the_estimate_and_grows_with_losses(c: tuple[int, int, int]) -> None:
    lost, gained, same = c
    n = lost + gained + same
    upper = net_loss_upper(lost, gained, n)
    assert (lost - gained) / n - 1e-9 <= upper <= 1
    if same:
        assert net_loss_upper(lost + 1, gained, n) >= upper - 1e-9


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    ranked = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in ranked] == sorted(adjusted)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(counts, st.floats(0.01, 0.3))
def test_a_verdict_follows_its_rule(c: tuple[int, int, int], margin: float) -> None:
    lost, gained, same = c
    told = verdicts({"a": [(True, False)] * lost + [(False, True)] * gained + [(True, True)] * same}, margin)[0]
    significant = mcnemar(lost, gained) < 0.05
    assert (told.verdict == "forgot") == (significant and lost > gained)
    assert (told.verdict == "learned") == (significant and gained > lost)
    assert (told.verdict == "kept") == (not significant and told.loss_upper < margin)


def test_kept_is_never_concluded_from_few_items() -> None:
    assert verdicts({"a": [(True, True)] * 32})[0].verdict == "not enough evidence"
    assert verdicts({"a": [(True, True)] * 60})[0].verdict == "kept"
    assert verdicts({"a": []})[0].verdict == "not enough evidence"


@given(st.lists(st.sampled_from([(True, False), (False, True), (True, True)]), min_size=1, max_size=32))
def test_gains_do_not_make_few_items_say_kept(items: list[tuple[bool, bool]]) -> None:
    assert verdicts({"a": items})[0].verdict != "kept"


def test_more_abilities_need_more_evidence() -> None:
    items = [(True, False)] * 6 + [(True, True)] * 20
    quiet = {str(i): [(True, True)] * 100 for i in range(9)}
    assert verdicts({"a": items})[0].verdict == "forgot"
    assert verdicts({"a": items, **quiet})[0].verdict == "not enough evidence"


def test_wilson_by_hand() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_what_scipy_says(c: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    interval = binomtest(*c).proportion_ci(method="wilson")
    assert wilson(*c) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_bootstrap_is_seeded_and_needs_items() -> None:
    assert bootstrap_difference([1, 2, 3], [2, 3, 4]) == (1.0, 1.0, 1.0)
    assert bootstrap_difference([1, 5], [2, 3], seed=3) == bootstrap_difference([1, 5], [2, 3], seed=3)
    with pytest.raises(ValueError, match="no items"):
        bootstrap_difference([], [])


def test_what_was_not_measured_is_left_out() -> None:
    from math import nan

    assert bootstrap_mean([1, nan, 3, 2]) == bootstrap_mean([1, 3, 2])
    assert bootstrap_difference([1, nan, 2, 3], [2, 5, nan, 4]) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no items"):
        bootstrap_mean([nan])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_values(values: list[float]) -> None:
    mean, low, high = bootstrap_mean(values)
    near = 1e-6 * (1 + max(map(abs, values)))
    assert mean == pytest.approx(sum(values) / len(values), abs=near)
    assert min(values) - near <= low <= high <= max(values) + near


def test_the_interval_of_a_mean_is_student_s_for_many_values() -> None:
    import numpy

    values = numpy.random.default_rng(1).normal(5, 2, 10_000)
    mean, low, high = bootstrap_mean(list(values))
    assert (high - mean, mean - low) == pytest.approx((1.96 * 2 / 100,) * 2, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize(("loss", "gain"), [(0.02, 0.0), (0.05, 0.0), (0.1, 0.05), (0.2, 0.1), (0.15, 0.15)])
@pytest.mark.parametrize("n", [20, 60, 200])
def test_the_upper_end_covers(loss: float, gain: float, n: int) -> None:
    """The one-sided 95 % limit lies above the true net loss in at least about 95 % of simulated samples."""
    import numpy

    draws = numpy.random.default_rng(0).multinomial(n, [loss, gain, 1 - loss - gain], 2000)
    seen: dict[tuple[int, int], float] = {}
    covered = [seen.setdefault((b, c), net_loss_upper(b, c, n)) >= loss - gain - 1e-9 for b, c, _ in draws.tolist()]
    assert sum(covered) / len(covered) >= 0.93


def test_what_could_not_be_lost_is_never_said_to_be_kept():
    same = [(i < 3, i < 3) for i in range(200)]  # 1.5 % right before and after
    few, guessed, sure = verdicts({"few": same, "guessed": [(i < 52, i < 52) for i in range(200)], "sure": [(True, True)] * 200},
                                  floors={"guessed": 0.25, "sure": 0.25})  # fmt: skip
    assert (few.verdict, guessed.verdict, sure.verdict) == ("not enough evidence", "not enough evidence", "kept")
    assert [note.split(" ")[0] for note in floor_notes([few, guessed, sure])] == ["few", "guessed"]
    assert "stood at 26%, where guessing gives 25%" in floor_notes([guessed])[0]


R = [[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.6, 0.8, 0.2], [0.5, 0.7, 0.9]]  # before, after task 1, 2, 3


def test_forgetting_is_the_fall_from_the_best():
    assert forgetting(R) == pytest.approx([0.4, 0.1, 0.0])
    assert forgetting(R[:1]) == [0.0, 0.0, 0.0]


def test_backward_transfer_is_the_change_since_a_task_was_learned():
    assert backward_transfer(R) == pytest.approx(((0.5 - 0.9) + (0.7 - 0.8)) / 2)
    for rows in (R[:2], R[:3], [[0.1], [0.9]]):
        with pytest.raises(ValueError, match="two tasks"):
            backward_transfer(rows)
