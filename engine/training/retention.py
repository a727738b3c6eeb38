"""What a training run forgets, measured while it trains, without disturbing it.

A suite of few items is put to the model before the first step and at points on the way: random states, modes and
caches are kept, so that the losses are those of a run that was not watched. `auto` points follow the checkpoints as
densely as a tenth of the run's time allows, from the measured cost of the first pass; the middle and the end are always
among them.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.chat import Chat
from engine.contamination import contaminated
from engine.probe import Part, Suite
from engine.settings import RetentionSettings
from engine.stage import Input
from engine.suites import QUICK, suite
from engine.tradeoff import Best, best
from engine.training.answers import as_finished, undisturbed
from engine.training.measuring import Measured, measure, measurements
from engine.training.predictors import Predictors
from engine.training.rows import read_rows
from engine.work import Work

SHARE = 0.1  # of the training time that measuring may take
WARM = 3  # steps after which the speed of training is known
BATCH = 32


class Watch:
    """Measures `suite` on the model that a run trains; `task` are the parts that say how well it learns its own task.
    `language` finds the language model in what is trained, where that is something else."""

    def __init__(
        self,
        work: Work,
        chat: Chat,
        artifact: int,
        suite: Suite,
        task: Sequence[Part],
        settings: RetentionSettings,
        dtype: torch.dtype,
        predictors: Predictors | None = None,
        language: Callable[[Any], Any] = lambda model: model,
    ) -> None:
        self.work, self.chat, self.artifact, self.settings, self.dtype = work, chat, artifact, settings, dtype
        self.predictors, self.language = predictors, language
        self.suite, self.task = [*task, *suite], list(task)
        self.spent = 0.0  # seconds of all training steps but the first
        self.steps = self.total = 0
        self.checkpoints: set[int] = set()
        self.file = work.folder / "watched.json"
        told = json.loads(self.file.read_text()) if self.file.exists() else {"points": [], "seen": [], "cost": 0.0}
        self.cost = float(told["cost"])  # seconds of the longest pass
        self.points, self.seen = set[int](told["points"]), set[int](told["seen"])

    def begin(self, model: Any, step: int, total: int, checkpoints: set[int]) -> None:
        """Look at the model before its first step; a resumed run keeps the points it had."""
        self.total, self.checkpoints = total, checkpoints
        if step == 0:
            if 0 not in self.seen:
                self.look(model, 0)
            if self.predictors:
                with undisturbed(model):
                    self.work.metrics(0, **self.predictors.begin(self.language(model)))
        if not self.points and self.settings.every:
            points = set(range(self.settings.every, total, self.settings.every))
            self._choose(points | {middle(checkpoints, total), total})

    def after_step(self, model: Any, step: int, seconds: float) -> None:
        """Note how long a step took, and look where it is time to."""
        self.steps, self.spent = self.steps + 1, self.spent + (seconds if self.steps else 0)
        if not self.points and self.steps > min(WARM, self.total // 4):
            each = self.spent / (self.steps - 1) if self.steps > 1 else seconds
            affordable = int(SHARE * each * self.total / self.cost) - 1 if self.cost else len(self.checkpoints)
            self._choose(spread(self.checkpoints, self.total, affordable))
        if step in self.points:
            self.look(model, step)
        if step == self.total and self.predictors and not self.work.stopping:
            with undisturbed(model):
                self.work.metrics(step, **self.predictors.end(self.language(model)))

    def look(self, model: Any, step: int) -> None:
        """Measure what is not measured at this step, and store it."""
        began = time.perf_counter()
        known = {part.hash: self._values(part, step) for part in self.suite}
        found: list[Measured] = []
        with as_finished(model, self.dtype):
            measured = measure(
                self.language(model), self.chat, self.suite, BATCH,
                known=lambda part: known[part.hash], interrupted=lambda: self.work.stopping,
            )  # fmt: skip
            for some in measured:
                self.work.measured(measurements(self.chat, self.artifact, step, some))
                found += some
        seconds = time.perf_counter() - began
        self.cost = max(self.cost, seconds)  # a pass that finds most of it measured says nothing of the cost of a whole one
        if not self.work.stopping:
            self.work.metrics(step, **rates(found), retention_seconds=seconds)
            self.seen.add(step)
            self._note()

    def task_score(self, model: Any) -> float:
        """How well the model does its task before its first step: the share of held-out answers that are right."""
        if not self.seen:
            self.look(model, 0)
        return self._score(0)

    def best(self) -> Best | None:
        """The best by the trade-off of the checkpoints looked at so far; None where nothing says how well the task is learned."""
        if not self.task:
            return None
        guarded = [part for part in self.suite if part.probe.rate and part not in self.task]
        steps = {step for step in self.seen & self.checkpoints if step}
        at = {step: {part.probe.title: self._values(part, step) for part in guarded} for step in {0, *steps}}
        return best(at.pop(0), at, {step: self._score(step) for step in steps}, self.settings.margin)

    def conclusion(self) -> dict[str, Any]:
        """Say which checkpoint is the best by the trade-off, and what the artifact's row shall say of it."""
        found = self.best()
        if found is None:
            return {}
        left = f"{found.ability} fell by {found.fall:.0%} there" if found.ability else "nothing guarded fell there"
        why = "the most of the task without a loss" if found.lossless else "no checkpoint is without a loss; this one lost least"
        self.work.say(f"Best by your trade-off: step {found.step} ({why}; {left}; 32 items a probe cannot show that something is kept)")
        return {"best_by_tradeoff": vars(found)}

    def _score(self, step: int) -> float:
        """How well the task is learned: the share of right answers where a scorer tells, else the negative loss."""
        part = self.task[-1]
        values = list(self._values(part, step).values())
        if part.probe.rate:
            return sum(value == 1 for value in values) / max(len(values), 1)  # an answer that cannot be read is not right
        losses = [value for value in values if value is not None]
        return -sum(losses) / len(losses) if losses else float("-inf")

    def _values(self, part: Part, step: int) -> dict[str, float | None]:
        return self.work.values(self.artifact, step, part.hash)

    def _choose(self, points: set[int]) -> None:
        self.points = points
        self._note()

    def _note(self) -> None:
        self.file.write_text(json.dumps({"points": sorted(self.points), "seen": sorted(self.seen), "cost": self.cost}))


def watch(
    work: Work,
    chat: Chat,
    data: Input,
    task: Callable[[], Suite],
    settings: RetentionSettings,
    dtype: torch.dtype,
    predictors: Predictors | None = None,
    language: Callable[[Any], Any] = lambda model: model,
) -> Watch | None:
    """What the settings ask for, with `task` beside it; None where nothing is watched or said."""
    if settings.suite == "off" or not work.leads:
        return None
    chosen = suite("watch", settings.probes or QUICK, settings.seed)
    for title, count in contaminated(chosen, read_rows(data.folder, "train")).items():
        work.warn(f"{count} items of the probe {title} stand in the training rows: what it says of this model is no proof")
    return Watch(work, chat, work.output_id("model"), chosen, task(), settings, dtype, predictors, language)


def middle(checkpoints: set[int], total: int) -> int:
    """The checkpoint nearest to the middle of the run."""
    return min(checkpoints, key=lambda step: (abs(step - total / 2), step))


def spread(checkpoints: set[int], total: int, count: int) -> set[int]:
    """`count` steps at most, but the middle checkpoint and the end always: some of the checkpoints evenly chosen, or all of them
    and steps evenly between them."""
    always, steps = {middle(checkpoints, total), total}, sorted(checkpoints | {total})
    if count >= len(steps):
        parts, gaps = count // len(steps), zip([0, *steps], steps, strict=False)
        return {max(1, round(begin + (end - begin) * part / parts)) for begin, end in gaps for part in range(1, parts + 1)}
    others, more = [step for step in steps if step not in always], max(0, count - len(always))
    return always | {others[(2 * part + 1) * len(others) // (2 * more)] for part in range(more)}


def rates(found: Sequence[Measured]) -> dict[str, float]:
    """Each probe's rate of right answers or mean loss, as a metric under its own name."""
    values: dict[str, list[float]] = {}
    for one in found:
        right = one.value if not one.part.probe.rate else float(one.value == 1)
        values.setdefault(f"ability/{one.part.probe.name}", []).append(right or 0.0)
    return {name: sum(some) / len(some) for name, some in values.items()}
