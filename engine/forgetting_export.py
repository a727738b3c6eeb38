"""What the Forgetting page shows, as the rows of a report: for the page, one HTML file and CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlmodel import Session

from engine.catalogue import probes
from engine.forgetting import Axis, Judgement, Measured, at_equal_score, curves, title
from engine.stages.measure import _report
from engine.statistics import Verdict, forgetting
from storage import scores

MARGIN = 0.05
PREDICTORS = _report.PREDICTORS


def sentence(judged: Judgement) -> str:
    """The verdicts in words."""
    return _report.sentence([one for _, one in judged.verdicts], MARGIN)


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as a row of a report."""
    return _report.verdict_row(verdict)


def matrix(chain: Sequence[Measured]) -> dict[str, Any] | None:
    """Stage by ability: rates of the finished models on the axes that all of them share; None for fewer than two."""
    axes = [axis for axis in chain[0].points if chain[0].is_rate(axis) and all(one.end(axis) for one in chain)]
    if len(chain) < 2 or not axes:
        return None
    rates = [[point.rate for axis in axes if (point := one.end(axis))] for one in chain]
    rows = []
    for place, one in enumerate(chain):
        falls = forgetting(rates[: place + 1])
        cells = []
        for column, axis in enumerate(axes):
            point = one.end(axis)
            assert point
            low, high = point.interval
            change = point.rate - rates[0][column] if place else None
            cells.append({"value": point.rate, "n": point.n, "low": low, "high": high, "change": change, "forgetting": falls[column]})
        rows.append({"stage": one.name, "model": one.model, "cells": cells})
    return {"arm": chain[-1].name, "abilities": [title(probe) for probe, _ in axes], "rows": rows}


def items(session: Session, after: Measured, judged: Judgement, axis: Axis) -> list[dict[str, Any]]:
    """Each item of a probe with both answers, those that changed first."""
    ends = ((judged.before, judged.steps[0]), (after.model, judged.steps[1]))
    left, right = (scores.judged(session, model, step, axis[1]) for model, step in ends)
    return _report.item_rows(title(axis[0]), [model for model, _ in ends], left, right)


def learned_against_kept(models: Mapping[str, Measured]) -> tuple[float, dict[str, float | None]]:
    """At the highest score of the new task that all reach, the mean of the abilities watched; see `at_equal_score`.

    The task is the first probe of a dataset with a scorer that all of them were watched on."""
    watched = [{axis for axis, points in one.points.items() if one.is_rate(axis) and len(points) > 1} for one in models.values()]
    common = set.intersection(*watched) if watched else set()
    tasks = sorted(axis for axis in common if axis[0] not in probes())
    kept = sorted(axis for axis in common if axis[0] in probes())
    if not tasks or not kept:
        return 0.0, {}
    told = {}
    for name, one in models.items():
        task, *abilities = ({point.step: point.rate for point in one.points[axis]} for axis in (tasks[0], *kept))
        steps = [step for step in task if all(step in line for line in abilities)]  # a stopped look measured some only
        told[name] = ([task[step] for step in steps], [sum(line[step] for line in abilities) / len(abilities) for step in steps])
    return at_equal_score(told)


def html(session: Session, chain: Sequence[Measured], before: Measured, after: Measured, judged: Judgement) -> str:
    """The page as one file that needs nothing else."""
    told, _, left_out = curves(chain)
    drawn = [
        {"arm": after.name, "ability": title(axis[0]), "points": [[step, point.rate, *point.interval] for step, point in line]}
        for axis, line in told.items()
    ]
    table = matrix(chain)
    return _report.page({
        "sentence": sentence(judged), "verdicts": [verdict_row(one) for _, one in judged.verdicts],
        "models": [{"id": one.model, "name": one.name} for one in (before, after)], "facts": [], "curves": drawn,
        "matrix": [table] if table else [], "notes": [*judged.apart, *left_out],
        "answers": [row for axis, _ in judged.verdicts for row in items(session, after, judged, axis)],
    })  # fmt: skip


def csv_rows(chain: Sequence[Measured]) -> Iterator[str]:
    """RFC 4180, one row for each probe of each model at each step."""
    yield _line(["model", "name", "probe", "suite_hash", "step", "n", "right", "unreadable", "rate", "low", "high", "mean"])
    for one in chain:
        for axis, points in one.points.items():
            for point in points:
                rate = [f"{point.rate:.6f}", *(f"{end:.6f}" for end in point.interval)] if one.is_rate(axis) else ["", "", ""]
                known = [one.model, one.name, *axis, point.step, point.n, point.right, point.unreadable]
                yield _line([*known, *rate, f"{point.mean:.6f}"])


def _line(cells: Sequence[object]) -> str:
    held = io.StringIO()
    csv.writer(held).writerow([f"'{cell}" if str(cell)[:1] in "=+-@\t\r" and isinstance(cell, str) and cell else cell for cell in cells])
    return held.getvalue()
