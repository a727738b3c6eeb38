"""What the numbers allow one to say: intervals, paired tests, and the one function that speaks verdicts.

Two models are compared item by item: an item is lost when it went from right to wrong, gained when from wrong to right,
and only those carry evidence. numpy and scipy are imported on use, so that the dashboard starts without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Word = Literal["learned", "forgot", "kept", "not enough evidence"]
LEVEL = 0.05
RESAMPLES, CHUNK, GROUPS = 2000, 200, 1000
LEAST_ITEMS = 10  # of which a rate, an agreement or a strength is told: below, an interval over items says nothing
FEW_RATERS, FEW_LABELS, ALL_SAME = "not enough raters", "not enough labels", "all labels are the same"


@dataclass(frozen=True)
class Figure:
    """A number drawn from labels with its 95 % interval; without a value, `why` there is none. No interval where no two items differ."""

    value: float | None
    n: int  # what was counted: the pairs, choices or comparisons
    n_items: int  # the items, or prompts, they came from
    interval: tuple[float, float] | None = None
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """What happened to one ability. Rates are shares in 0..1; `p` is adjusted over the abilities judged together."""

    ability: str
    n: int
    before: float
    after: float
    lost: int
    gained: int
    p: float
    loss_upper: float  # upper end of the one-sided 95 % interval of the net loss, as a share of the items
    verdict: Word
    floor: float = 0.0  # the rate of guessing
    at_floor: bool = False  # before, the model could not be told from one that guesses, or had less than the margin to lose


def verdicts(
    abilities: Mapping[str, Sequence[tuple[bool, bool]]], margin: float = 0.05, floors: Mapping[str, float | None] | None = None
) -> list[Verdict]:
    """Judge each ability from its paired items (right before, right after).

    learned / forgot: exact McNemar, Holm over the abilities given, p < 0.05, more gained / more lost. kept: the net
    loss is below `margin` with 95 % confidence, and there was that much to lose above `floors`, the rates of guessing (0
    where none is named); never concluded from a large p. Otherwise: not enough evidence.
    """
    counted = {name: (sum(b and not a for b, a in items), sum(a and not b for b, a in items)) for name, items in abilities.items()}
    adjusted = holm([mcnemar(lost, gained) for lost, gained in counted.values()])
    told = []
    for (name, items), p in zip(abilities.items(), adjusted, strict=True):
        n, (lost, gained) = len(items), counted[name]
        before, after = (sum(side) / n if n else 0.0 for side in (zip(*items, strict=True) if n else ((), ())))
        upper, floor = net_loss_upper(lost, gained, n), (floors or {}).get(name) or 0.0
        stuck = bool(n) and (before - floor < margin or wilson(round(before * n), n)[0] <= floor)
        word: Word = "not enough evidence"
        if n and p < LEVEL:
            word = "forgot" if lost > gained else "learned"
        elif n and upper < margin and not stuck:
            word = "kept"
        told.append(Verdict(name, n, before, after, lost, gained, p, upper, word, floor, stuck))
    return told


def floor_notes(told: Sequence[Verdict]) -> list[str]:
    """Which of these abilities had nothing to lose, a sentence each."""
    return [
        f"{one.ability} cannot show forgetting here: before, it stood at {one.before:.0%}, where guessing gives {one.floor:.0%}."
        for one in told
        if one.at_floor
    ]


def wilson(right: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate (Wilson 1927); (0, 1) when nothing was measured."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - LEVEL / 2)  # scipy says the same, and takes a second to import: a page waits for this
    centre, spread = right + z**2 / 2, z * sqrt(right * (n - right) / n + z**2 / 4)
    return max(0.0, (centre - spread) / (n + z**2)), min(1.0, (centre + spread) / (n + z**2))


def clustered_rate(right: "Sequence[float] | NDArray[Any]", n: "Sequence[float] | NDArray[Any]") -> Figure:
    """Share right of all, from counts per item (items with none are left out), with Wilson's interval for observations that go together.

    What one item gives is not independent: the interval is that of as many independent observations as have the variance
    seen between items (the design effect, Kish 1965); of one per item where all or none are right and no variance is seen.
    """
    import numpy

    rights, counts = numpy.asarray(right, float), numpy.asarray(n, float)
    rights, counts = rights[counts > 0], counts[counts > 0]
    items, total = len(counts), int(counts.sum())
    if items < LEAST_ITEMS:
        return Figure(None, total, items, why=FEW_LABELS)
    rate = float(rights.sum() / total)
    between = float(((rights - rate * counts) ** 2).sum()) * items / (items - 1)
    effective: float = items
    if 0 < rate < 1:
        effective = min(total, rate * (1 - rate) * total**2 / between) if between else total
    return Figure(rate, total, items, wilson(rate * effective, effective))


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided McNemar test: are losses and gains equally likely? 1 when nothing changed."""
    from scipy.special import bdtr  # scipy.stats says the same, and takes a second longer to import

    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def net_loss_upper(lost: int, gained: int, n: int) -> float:
    """Upper end of the one-sided 95 % interval of (lost - gained) / n; 1 when nothing was measured.

    Tango's score interval for paired proportions (Tango 1998), but never below the exact binomial limit of the net
    count, which the score interval undercuts when few items changed: with nothing lost that limit is 13.9 % at 20
    items, 4.9 % at 60 and 3.0 % at 100.
    """
    from scipy.optimize import brentq
    from scipy.stats import beta, norm

    if n == 0:
        return 1.0
    net = max(lost - gained, 0)
    exact = 1.0 if net == n else float(beta.ppf(1 - LEVEL, net + 1, n - net))
    if lost + gained == 0:
        return exact
    z = float(norm.ppf(1 - LEVEL))

    def distance(share: float) -> float:
        middle = -lost - gained + (2 * n - lost + gained) * share
        gain = (sqrt(max(0.0, middle**2 + 8 * n * gained * share * (1 - share))) - middle) / (4 * n)
        spread = sqrt(max(1e-12, n * (2 * gain + share * (1 - share))))
        return (lost - gained - n * share) / spread + z

    estimate = (lost - gained) / n
    score = float(brentq(distance, estimate, 1 - 1e-9)) if distance(1 - 1e-9) < 0 else 1.0
    return max(score, exact)


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap interval over items. What is nan was not measured and is left out: the caller tells n.

    Raises ValueError if nothing is left.
    """
    import numpy

    given = numpy.asarray(values, float)
    given = given[~numpy.isnan(given)]
    if given.size == 0:
        raise ValueError("nothing to average: no items")
    rng, means = numpy.random.default_rng(seed), []
    for _ in range(RESAMPLES // CHUNK):  # a chunk at a time: ten thousand items in all resamples at once would be 160 MB
        means.append(given[rng.integers(0, given.size, (CHUNK, given.size))].mean(1))
    low, high = numpy.quantile(numpy.concatenate(means), [LEVEL / 2, 1 - LEVEL / 2])
    return float(given.mean()), float(low), float(high)


def bootstrap_difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean paired difference after - before with its 95 % bootstrap interval; a pair with a nan is left out. Raises ValueError if empty."""
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], seed)


def resampled(rows: "NDArray[Any]", seed: int = 0) -> "NDArray[Any]":
    """Sums over items in each bootstrap resample of the items: (items, numbers) -> (2000, numbers).

    More than 1,000 items are drawn in 1,000 random groups: that moves an interval's width by 2 %, as 2,000 resamples do anyway.
    """
    import numpy

    rng = numpy.random.default_rng(seed)
    if len(rows) > GROUPS:
        starts = numpy.arange(GROUPS) * len(rows) // GROUPS
        rows = numpy.add.reduceat(rows[rng.permutation(len(rows))], starts)
    size = len(rows)
    draws = rng.integers(0, size, (RESAMPLES, size)) + size * numpy.arange(RESAMPLES)[:, None]
    times = numpy.bincount(draws.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size)
    sums: NDArray[Any] = times.astype(float) @ rows
    return sums


def forgetting(matrix: Sequence[Sequence[float]]) -> list[float]:
    """Each ability's fall from its best, F_j = max over l < T of R[l][j] - R[T][j] (Chaudhry et al. 2018, 1801.10112), never below 0."""
    *earlier, last = matrix
    return [max(0.0, max(row[j] for row in earlier) - last[j]) for j in range(len(last))] if earlier else [0.0] * len(last)


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """BWT = mean over tasks i < T of R[T][i] - R[i][i] (Lopez-Paz and Ranzato 2017, 1706.08840); row 0 is before the first task.

    Raises ValueError unless there is one row more than tasks, and two tasks at least."""
    tasks = len(matrix) - 1
    if tasks < 2 or any(len(row) != tasks for row in matrix):
        raise ValueError(f"backward transfer needs two tasks and a row for each and one before them, not {len(matrix)} rows")
    return sum(matrix[tasks][i] - matrix[i + 1][i] for i in range(tasks - 1)) / (tasks - 1)
