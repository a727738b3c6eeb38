"""How far raters agree, how they are biased, and what they say together; from rankings of an item's answers, ties included."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from engine.counting import UNKNOWN, Labels, Numbers, Ranking, Table, Tiers, pairs, tabulate
from engine.statistics import (
    ALL_SAME,
    FEW_LABELS,
    FEW_RATERS,
    LEAST_ITEMS,
    LEVEL,
    Figure,
    clustered_rate,
    mcnemar,
    resampled,
    wilson,
)
from engine.strengths import cycles

LEAST_CHOICES, LEAST_EXPECTED = 20, 5  # choices a bias is told of; and winners expected at each place of a chi-square test


@dataclass(frozen=True)
class Bias:
    """How often raters took the first shown, or the longer: by chance it is `expected`, and `p` says how likely this much else is."""

    share: Figure
    expected: float
    p: float | None = None
    places: tuple[int, ...] = ()  # winners by place on the screen


@dataclass(frozen=True)
class Gold:
    """Right on the decided pairs of gold rankings: all raters, and each."""

    total: Figure
    raters: dict[str, Figure]


@dataclass(frozen=True)
class Majority:
    """What most raters say of each two answers, and the order that follows as far as one does."""

    tiers: Tiers  # one answer above another only where most say so of them
    cycle: bool  # most prefer one answer to the next all the way round somewhere in it
    decided: frozenset[tuple[str, str]] = frozenset()  # each two of which more put the first above the second than below it

    @property
    def whole(self) -> bool:
        """Whether the order says all that is decided: then a tie in it is a pair that is split, or that all tie."""
        sizes = list(map(len, self.tiers))
        return 2 * len(self.decided) == sum(sizes) ** 2 - sum(size**2 for size in sizes)


def pair_agreement(labels: Labels) -> Figure:
    """Share of (item, two answers, two raters) that say the same, with an interval over items."""
    table = tabulate(labels)
    counts = _counts(table)
    same, all_ = ((side * (side - 1) / 2).sum((1, 2)) for side in (counts, counts.sum(2, keepdims=True)))
    return clustered_rate(same, all_) if table.raters > 1 else Figure(None, 0, 0, why=FEW_RATERS)


def krippendorff_alpha(labels: Labels, seed: int = 0) -> Figure:
    """Nominal alpha (Krippendorff 2011) over (item, two answers), with a bootstrap interval over items; n counts the labels compared.

    Either answer may be the first of a pair, so the mean of both directions is taken: alpha depends on no order of answers then.
    """
    table = tabulate(labels)
    made = _coincidences(_counts(table))
    return _alpha((made + made[:, ::-1, ::-1]) / 2, table.raters, False, seed)


def alpha(units: Iterable[Sequence[float]], ordinal: bool = False, seed: int = 0) -> Figure:
    """Alpha (Krippendorff 2011) of the values each unit got, nominal or ordinal, any number of raters, missing ones left out."""
    given = [list(unit) for unit in units]
    place = {value: i for i, value in enumerate(sorted({value for unit in given for value in unit}))}
    counts = numpy.zeros((len(given), 1, len(place)))
    for row, unit in zip(counts, given, strict=True):
        for value in unit:
            row[0, place[value]] += 1
    return _alpha(_coincidences(counts), max(map(len, given), default=0), ordinal, seed)


def mean_tau_b(labels: Labels, seed: int = 0) -> Figure:
    """Mean Kendall tau-b (1945) of every two rankings of one item, with a bootstrap interval over items; n counts the twos.

    A ranking that ties everything has no tau: the twos it is in are left out.
    """
    table = tabulate(labels)
    sums = numpy.zeros((len(table.items), 2))
    for apart in range(1, max(Counter(table.item.tolist()).values(), default=0)):
        one = numpy.flatnonzero(table.item[apart:] == table.item[:-apart])
        a, b = table.said[one], table.said[one + apart]
        a, b = (numpy.where((a == UNKNOWN) | (b == UNKNOWN), 0, side).astype(int) for side in (a, b))
        below = numpy.sqrt((a**2).sum(1) * (b**2).sum(1))
        told = below > 0
        found = ((a * b).sum(1)[told] / below[told], numpy.ones(told.sum()))
        sums += numpy.stack([numpy.bincount(table.item[one][told], side, len(sums)) for side in found], 1)
    return _resampled_figure(sums[sums[:, 1] > 0], sums[:, 1].sum(), table.raters, lambda s: s[..., 0] / s[..., 1], seed)


def self_consistency(labels: Labels) -> Figure:
    """Share of two answers of which a rater says the same when the item is repeated, with an interval over items."""
    table = tabulate(labels)
    same, all_ = (numpy.bincount(table.again[:, 0], table.again[:, side], len(table.items)) for side in (1, 2))
    return clustered_rate(same, all_)


def position_bias(labels: Labels) -> Bias:
    """Does the place on the screen decide who wins? Each rater's order being shuffled anew, choices are independent.

    Exact binomial test of the first place with two answers, chi-square of the winner's place with more (summed over
    rankings of different sizes). Where the top is a tie there is no winner: it is left out, which keeps chance even.
    """
    from scipy.special import chdtrc

    table = tabulate(labels)
    found = {k: table.won[(table.won >= 0) & (table.shown == k)] for k in set(table.shown.tolist()) if k > 1}
    sizes = {k: numpy.bincount(won, minlength=k) for k, won in found.items() if len(won) >= LEAST_EXPECTED * k}
    n = int(sum(seen.sum() for seen in sizes.values()))
    told = (table.won >= 0) & numpy.isin(table.shown, list(sizes))
    items = len(set(table.item[told].tolist()))
    if n < LEAST_CHOICES:
        return Bias(Figure(None, n, items, why=FEW_LABELS), 0.5)
    places = tuple(numpy.bincount(table.won[told], minlength=max(sizes)).tolist())
    statistic = sum(float(((seen - seen.sum() / k) ** 2).sum() / (seen.sum() / k)) for k, seen in sizes.items())
    p = mcnemar(*places) if list(sizes) == [2] else float(chdtrc(sum(k - 1 for k in sizes), statistic))
    expected = sum(float(seen.sum()) / k for k, seen in sizes.items()) / n
    return Bias(Figure(places[0] / n, n, items, wilson(places[0], n)), expected, p, places)


def length_bias(labels: Labels) -> Bias:
    """Share of decided pairs of unequal length that the longer answer won, with an interval over items.

    One item's pairs go together, so `p` is the exact sign test over items: in how many did the longer win more than half?
    """
    table = tabulate(labels)
    told = (abs(table.said) == 1) & (table.longer != 0)
    size = len(table.items)
    won, all_ = (numpy.bincount(table.item, side.sum(1), size) for side in (told & (table.said == table.longer), told))
    share = clustered_rate(won, all_)
    if share.value is None or share.n < LEAST_CHOICES:
        return Bias(Figure(None, share.n, share.n_items, why=FEW_LABELS), 0.5)
    return Bias(share, 0.5, mcnemar(int((won > all_ / 2).sum()), int((won < all_ / 2).sum())))


def tie_rate(labels: Labels) -> Figure:
    """Share of two answers that a rater ties, with an interval over items."""
    table = tabulate(labels)
    tied, all_ = (numpy.bincount(table.item, side.sum(1), len(table.items)) for side in (table.said == 0, table.said != UNKNOWN))
    return clustered_rate(tied, all_)


def gold(rankings: Sequence[Ranking], truth: Mapping[int, Tiers]) -> Gold:
    """Share of the decided pairs of each gold item's true order that raters have right; a tie is not right."""
    right: dict[str, Counter[int]] = defaultdict(Counter)
    all_: dict[str, Counter[int]] = defaultdict(Counter)
    for row in {(r.item, r.rater): r for r in rankings if r.of is None and r.item in truth}.values():
        true, said = pairs(Ranking(row.item, "", truth[row.item])), pairs(row)
        decided = [pair for pair in true if true[pair] and pair in said]
        for who in (row.rater, ""):
            right[who][row.item] += sum(said[pair] == true[pair] for pair in decided)
            all_[who][row.item] += len(decided)
    rates = {who: clustered_rate([right[who][item] for item in counts], list(counts.values())) for who, counts in sorted(all_.items())}
    return Gold(rates.pop("", Figure(None, 0, 0, why=FEW_LABELS)), rates)


def majority(rankings: Sequence[Ranking]) -> Majority:
    """What most raters of one item say: pair by pair, of those who do not tie it, and as an order.

    Answers stand in the order of Copeland's score (1951), pairs won less pairs lost, but a rank ends only where most put
    each answer above it over each below: of a > b > c and c > a > b only a > b is decided, and no order says that alone.
    """
    keys = sorted({key for row in rankings for tier in row.tiers for key in tier})
    votes, place = numpy.zeros((len(keys), len(keys))), {key: i for i, key in enumerate(keys)}
    for row in rankings:
        for (a, b), said in pairs(row).items():
            votes[place[a], place[b]] += said > 0
            votes[place[b], place[a]] += said < 0
    above = votes > votes.T
    order = numpy.argsort(-(above.sum(1) - above.sum(0)), kind="stable")
    ends = [end for end in range(1, len(keys) + 1) if above[order[:end]][:, order[end:]].all()]
    tiers = (tuple(keys[i] for i in sorted(order[start:end])) for start, end in zip([0, *ends], ends, strict=False))
    decided = frozenset((keys[i], keys[j]) for i, j in numpy.argwhere(above))
    return Majority(tuple(tiers), bool(cycles(votes)), decided)


def disagreements(labels: Labels) -> list[tuple[int, float]]:
    """Items with two raters or more that do not all say the same, and of which share of their pairs; the worst first."""
    table = tabulate(labels)
    counts = _counts(table)
    shared = counts.sum(2) > 1
    disputed = shared & ((counts > 0).sum(2) > 1)
    shares = disputed.sum(1) / numpy.maximum(shared.sum(1), 1)
    found = zip(table.items, shares.tolist(), strict=True)
    return sorted((one for one in found if one[1]), key=lambda one: (-one[1], one[0]))


def _counts(table: Table) -> Numbers:
    """(items, pairs, 3): how many raters say -1, 0 and 1."""
    size = table.said.shape[1]
    known = table.said != UNKNOWN
    cells = (table.item[:, None] * size + numpy.arange(size))[known] * 3 + table.said[known] + 1
    return numpy.bincount(cells, minlength=len(table.items) * size * 3).reshape(len(table.items), size, 3).astype(float)


def _coincidences(counts: Numbers) -> Numbers:
    """Labels that meet in a unit, each counted once: (items, units, values) -> (items, values, values)."""
    made = counts.sum(2)
    share = numpy.where(made > 1, 1 / numpy.maximum(made - 1, 1), 0)
    met: Numbers = numpy.swapaxes(counts * share[..., None], 1, 2) @ counts
    met -= numpy.einsum("iuv,iu->iv", counts, share)[:, :, None] * numpy.eye(counts.shape[2])
    return met


def _alpha(met: Numbers, raters: int, ordinal: bool, seed: int) -> Figure:
    """Alpha of coincidences (items, values, values)."""
    values = met.shape[1]

    def of(sums: Numbers) -> Numbers:
        matrix = sums.reshape(*sums.shape[:-1], values, values)
        n = matrix.sum(-1)
        middle = n.cumsum(-1) - n / 2  # the ordinal distance of two values is what lies between their middles
        distance = (middle[..., None] - middle[..., None, :]) ** 2 if ordinal else 1 - numpy.eye(values)
        seen, chance = ((one * distance).sum((-2, -1)) for one in (matrix, n[..., None] * n[..., None, :]))
        return numpy.where(chance > 0, 1 - (n.sum(-1) - 1) * seen / numpy.where(chance > 0, chance, 1), numpy.nan)

    told = met.sum((1, 2))
    return _resampled_figure(met[told > 0].reshape(-1, values**2), told.sum(), raters, of, seed)


def _resampled_figure(rows: Numbers, n: float, raters: int, of: Callable[[Numbers], Numbers], seed: int) -> Figure:
    """What is made `of` the sums of `rows` (items, numbers), with its bootstrap interval; none where every resample says the same."""
    size, count = len(rows), round(float(n))
    if raters < 2 or size < LEAST_ITEMS:
        return Figure(None, count, size, why=FEW_RATERS if raters < 2 else FEW_LABELS)
    value = float(of(rows.sum(0)))
    if numpy.isnan(value):
        return Figure(None, count, size, why=ALL_SAME)
    low, high = numpy.nanquantile(of(resampled(rows, seed)), [LEVEL / 2, 1 - LEVEL / 2])
    return Figure(value, count, size, (float(low), float(high)) if high > low else None)
