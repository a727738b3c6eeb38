"""The report of a recipe: what each stage of a training taught and what it cost, for one or more ways of training.

`models` are read in order, way by way: the models of one arm are the stages of one chain, the first its start. The
verdicts compare an arm's last model with the one before it: that last stage is what the recipe is about. Where arms
are the same but for their seed ("replay, seed 1"), a verdict about the method needs three seeds that agree.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from engine.errors import UserError
from engine.stage import AnsweringModel, Dataset, Input, Kind, Scores, Stage
from engine.stages.measure import _report
from engine.stages.measure.receipt import Judged, Parts, judged, losses_of, notes_of, parts_of, shared_parts, unreadable_of, values_of

if TYPE_CHECKING:
    from engine.statistics import Verdict
    from engine.work import Work

SEED = re.compile(r", seed \d+$")
SEEDS = 3  # that must agree before anything is said of a method


class ForgettingReport(Stage):
    """Say what each stage of a training taught and what it cost, with every item."""

    outputs = {"report": Kind.REPORT}
    heavy = False

    models: list[AnsweringModel] = Field(title="Models", description="The stages of each arm in order, arm after arm.", min_length=2)
    arms: list[str] = Field(title="Arms", description="The arm of each model, such as plain or replay.", min_length=2)
    stages: list[str] = Field(title="Stages", description="What each model is, such as start, taught or after.", min_length=2)
    scores: list[Scores] = Field(title="Scores", description="Where all of them were measured.", min_length=1)
    tasks: list[Dataset] = Field([], title="Tasks", description="What the stages after the start teach, in order, where they are tasks.")
    margin: float = Field(
        0.05, gt=0, le=0.5, title="Margin", description="Kept means: the net loss is smaller than this share, with 95 % confidence."
    )

    @model_validator(mode="after")
    def _lists_are_parallel(self) -> "ForgettingReport":
        if not len(self.models) == len(self.arms) == len(self.stages):
            given = f"models names {len(self.models)}, arms {len(self.arms)} and stages {len(self.stages)}"
            raise ValueError(f"{given}: give an arm and a stage for each model")
        if short := [arm for arm in self.arms if self.arms.count(arm) < 2]:
            raise ValueError(f"arms has {short[0]!r} once: an arm needs the model before and the model after")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Of what it is a report."""
        return f"Report of {inputs[self.models[-1]].name}"

    def run(self, work: "Work") -> None:
        """Pair the items, judge, draw, write report.json and report.html."""
        places = {arm: [place for place, one in enumerate(self.arms) if one == arm] for arm in dict.fromkeys(self.arms)}
        chains = {arm: self._chain(work, some) for arm, some in places.items()}
        missing = [stage.model.name for chain in chains.values() for stage in chain if not stage.parts]
        if missing:
            raise UserError("{names} were not measured: evaluate them with the same suite", field="scores", names=", ".join(missing))
        told = {arm: self._judged(chain) for arm, chain in chains.items()}
        first = next(iter(chains.values()))
        before, after = first[-2], first[-1]
        rates = {row["title"]: [before.items(name), after.items(name)] for name, row in _shared(before, after).items() if row["rate"]}
        losses = {
            row["title"]: (row.get("metric"), before.items(name), after.items(name))
            for name, row in _shared(before, after).items() if not row["rate"]
        }  # fmt: skip
        models = [before.model, after.model]
        ids = [model.id for model in models]
        report = {
            "sentence": self._sentence(told),
            "verdicts": [_report.verdict_row(one) | {"arm": arm} for arm, some in told.items() for one in some],
            "models": [{"id": model.id, "name": model.name} for model in models],
            "facts": [*losses_of(losses), *unreadable_of(rates), *_predictors(work, chains)],
            "matrix": [_matrix(arm, chain) for arm, chain in chains.items()],
            "transfer": [row for arm, chain in chains.items() if (row := self._transfer(work, arm, chain))],
            "curves": [curve for arm, chain in chains.items() for curve in _curves(work, arm, chain[-1])],
            "answers": [row for title, (left, right) in rates.items() for row in _report.item_rows(title, ids, left, right)],
            "notes": [*self._notes(told, first), *notes_of([*models, *work.inputs("scores")])],
        }
        folder = work.output("report")
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
        (folder / "report.html").write_text(_report.page(report))
        words = {f"{arm}: {one.ability}": one.verdict for arm, some in told.items() for one in some}
        work.describe("report", sentence=report["sentence"], models=[model.id for model in models], verdicts=words)
        work.say(report["sentence"])

    def _chain(self, work: "Work", places: Sequence[int]) -> "list[_Stage]":
        models = [work.artifact(self.models[place]) for place in places]
        parts = parts_of(work.inputs("scores"), [model.id for model in models])
        return [_Stage(work, model, self.stages[place], some) for model, place, some in zip(models, places, parts, strict=True)]

    def _judged(self, chain: "list[_Stage]") -> "list[Verdict]":
        from engine.statistics import verdicts
        from engine.tradeoff import paired

        before, after = chain[-2:]
        shared = _shared(before, after)
        pairs = {
            row["title"]: paired(values_of(before.items(name)), values_of(after.items(name))) for name, row in shared.items() if row["rate"]
        }  # fmt: skip
        floors = {row["title"]: row["floor"] for row in shared.values()}
        return verdicts({title: items for title, items in pairs.items() if items}, self.margin, floors)

    def _sentence(self, told: "Mapping[str, list[Verdict]]") -> str:
        """The first arm in full, then of each other method what differs: the abilities it forgot."""
        (_, first), *others = told.items()
        parts = [_report.sentence(first, self.margin)]
        for arm, some in others:
            if SEED.sub("", arm) == SEED.sub("", next(iter(told))):
                continue
            forgot = [_report.figures(one) for one in some if one.verdict == "forgot"]
            parts.append(f"{arm[:1].upper()}{arm[1:]}: {'forgot ' + ', '.join(forgot) if forgot else 'nothing is shown to be forgot'}.")
        return " ".join(parts)

    def _transfer(self, work: "Work", arm: str, chain: "list[_Stage]") -> list[str]:
        """Average score and backward transfer where the stages are themselves tasks."""
        from engine.statistics import backward_transfer

        titles = [f"{task.name}: " for task in work.inputs("tasks")]
        names = [name for title in titles for name, row in chain[0].parts.items() if name.startswith(title) and row["rate"]]
        alike = all(_alike(name, chain[0], stage) for stage in chain for name in names)
        if len(titles) != len(chain) - 1 or len(names) != len(titles) or not alike:
            return []
        rates = [[stage.rate(name) for name in names] for stage in chain]
        backward = f"{backward_transfer(rates):+.0%}" if len(names) > 1 else "not defined for one task"
        return [arm, f"{sum(rates[-1]) / len(names):.0%}", backward]

    def _notes(self, told: "Mapping[str, list[Verdict]]", first: "list[_Stage]") -> list[str]:
        from engine.statistics import floor_notes

        return [
            f"The verdicts compare {first[-1].title} with {first[-2].title}.",
            f"Kept means a net loss below {self.margin:.0%} with 95 % confidence; forgot and learned: exact McNemar, Holm, p < 0.05.",
            *_methods(told),
            *floor_notes(next(iter(told.values()))),
        ]


class _Stage:
    """A model of a chain with what was measured of it."""

    def __init__(self, work: "Work", model: Input, title: str, parts: Parts) -> None:
        self.model, self.title, self.parts, self._work = model, title, parts, work

    def items(self, name: str) -> Judged:
        """The items of a probe."""
        return judged(self._work, self.model, self.parts[name])

    def right(self, name: str) -> tuple[int, int]:
        """How many answers are right, and of how many."""
        values = [value for value, _ in self.items(name).values()]
        return sum(value == 1 for value in values), len(values)

    def rate(self, name: str) -> float:
        """The share of right answers."""
        right, n = self.right(name)
        return right / max(n, 1)


def _shared(before: _Stage, after: _Stage) -> Parts:
    return shared_parts(before.parts, after.parts)


def _methods(told: "Mapping[str, list[Verdict]]") -> list[str]:
    """What the seeds of each method agree on; with fewer than three, that they are too few to speak of the method."""
    methods: dict[str, list[list[Verdict]]] = {}
    for arm, some in told.items():
        methods.setdefault(SEED.sub("", arm), []).append(some)
    notes = []
    for method, seeds in methods.items():
        if len(seeds) < SEEDS:
            count = "One seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
            notes.append(f"{method}: {count}. A verdict about these models, not about the method, which needs {SEEDS} seeds that agree.")
            continue
        for ability in dict.fromkeys(one.ability for some in seeds for one in some):
            changes = [one.after - one.before for some in seeds for one in some if one.ability == ability]
            word = "falls" if max(changes) < 0 else "rises" if min(changes) > 0 else ""
            if word and len(changes) == len(seeds):
                notes.append(f"{method}: {ability} {word} in all {len(seeds)} seeds ({min(changes):+.0%} to {max(changes):+.0%}).")
    return notes


def _matrix(arm: str, chain: Sequence[_Stage]) -> dict[str, Any]:
    """Stage by ability: each rate with its interval, its change against the start and its fall from the best so far (Chaudhry)."""
    from engine.statistics import forgetting, wilson

    names = [name for name, row in chain[0].parts.items() if row["rate"] and all(_alike(name, chain[0], stage) for stage in chain)]
    counts = [[stage.right(name) for name in names] for stage in chain]
    rates = [[right / max(n, 1) for right, n in row] for row in counts]
    rows = []
    for place, stage in enumerate(chain):
        cells = []
        for column, fall in enumerate(forgetting(rates[: place + 1])):
            (right, n), rate = counts[place][column], rates[place][column]
            low, high = wilson(right, n)
            change = rate - rates[0][column] if place else None
            cells.append({"value": rate, "n": n, "low": low, "high": high, "change": change, "forgetting": fall})
        rows.append({"stage": stage.title, "model": stage.model.id, "cells": cells})
    return {"arm": arm, "abilities": [chain[0].parts[name]["title"] for name in names], "rows": rows}


def _alike(name: str, one: _Stage, other: _Stage) -> bool:
    return one.parts[name]["suite_hash"] == other.parts.get(name, {}).get("suite_hash")


def _curves(work: "Work", arm: str, stage: _Stage) -> list[dict[str, Any]]:
    """What was measured of an arm's last model while it learned: rates by step, each with its interval."""
    from engine.catalogue import is_rate, probes
    from engine.statistics import wilson

    known, found = probes(), dict[tuple[str, str], list[list[float]]]()
    for probe, suite_hash, step, right, n in work.watched(stage.model.id):
        if is_rate(probe):
            low, high = wilson(right, n)
            found.setdefault((probe, suite_hash), []).append([step, right / n, low, high])
    told = {probe: known[probe].title if probe in known else probe for probe, _ in found}
    return [{"arm": arm, "ability": told[probe], "points": points} for (probe, _), points in found.items() if len(points) > 1]


def _predictors(work: "Work", chains: Mapping[str, Sequence[_Stage]]) -> list[list[str]]:
    titles = _report.PREDICTORS
    told = {arm: work.last_metrics(chain[-1].model.id, list(titles)) for arm, chain in chains.items()}
    return [[f"{arm}: {titles[name]}", "", f"{value:.4g}"] for arm, some in told.items() for name, value in some.items()]
