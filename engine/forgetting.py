"""What a chain of models kept and forgot, read from their scores.

A chain is a model with the models it was made from, the base first. Only scores of one probe with one suite hash share an
axis: what was measured with other items is said to be, and is never drawn beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from engine.catalogue import is_rate, probes
from engine.statistics import Verdict, floor_notes, verdicts, wilson
from engine.tradeoff import paired
from storage import listings, scores
from storage.tables import Artifact

Axis = tuple[str, str]  # probe, suite hash


@dataclass(frozen=True)
class Point:
    """A probe's rate of right answers (or mean loss) on a model at a step."""

    step: int
    n: int
    right: int
    unreadable: int
    mean: float

    @property
    def rate(self) -> float:
        """The share of right answers; what could not be read is not right."""
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of the rate."""
        return wilson(self.right, self.n)


@dataclass(frozen=True)
class Measured:
    """A model of a chain with all that was measured of it, by axis in the order of the steps. `last` is its own last step."""

    model: int
    name: str
    last: int
    points: Mapping[Axis, list[Point]]
    told: Mapping[Axis, Mapping[str, Any]]  # what whoever measured said of an axis: whether it is a rate, and its floor

    def is_rate(self, axis: Axis) -> bool:
        """Whether it says right or wrong."""
        return bool(self.told[axis]["rate"]) if axis in self.told else is_rate(axis[0])

    def floor(self, axis: Axis) -> float | None:
        """The rate of guessing, where it is known."""
        if axis in self.told:
            told: float | None = self.told[axis].get("floor")
            return told
        known = probes().get(axis[0])
        return known.floor if known else None

    def end(self, axis: Axis) -> Point | None:
        """What is known of the finished model."""
        return next((point for point in reversed(self.points.get(axis, [])) if point.step == self.last), None)


@dataclass(frozen=True)
class Judgement:
    """Verdicts of a model against its base with the axis of each, what cannot be judged, as sentences, and what was compared:
    the model that stands for the base, and the steps of both."""

    verdicts: list[tuple[Axis, Verdict]]
    apart: list[str]
    before: int
    steps: tuple[int, int]


def chain(session: Session, model: int) -> list[Measured]:
    """A model and what it was made from, the base first; those nobody measured are left out, but for the two ends."""
    ids = [*reversed(listings.ancestors(session, model)), model]
    found = [measured(session, id) for id in ids]
    return [one for place, one in enumerate(found) if one.points or place in (0, len(found) - 1)]


def measured(session: Session, model: int) -> Measured:
    """All that was measured of a model."""
    row = session.get_one(Artifact, model)
    points: dict[Axis, list[Point]] = {}
    for probe, suite_hash, step, right, n, unreadable, mean in scores.summary(session, model):
        points.setdefault((probe, suite_hash), []).append(Point(step, n, right, unreadable, mean))
    reached = max((point.step for some in points.values() for point in some), default=0)  # of a run that did not finish, or not yet
    last = int(row.summary.get("step") or row.summary.get("steps") or reached)
    return Measured(model, row.name, last, points, scores.described(session, model))


def title(probe: str) -> str:
    """What people call a probe."""
    known = probes().get(probe)
    return known.title if known else probe.replace("_", " ")


def shared(before: Measured, after: Measured) -> dict[str, Axis]:
    """The axis on which each probe is known of both finished models, the one with most items where there are several."""
    best: dict[str, tuple[int, Axis]] = {}
    for axis in before.points:
        left, right = before.end(axis), after.end(axis)
        if left and right and (axis[0] not in best or left.n > best[axis[0]][0]):
            best[axis[0]] = (left.n, axis)
    return {probe: axis for probe, (_, axis) in best.items()}


def judge(session: Session, before: Measured, after: Measured, margin: float = 0.05) -> Judgement:
    """What a model learned, forgot and kept against another, by paired items, over all that both were measured alike on.

    A model that was only watched while it trained is compared with itself before its first step."""
    rates, apart = _rates(before, after), _apart(before, after)
    if not rates or before.model == after.model:
        if before.model != after.model:
            alone = f"{before.name} was not measured like {after.name}: what follows compares {after.name} with itself before its training."
            apart.append(alone)
        before = replace(after, last=0)
        rates = _rates(before, after) if after.last else {}
    steps = (before.last, after.last)
    pairs = {}
    for probe, axis in rates.items():
        left, right = (scores.values(session, one.model, step, axis[1]) for one, step in zip((before, after), steps, strict=True))
        pairs[probe] = paired(left, right)
    floors = {probe: after.floor(rates[probe]) for probe in pairs}
    told = [(rates[one.ability], replace(one, ability=title(one.ability))) for one in verdicts(pairs, margin, floors)]
    return Judgement(told, [*floor_notes([one for _, one in told]), *apart], before.model, steps)


def _rates(before: Measured, after: Measured) -> dict[str, Axis]:
    return {probe: axis for probe, axis in shared(before, after).items() if before.is_rate(axis) and after.is_rate(axis)}


def _apart(before: Measured, after: Measured) -> list[str]:
    """Probes that both models know, but with different items."""
    left, right = ({axis[0] for axis in one.points if one.end(axis)} for one in (before, after))
    alike = set(shared(before, after))
    return [f"{title(probe)} was measured with different items on {before.name} and {after.name}: never on one axis."
            for probe in sorted((left & right) - alike)]  # fmt: skip


def at_score(learned: Sequence[float], kept: Sequence[float], score: float) -> float | None:
    """What is kept where a run first reaches a score of the new task, between its checkpoints linearly; None where it never does."""
    for place, reached in enumerate(learned):
        if reached >= score:
            if place == 0 or reached == learned[place - 1]:
                return kept[place]
            share = (score - learned[place - 1]) / (reached - learned[place - 1])
            return kept[place - 1] + share * (kept[place] - kept[place - 1])
    return None


def at_equal_score(runs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> tuple[float, dict[str, float | None]]:
    """The highest score of the new task that all runs which learned reach, and what each kept there; None: it did not learn.

    A run whose new task never rises above where it began did not learn."""
    learners = {name: learned for name, (learned, _) in runs.items() if learned and max(learned) > learned[0]}
    score = min((max(learned) for learned in learners.values()), default=0.0)
    return score, {name: at_score(learned, kept, score) if name in learners else None for name, (learned, kept) in runs.items()}


def curves(models: Sequence[Measured]) -> tuple[dict[Axis, list[tuple[int, Point]]], list[tuple[int, str]], list[str]]:
    """What was watched along a chain, on one axis of steps: each stage goes on where the one before it ended.

    Returns (step, point) by axis, of rates that have two points or more; where each stage begins, with its name; and, as
    sentences, which probes earlier stages were watched on with other items than the newest: those are not drawn."""
    watched = [(one, {axis: points for axis, points in one.points.items() if one.is_rate(axis) and len(points) > 1})
               for one in models[1:] or models]  # fmt: skip
    watched = [(one, points) for one, points in watched if points]
    newest = {probe: suite_hash for _, points in watched for probe, suite_hash in points}
    told: dict[Axis, list[tuple[int, Point]]] = {}
    begins, apart, offset = list[tuple[int, str]](), list[str](), 0
    for one, lines in watched:
        begins.append((offset, one.name))
        for (probe, suite_hash), points in lines.items():
            if newest[probe] == suite_hash:
                told.setdefault((probe, suite_hash), []).extend((offset + point.step, point) for point in points)
            else:
                apart.append(f"{title(probe)} was watched with other items while {one.name} was trained: not drawn.")
        offset += one.last
    return told, begins, apart
