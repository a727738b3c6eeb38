"""Best by your trade-off: the checkpoint that learned most of its task without a loss, or lost least.

A guarded ability stands in the way of a checkpoint when it is forgot there, or when its estimate fell by more than the
margin. Of the checkpoints where none does, the one with the highest score of the new task is best; where there is no
such checkpoint, the one whose largest fall is the smallest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.statistics import verdicts

Items = Mapping[str, float | None]  # an ability's items: 1 for right, None for an answer that could not be read


@dataclass(frozen=True)
class Best:
    """The step chosen, whether nothing stood in its way, its score of the task, and the largest fall of an ability there."""

    step: int
    lossless: bool
    score: float
    fall: float
    ability: str  # the one that fell most; "" if none did


def best(start: Mapping[str, Items], points: Mapping[int, Mapping[str, Items]], scores: Mapping[int, float], margin: float) -> Best | None:
    """The best of the `points` that have a score of the task, higher being better; None without any."""
    found = [_judged(start, points[step], step, scores[step], margin) for step in sorted(points) if step in scores]
    free = [one for one in found if one.lossless]
    if free:
        return max(free, key=lambda one: one.score)
    return min(found, key=lambda one: (one.fall, -one.score), default=None)


def paired(before: Items, after: Items) -> list[tuple[bool, bool]]:
    """Right before, right after, of the items measured on both sides."""
    return [(before[key] == 1, after[key] == 1) for key in before if key in after]


def _judged(start: Mapping[str, Items], now: Mapping[str, Items], step: int, score: float, margin: float) -> Best:
    told = verdicts({name: pairs for name in start if (pairs := paired(start[name], now.get(name, {})))}, margin)
    worst = max(told, key=lambda one: one.before - one.after, default=None)
    fall = max(0.0, worst.before - worst.after) if worst else 0.0
    lossless = fall <= margin and not any(one.verdict == "forgot" for one in told)
    return Best(step, lossless, score, fall, worst.ability if worst and fall else "")
