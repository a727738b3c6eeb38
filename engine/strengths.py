"""How strong models are by people's choices between their answers: Bradley-Terry (1952), a tie being half a win for each.

The strengths are the mode under a Gaussian prior, so that a model which won every time has a finite one. Its interval
comes from a bootstrap over prompts: what all raters say of one prompt stands or falls together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy

from engine.counting import Labels, Numbers, tabulate
from engine.statistics import FEW_LABELS, LEAST_ITEMS, LEVEL, Figure, clustered_rate, resampled

PRIOR = 0.1  # precision of the prior: a deviation of 3.2 in log-odds, next to nothing once a model has ten comparisons
CLOSE, MOST_STEPS = 1e-6, 1000  # a step this short leaves an error of its square


@dataclass(frozen=True)
class Wins:
    """`matrices` (prompts, models, models): at [p, i, j] how often model i was put above model j on prompt p."""

    models: tuple[str, ...]
    prompts: tuple[int, ...]
    matrices: Numbers

    @property
    def total(self) -> Numbers:
        """(models, models), over all prompts."""
        return self.matrices.sum(0)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Strength:
    """A model's centred log-strength, the share of its comparisons that it won, ties being half, and how far the strongest is ahead."""

    model: str
    strength: Figure
    win_rate: Figure
    behind: Figure


def win_matrix(labels: Labels, models: Mapping[int, Mapping[str, str]], prompts: Mapping[int, int] | None = None) -> Wins:
    """Count wins from rankings, given the model behind each answer of an item, and an item's prompt where items share one.

    Repeated items, answers of unnamed models and two answers of one model are left out.
    """
    table, prompt_of = tabulate(labels), prompts or {}
    names = sorted({name for keys in models.values() for name in keys.values()})
    place, size, wide = {name: i for i, name in enumerate(names)}, len(names), table.ranks.shape[1]
    by = numpy.full((len(table.items), wide), -1)
    for row, item, keys in zip(by, table.items, table.keys, strict=True):
        known = models.get(item, {})
        row[: len(keys)] = [place.get(known.get(key, ""), -1) for key in keys]
    ids, index = numpy.unique(numpy.array([prompt_of.get(item, item) for item in table.items], int), return_inverse=True)
    model, prompt, ranks = by[table.item], index[table.item], table.ranks
    matrices = numpy.zeros(len(ids) * size * size)
    for i, j in combinations(range(wide), 2):
        told = (model[:, i] >= 0) & (model[:, j] >= 0) & (model[:, i] != model[:, j]) & (ranks[:, i] >= 0) & (ranks[:, j] >= 0)
        one, other, at = model[told, i], model[told, j], prompt[told] * size
        won = (1 + numpy.sign(ranks[told, j] - ranks[told, i])) / 2
        matrices += numpy.bincount((at + one) * size + other, won, len(matrices))
        matrices += numpy.bincount((at + other) * size + one, 1 - won, len(matrices))
    return Wins(tuple(names), tuple(ids.tolist()), matrices.reshape(len(ids), size, size))


def cycles(wins: Numbers) -> list[tuple[int, ...]]:
    """Sets of three or more, by number, where most prefer one to the next all the way round: strong components of majority preference."""
    reach = wins > wins.T
    for middle in range(len(reach)):  # Warshall 1962
        reach = reach | numpy.outer(reach[:, middle], reach[middle])
    around = reach & reach.T
    return sorted({tuple(numpy.flatnonzero(row).tolist()) for row in around if row.any()})


def bradley_terry(wins: Numbers, prior: float = PRIOR) -> Numbers:
    """Centred log-strengths (..., models) of win counts (..., models, models): the mode under a Gaussian prior of this precision, above 0.

    Newton's method with steps of length log(1 + d) / d, where d is the most by which a difference of strengths would
    change; each lowers the loss wherever it starts, and near the mode they are whole (Sun and Tran-Dinh 2019, 1703.04599).
    """
    if prior <= 0:
        raise ValueError(f"a prior has a precision above 0, not {prior}")
    wins = numpy.asarray(wins, float) * (1 - numpy.eye(wins.shape[-1]))
    strengths = numpy.zeros(wins.shape[:-1])
    for _ in range(MOST_STEPS):
        slope, curvature = _derivatives(wins, strengths, prior)
        step = numpy.linalg.solve(curvature, slope[..., None])[..., 0]
        longest = numpy.ptp(step, axis=-1, keepdims=True)
        strengths = strengths + step * numpy.where(longest > CLOSE, numpy.log1p(longest) / numpy.maximum(longest, CLOSE), 1)
        if longest.max(initial=0) <= CLOSE:
            return strengths - strengths.mean(-1, keepdims=True)  # type: ignore[no-any-return]
    raise ArithmeticError(f"strengths still changed after {MOST_STEPS} steps")


def strengths(wins: Wins, seed: int = 0) -> list[Strength]:
    """Each model's strength and win rate, the strongest first; without a value where it was compared on fewer than 10 prompts.

    The interval is the bootstrap's over prompts, but never narrower than the mode's own curvature allows: resamples of a
    model that won every time all say the same.
    """
    size, total = len(wins.models), wins.total
    if not wins.prompts:
        return [Strength(name, none := Figure(None, 0, 0, why=FEW_LABELS), none, none) for name in wins.models]
    mode = bradley_terry(total)
    drawn = bradley_terry(resampled(wins.matrices.reshape(-1, size * size), seed).reshape(-1, size, size))
    inverse = numpy.linalg.inv(_derivatives(total, mode, PRIOR)[1])
    z = NormalDist().inv_cdf(1 - LEVEL / 2)

    def figure(value: Numbers, draws: Numbers, variance: Numbers, rate: Figure) -> Figure:
        if rate.n_items < LEAST_ITEMS:
            return Figure(None, rate.n, rate.n_items, why=FEW_LABELS)
        low, high = numpy.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
        reach = z * numpy.sqrt(variance)
        return Figure(float(value), rate.n, rate.n_items, (float(min(low, value - reach)), float(max(high, value + reach))))

    rates = [
        clustered_rate(wins.matrices[:, i].sum(1), wins.matrices[:, i].sum(1) + wins.matrices[:, :, i].sum(1)) for i in range(size)
    ]
    top = max(range(size), key=lambda i: (rates[i].n_items >= LEAST_ITEMS, mode[i]))
    told = []
    for i, (name, rate) in enumerate(zip(wins.models, rates, strict=True)):
        own = figure(mode[i], drawn[:, i], inverse[i, i] - 1 / (PRIOR * size), rate)  # strengths are centred
        apart = inverse[top, top] + inverse[i, i] - 2 * inverse[top, i]
        told.append(Strength(name, own, rate, figure(mode[top] - mode[i], drawn[:, top] - drawn[:, i], apart, rate)))
    return sorted(told, key=lambda one: (one.strength.value is None, -(one.strength.value or 0), one.model))


def _derivatives(wins: Numbers, at: Numbers, prior: float) -> tuple[Numbers, Numbers]:
    """Slope (..., models) and negative curvature (..., models, models) of the log-posterior."""
    chance = 1 / (1 + numpy.exp(at[..., None, :] - at[..., :, None]))
    played = wins + numpy.swapaxes(wins, -1, -2)
    weight = played * chance * (1 - chance)
    slope = (wins - played * chance).sum(-1) - prior * at
    eye = numpy.eye(wins.shape[-1])
    return slope, (weight.sum(-1) + prior)[..., None] * eye - weight
