"""What raters agree on: published worked examples, what may not change a figure, and what too few labels say."""

from collections import Counter
from itertools import combinations
from math import nan

import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.agreement import (
    Majority,
    Ranking,
    alpha,
    disagreements,
    gold,
    krippendorff_alpha,
    length_bias,
    majority,
    mean_tau_b,
    pair_agreement,
    pairs,
    position_bias,
    self_consistency,
    tabulate,
    tie_rate,
)
from engine.statistics import LEAST_ITEMS, bootstrap_mean, clustered_rate, resampled, wilson

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): observers in rows, a dot where one gave no value.
FOUR = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
BINARY = ["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"]
LETTERS = ["a a b b d c c c e d d a", "b a b b b c c c e d d d"]


def units(rows: list[str]) -> list[list[float]]:
    return [[float(ord(value)) for value in unit if value != "."] for unit in zip(*(row.split() for row in rows), strict=True)]


@pytest.mark.parametrize(
    ("rows", "ordinal", "published", "n"),
    [(FOUR, False, 0.743, 40), (FOUR, True, 0.815, 40), (BINARY, False, 0.095, 20), (LETTERS, False, 0.692, 24)],
)
def test_alpha_is_the_published_one(rows, ordinal, published, n):
    told = alpha(units(rows), ordinal)
    assert (round(told.value, 3), told.n) == (published, n)
    assert told.interval[0] <= told.value <= told.interval[1]


def ranking(item, rater, text, **more):
    """ "a bc d" puts a first and ties b with c."""
    return Ranking(item, rater, tuple(tuple(tier) for tier in text.split()), **more)


def labels(given):
    """Rankings of item after item from a list of {rater: text}."""
    return [ranking(item, rater, text) for item, raters in enumerate(given) for rater, text in raters.items()]


KEYS = "abcd"


@st.composite
def texts(draw):
    order = draw(st.permutations(KEYS))
    return "".join(key + draw(st.sampled_from(["", " "])) for key in order)


tables = st.lists(st.dictionaries(st.sampled_from(["ann", "bo", "cy"]), texts(), min_size=1), min_size=LEAST_ITEMS, max_size=16)


def values(rankings):
    told = (pair_agreement(rankings), krippendorff_alpha(rankings), mean_tau_b(rankings), tie_rate(rankings))
    return [nan if one.value is None else one.value for one in told] + [one.n for one in told] + [one.n_items for one in told]


@settings(max_examples=40)  # each resamples several times
@given(tables, st.randoms(use_true_random=False))
def test_names_and_orders_change_no_figure(given, random):
    rankings = labels(given)
    items = dict(enumerate(random.sample(range(10**6), len(given))))
    raters = dict(zip(["ann", "bo", "cy"], random.sample(["x", "ann", "zed"], 3), strict=True))
    keys = {item: dict(zip(KEYS, random.sample("wxyzabcd", 4), strict=True)) for item in items}
    tiers = [tuple(tuple(keys[r.item][key] for key in random.sample(tier, len(tier))) for tier in r.tiers) for r in rankings]
    again = [Ranking(items[r.item], raters[r.rater], tier) for r, tier in zip(rankings, tiers, strict=True)]
    random.shuffle(again)
    assert values(again) == pytest.approx(values(rankings), nan_ok=True)


def by_hand(rankings):
    """Shares and taus told by plain loops, tau from scipy on rank vectors over a fixed order of keys."""
    from scipy.stats import kendalltau

    same, all_, taus = 0, 0, []
    for i, one in enumerate(rankings):
        for other in rankings[i + 1 :]:
            if one.item == other.item:
                a, b = pairs(one), pairs(other)
                same, all_ = same + sum(a[pair] == b[pair] for pair in a), all_ + len(a)
                vectors = [[next(i for i, tier in enumerate(r.tiers) if key in tier) for key in KEYS] for r in (one, other)]
                taus.append(kendalltau(*vectors).statistic)
    return same / all_ if all_ else None, [tau for tau in taus if tau == tau]


@given(tables)
def test_agreement_and_tau_are_those_of_plain_loops(given):
    rankings = labels(given)
    share, taus = by_hand(rankings)
    agreed, tau = pair_agreement(rankings), mean_tau_b(rankings)
    assert tau.n == len(taus)
    if agreed.value is not None:
        assert agreed.value == pytest.approx(share)
        assert agreed.interval[0] <= agreed.value <= agreed.interval[1]
    if tau.value is not None:
        assert tau.value == pytest.approx(numpy.mean(taus))


@settings(max_examples=40)  # each resamples several times
@given(st.lists(st.fixed_dictionaries({"ann": texts(), "bo": texts()}, optional={"cy": texts()}), min_size=LEAST_ITEMS, max_size=14))
def test_alpha_of_rankings_is_the_general_one_with_either_answer_first(given):
    rankings = labels(given)
    told = krippendorff_alpha(rankings)
    assume(told.value is not None)  # not all ties
    said = {}
    for row in rankings:
        for pair, value in pairs(row).items():
            said.setdefault((row.item, *pair), []).append(value)
    both = [*said.values(), *([-value for value in values] for values in said.values())]
    general, n = alpha(both).value, told.n
    # The small-sample correction is that of the labels there are, not of twice as many.
    assert 1 - told.value == pytest.approx((1 - general) * (n - 1) / n / ((2 * n - 1) / (2 * n)))


@settings(max_examples=40)  # each resamples several times
@given(st.lists(texts().map(lambda text: text if " " in text.strip() else f"{text[0]} {text[1:]}"), min_size=LEAST_ITEMS, max_size=14))
def test_perfect_agreement_and_exact_reversal(orders):
    agreed = labels([{"ann": order, "bo": order} for order in orders])
    assert (pair_agreement(agreed).value, krippendorff_alpha(agreed).value, mean_tau_b(agreed).value) == pytest.approx((1, 1, 1))
    assert pair_agreement(agreed).interval[0] == wilson(len(orders), len(orders))[0]  # agreeing ten times proves no certainty
    assert krippendorff_alpha(agreed).interval is None
    turned = labels([{"ann": order, "bo": " ".join(reversed(order.split()))} for order in orders])
    assert mean_tau_b(turned).value == pytest.approx(-1)
    assert disagreements(agreed) == []


def test_alpha_does_not_fall_because_one_model_mostly_wins():
    rng = numpy.random.default_rng(0)
    rows = [{rater: "a b" if rng.random() > 0.05 else "b a" for rater in ("ann", "bo")} for _ in range(400)]
    by_model = alpha([[text[0] == "a" for text in row.values()] for row in rows]).value
    told = krippendorff_alpha(labels(rows)).value
    assert by_model < 0.2 < 0.75 < told  # both raters say the same of nine items in ten
    assert told == pytest.approx(2 * pair_agreement(labels(rows)).value - 1, abs=0.01)


def test_raters_who_guess_agree_by_chance_alone():
    rng = numpy.random.default_rng(1)
    rows = [{rater: " ".join(rng.permutation(list(KEYS))) for rater in ("ann", "bo", "cy")} for _ in range(300)]
    for told in (krippendorff_alpha(labels(rows)), mean_tau_b(labels(rows))):
        assert told.interval[0] < 0 < told.interval[1]
        assert abs(told.value) < 0.1
    low, high = pair_agreement(labels(rows)).interval
    assert low < 0.5 < high


def test_one_rater_alone_agrees_with_nobody():
    rankings = labels([{"ann": "a b c d"}] * 40)
    for told in (pair_agreement(rankings), krippendorff_alpha(rankings), mean_tau_b(rankings), alpha([[1.0]] * 40)):
        assert (told.value, told.interval, told.why) == (None, None, "not enough raters")


def test_few_or_no_labels_say_so():
    few = labels([{"ann": "a b", "bo": "a b"}] * (LEAST_ITEMS - 1) + [{"ann": "a b"}] * 50 + [{"bo": "b a"}] * 50)
    for told in (pair_agreement(few), krippendorff_alpha(few), mean_tau_b(few)):
        assert (told.value, told.why, told.n_items) == (None, "not enough labels", LEAST_ITEMS - 1)
    assert tie_rate(few).value == 0
    for told in (position_bias([]).share, length_bias([]).share, tie_rate([]), self_consistency([]), gold([], {}).total):
        assert (told.value, told.n, told.why) == (None, 0, "not enough labels")
    assert {f([]).value for f in (pair_agreement, krippendorff_alpha, mean_tau_b)} == {None}
    assert disagreements([]) == []


def test_ties_alone_have_neither_tau_nor_alpha():
    tied = labels([{"ann": "abcd", "bo": "abcd"}] * 20)
    assert (mean_tau_b(tied).value, mean_tau_b(tied).n) == (None, 0)
    assert (krippendorff_alpha(tied).value, krippendorff_alpha(tied).why) == (None, "all labels are the same")
    assert (pair_agreement(tied).value, tie_rate(tied).value) == (1, 1)


@given(st.integers(), texts(), st.randoms(use_true_random=False))
def test_pairs_say_what_the_ranking_says_in_the_order_of_keys(item, text, random):
    row = ranking(item, "ann", text)
    rank = {key: place for place, tier in enumerate(row.tiers) for key in tier}
    told = pairs(row)
    assert {frozenset(pair) for pair in told} == {frozenset((a, b)) for a in KEYS for b in KEYS if a != b}
    assert all(said == (rank[b] > rank[a]) - (rank[a] > rank[b]) for (a, b), said in told.items())
    other = ranking(item, "bo", " ".join(random.sample(KEYS, 4)))
    assert set(pairs(other)) == set(told)
    assert set(pairs(Ranking(item + 1, "bo", other.tiers, of=item))) == set(told)


def test_the_last_ranking_of_a_rater_counts_and_repeats_do_not():
    rankings = labels([{"ann": "a b c d", "bo": "a b c d"}] * 12)
    repeats = [ranking(100 + item, rater, "d c b a", of=item) for item in range(12) for rater in ("ann", "bo")]
    more = [ranking(0, "bo", "d c b a"), *rankings, *repeats]
    assert values(more) == values(rankings)
    assert tabulate(more).items == tuple(range(12))
    assert tabulate(table := tabulate(more)) is table
    assert pair_agreement(table) == pair_agreement(rankings)


def test_answers_somebody_did_not_rank_are_missing():
    rankings = [ranking(item, "ann", "a b c") for item in range(12)] + [ranking(item, "bo", "b a") for item in range(12)]
    assert (pair_agreement(rankings).value, pair_agreement(rankings).n) == (0, 12)
    assert (mean_tau_b(rankings).value, tie_rate(rankings).n) == (-1, 48)


def test_self_consistency_compares_a_rater_with_themself():
    first = labels([{"ann": "a b c", "bo": "c b a"}] * 20)
    again = [ranking(100 + item, "ann", "a b c" if item % 2 else "a c b", of=item) for item in range(20)]
    told = self_consistency(first + again)
    assert (told.value, told.n, told.n_items) == (pytest.approx(5 / 6), 60, 20)
    assert told.interval[0] < told.value < told.interval[1]
    stranger = [ranking(200 + item, "cy", "a b c", of=item) for item in range(20)]
    assert self_consistency(first + stranger).n == 0


def shown_first(wins, n, k=2):
    keys = KEYS[:k]
    return [ranking(i, "ann", " ".join(keys), shown=tuple(keys if i < wins else keys[1:] + keys[0])) for i in range(n)]


def test_position_bias_of_two_is_the_binomial_test():
    from scipy.stats import binomtest

    told = position_bias(shown_first(40, 60))
    assert (told.share.value, told.share.n, told.places, told.expected) == (pytest.approx(2 / 3), 60, (40, 20), 0.5)
    assert told.p == pytest.approx(binomtest(40, 60).pvalue)
    assert told.share.interval == wilson(40, 60)
    assert position_bias(shown_first(19, 19)).share.why == "not enough labels"
    tied = [ranking(100 + i, "ann", "ab", shown=("a", "b")) for i in range(50)]
    assert position_bias(shown_first(40, 60) + tied) == told
    for wins, places in ((60, (60, 0)), (0, (0, 60))):
        always = position_bias(shown_first(wins, 60))
        assert (always.places, always.share.value, always.p) == (places, wins / 60, pytest.approx(2**-59)), "all chose the same place"
    assert position_bias(shown_first(60, 60, 4)).places == (60, 0, 0, 0)


def test_position_bias_of_more_is_the_chi_square_test():
    from scipy.stats import chi2, chisquare

    rows = [ranking(i, "ann", "a b c d", shown=tuple("bcd"[: i % 4] + "a" + "bcd"[i % 4 :])) for i in range(80)] + shown_first(12, 12, 4)
    rows = [Ranking(item, "ann", row.tiers, row.shown) for item, row in enumerate(rows)]
    told = position_bias(rows)
    assert (told.places, told.expected) == ((32, 20, 20, 20), 0.25)
    assert told.p == pytest.approx(chisquare([32, 20, 20, 20]).pvalue)
    both = position_bias(rows + [Ranking(r.item + 500, "ann", r.tiers, r.shown) for r in shown_first(30, 50)])
    assert both.p == pytest.approx(chi2.sf(chisquare([32, 20, 20, 20]).statistic + chisquare([30, 20]).statistic, 4))
    assert both.expected == pytest.approx((23 + 25) / 142)
    nine = [Ranking(i, "ann", tuple(("abcdefghi"[j],) for j in range(9)), tuple("abcdefghi")) for i in range(44)]
    assert position_bias(shown_first(10, 19, 4)).share.why == position_bias(nine).share.why == "not enough labels"


@pytest.mark.parametrize("k", [2, 4])
def test_a_fair_rater_has_a_uniform_p(k):
    rng = numpy.random.default_rng(k)
    p = []
    for _ in range(200):
        rows = [Ranking(i, "ann", tuple((key,) for key in KEYS[:k]), tuple(rng.permutation(list(KEYS[:k])))) for i in range(100)]
        p.append(position_bias(rows).p)
    assert 2 <= sum(one < 0.05 for one in p) <= 20  # Binomial(200, 0.05) lies outside in fewer than 2 of 1,000 draws


def long_wins(share, n, raters=1, k=2):
    """The longer answer wins on this share of the items, by all raters alike."""
    lengths = {key: 100 - i for i, key in enumerate(KEYS)}
    order = [" ".join(KEYS[:k] if i < share * n else reversed(KEYS[:k])) for i in range(n)]
    return [ranking(i, f"r{r}", order[i], lengths=lengths) for i in range(n) for r in range(raters)]


def test_length_bias_counts_items_not_labels():
    from scipy.stats import binomtest

    alone, many = length_bias(long_wins(0.7, 60)), length_bias(long_wins(0.7, 60, raters=10, k=4))
    assert (alone.share.value, alone.share.n, alone.share.n_items) == (pytest.approx(0.7), 60, 60)
    assert alone.p == many.p == pytest.approx(binomtest(42, 60).pvalue)
    assert many.share.n == 3600
    assert many.share.interval == pytest.approx(alone.share.interval, abs=0.01)  # sixty opinions repeated are sixty opinions
    assert alone.share.interval == pytest.approx(wilson(42, 60), abs=0.01)


def test_equal_lengths_ties_and_unknown_lengths_say_nothing_of_length_bias():
    rows = long_wins(0.7, 60)
    equal, tied = ranking(100, "ann", "a b", lengths={"a": 5, "b": 5}), ranking(101, "ann", "ab", lengths={"a": 5, "b": 6})
    other = [equal, tied, ranking(102, "ann", "a b")]
    assert length_bias(rows + other) == length_bias(rows)
    assert length_bias(rows[:15]).share.why == "not enough labels"


def test_gold_is_told_for_each_rater_and_all():
    truth = dict.fromkeys(range(12), (("a",), ("b", "c")))
    rows = labels([{"ann": "a b c", "bo": "b a c" if item < 6 else "abc"} for item in range(20)])
    told = gold(rows, truth)
    assert (told.raters["ann"].value, told.raters["ann"].n, told.raters["ann"].n_items) == (1, 24, 12)
    assert (told.raters["bo"].value, told.raters["bo"].n) == (0.25, 24)  # of the two decided pairs one on six items; a tie is not right
    assert (told.total.value, told.total.n, told.total.n_items) == (0.625, 48, 12)
    assert told.raters["ann"].interval == wilson(12, 12)
    assert gold(rows, {0: truth[0]}).raters["ann"].why == "not enough labels"


def test_majority_is_copeland_s_order():
    rows = [ranking(1, "ann", "a b c"), ranking(1, "bo", "a c b"), ranking(1, "cy", "b a c")]
    assert majority(rows) == Majority((("a",), ("b",), ("c",)), False, frozenset([("a", "b"), ("a", "c"), ("b", "c")]))
    assert majority([ranking(1, "ann", "a b"), ranking(1, "bo", "b a")]) == Majority((("a", "b"),), False)
    assert majority([]) == Majority((), False)


def test_a_majority_of_no_whole_order_says_so():
    split = majority([ranking(1, "ann", "a b c"), ranking(1, "bo", "c a b")])
    assert split == Majority((("a", "b", "c"),), False, frozenset([("a", "b")])), "c is above and below a, and above and below b"
    assert not split.whole
    assert majority([ranking(1, "ann", "a b c"), ranking(1, "bo", "b a c")]).whole, "a and b are split, and both above c"


@given(st.lists(texts(), max_size=5))
def test_nobody_s_preference_is_invented(orders):
    rows = [ranking(1, f"r{i}", text) for i, text in enumerate(orders)]
    told = majority(rows)
    votes = Counter(
        (a, b) for row in rows for one, other in combinations(row.tiers, 2) for a in one for b in other
    )
    assert told.decided == {(a, b) for a, b in votes if votes[a, b] > votes[b, a]}
    strict = {(a, b) for one, other in combinations(told.tiers, 2) for a in one for b in other}
    assert strict <= told.decided
    assert told.whole == (strict == told.decided)
    assert sorted(key for tier in told.tiers for key in tier) == sorted({key for row in rows for tier in row.tiers for key in tier})


def test_a_cycle_is_seen():
    rows = [ranking(1, "ann", "a b c d"), ranking(1, "bo", "b c a d"), ranking(1, "cy", "c a b d")]
    told = majority(rows)
    assert (told.tiers, told.cycle, told.whole) == ((("a", "b", "c"), ("d",)), True, False)


@given(texts(), st.integers(1, 4))
def test_raters_of_one_mind_are_the_majority(text, raters):
    told = majority([ranking(1, f"r{i}", text) for i in range(raters)])
    assert (told.tiers, told.cycle, told.whole) == (tuple(tuple(sorted(tier)) for tier in text.split()), False, True)


def test_the_worst_disagreement_comes_first():
    rows = labels([{"ann": "a b c", "bo": "a b c"}, {"ann": "a b c", "bo": "a c b"}, {"ann": "a b c", "bo": "c b a"}, {"ann": "a b c"}])
    assert disagreements(rows) == [(2, 1.0), (1, pytest.approx(1 / 3))]


# What agreement and strengths share.


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda c: (min(c), c[1])), min_size=LEAST_ITEMS, max_size=40))
def test_a_clustered_rate_lies_in_its_interval_and_items_bound_what_is_known(counts):
    right, n = zip(*counts, strict=True)
    told = clustered_rate(right, n)
    assert told.value == pytest.approx(sum(right) / sum(n))
    low, high = told.interval
    assert low - 1e-9 <= told.value <= high + 1e-9
    exact = wilson(sum(right), sum(n))
    assert high - low >= exact[1] - exact[0] - 1e-9  # never surer than if all were independent
    assert clustered_rate([*right, 0], [*n, 0]) == told


@pytest.mark.long
@pytest.mark.parametrize("spread", [0.3, 3.0, 50.0])
@pytest.mark.parametrize("items", [LEAST_ITEMS, 30, 200])
def test_a_clustered_rate_covers(items, spread):
    """Six pairs an item whose rate is drawn anew for each: the interval has the true rate in it in about 95 % of samples."""
    rng = numpy.random.default_rng(0)
    right = rng.binomial(6, rng.beta(0.7 * spread, 0.3 * spread, (1000, items)))
    intervals = numpy.array([clustered_rate(row, [6] * items).interval for row in right])
    assert ((intervals[:, 0] <= 0.7) & (intervals[:, 1] >= 0.7)).mean() >= 0.92


def test_the_interval_of_ten_items_allows_for_their_being_ten():
    """By hand: 10 items of 4 that are all right or all wrong are worth 9 observations, not 40."""
    told = clustered_rate([4, 0] * 5, [4] * 10)
    assert told.interval == wilson(4.5, 9)  # 0.25 * 40 ** 2 / (10 * 2 ** 2 * 10 / 9)


def test_resamples_have_the_law_of_a_mean():
    values = numpy.random.default_rng(2).normal(5, 2, (5000, 1))
    for rows in (values[:900], values):  # each item by itself, and in groups
        means = resampled(rows, 1)[:, 0] / len(rows)
        _, low, high = bootstrap_mean(rows[:, 0].tolist())
        assert numpy.quantile(means, [0.025, 0.975]) == pytest.approx((low, high), abs=0.02)
        assert means.std() == pytest.approx(rows.std() / len(rows) ** 0.5, rel=0.08)
