"""Metric rows in, curves out, in time that does not grow with the run.

Every 64 rows of one name are summed up once, when they are written, in a `Rollup`: where the lowest and the highest
value stood. It ends earlier where a resume goes back and where numbers turn to not-a-numbers, so that neither is lost.
A long curve is drawn from rollups and the few rows after them; a live tick reads only rows newer than its cursor.
After a resume the steps go back: the newer rows win, here and in the browser.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert
from sqlmodel import Session, col, select

from storage.tables import Metric, Rollup

WIDTH = 64
Point = tuple[int, float | None]


@dataclass(frozen=True)
class Curves:
    """Points (step, value; None where it was not a number) by metric name, and the last row's id they include."""

    series: dict[str, list[Point]]
    cursor: int


class Recorder:
    """Writes one run's metrics and keeps its rollups. One process writes a run, so the open buckets live here."""

    def __init__(self, session: Session, run: int) -> None:
        self.run = run
        self.open: dict[str, list[tuple[int, int, float | None]]] = {}  # name -> (id, step, value) since the last rollup
        for name in _names(session, run):
            last = _last_rollup(session, run, name)
            rows = session.exec(_raw(run, name, last)).all()
            self.open[name] = [(id or 0, step, value) for id, step, value in rows]

    def record(self, session: Session, at: datetime, step: int, values: Mapping[str, float | None]) -> None:
        """Append one row per value; what is not a finite number is stored as null."""
        points = [(name, _finite(value)) for name, value in values.items()]
        if not points:
            return
        rows = [{"run": self.run, "at": at, "step": step, "name": name, "value": value} for name, value in points]
        ids = session.execute(insert(Metric).returning(col(Metric.id), sort_by_parameter_order=True), rows).scalars().all()
        for id, (name, value) in zip(ids, points, strict=True):
            bucket = self.open.setdefault(name, [])
            if bucket and (len(bucket) == WIDTH or step <= bucket[-1][1] or (value is None) != (bucket[-1][2] is None)):
                session.add(_rollup(self.run, name, bucket))
                bucket.clear()
            bucket.append((id or 0, step, value))


def read(session: Session, run: int, names: list[str] | None = None, points: int = 1000) -> Curves:
    """A run's curves with at most about `points` points each: every row when they are few, else lows and highs."""
    cursor = session.exec(select(func.max(Metric.id)).where(Metric.run == run)).one() or 0
    series = {}
    for name in names or _names(session, run):
        rollups = session.exec(select(Rollup).where(Rollup.run == run, Rollup.name == name).order_by(col(Rollup.last_metric))).all()
        if sum(r.count for r in rollups) + WIDTH <= points:
            rollups = []
        after = rollups[-1].last_metric if rollups else 0
        tail = newest_wins([(step, value) for _, step, value in session.exec(_raw(run, name, after))])
        if drawn := _summed_up(session, rollups, tail) + tail:
            series[name] = thin(drawn, points)
    return Curves(series, cursor)


def _summed_up(session: Session, rollups: Sequence[Rollup], tail: list[Point]) -> list[Point]:
    """The points that stand for rollups before `tail`. Where a resume went back into one, its rows are read again."""
    floor = tail[0][0] if tail else sys.maxsize
    pieces: list[list[Point]] = []
    for place in reversed(range(len(rollups))):
        rollup = rollups[place]
        if rollup.last_step < floor:
            pieces.append(_points(rollup))
        elif rollup.first_step < floor:
            start = rollups[place - 1].last_metric if place else 0
            rows = session.exec(_raw(rollup.run, rollup.name, start).where(col(Metric.id) <= rollup.last_metric))
            pieces.append([(step, value) for _, step, value in rows if step < floor])
        floor = min(floor, rollup.first_step)
    return [point for piece in reversed(pieces) for point in piece]


def after(session: Session, run: int, cursor: int, limit: int = 20000) -> Curves:
    """Every row after `cursor`: what a live tick adds to curves that are already drawn."""
    query = select(Metric.id, Metric.name, Metric.step, Metric.value).where(Metric.run == run, col(Metric.id) > cursor)
    series: dict[str, list[Point]] = {}
    for id, name, step, value in session.exec(query.order_by(col(Metric.id)).limit(limit)):
        series.setdefault(name, []).append((step, value))
        cursor = id or cursor
    return Curves(series, cursor)


def newest_wins(points: list[Point]) -> list[Point]:
    """Points in the order they were written, made increasing in step: a step written again replaces what followed it."""
    kept: list[Point] = []
    for point in points:
        while kept and kept[-1][0] >= point[0]:
            kept.pop()
        kept.append(point)
    return kept


def thin(points: list[Point], limit: int) -> list[Point]:
    """At most about `limit` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= limit:
        return points
    width = math.ceil(2 * len(points) / limit)
    return [p for start in range(0, len(points), width) for p in _extremes(points[start : start + width])]


def _extremes(points: list[Point]) -> list[Point]:
    missing = [p for p in points if p[1] is None]
    known = [p for p in points if p[1] is not None]
    if not known:
        return missing[:1]
    low, high = min(known, key=lambda p: p[1] or 0.0), max(known, key=lambda p: p[1] or 0.0)
    return sorted({low, high, *missing[:1]}, key=lambda p: p[0])


def _rollup(run: int, name: str, bucket: list[tuple[int, int, float | None]]) -> Rollup:
    extremes = _extremes([(step, value) for _, step, value in bucket])
    known = [p for p in extremes if p[1] is not None] or extremes
    low, high = min(known, key=lambda p: p[1] or 0.0), max(known, key=lambda p: p[1] or 0.0)
    return Rollup(
        run=run, name=name, count=len(bucket), first_step=bucket[0][1], last_step=bucket[-1][1], last_metric=bucket[-1][0],
        low_step=low[0], low=low[1], high_step=high[0], high=high[1],
    )  # fmt: skip


def _points(rollup: Rollup) -> list[Point]:
    return sorted({(rollup.low_step, rollup.low), (rollup.high_step, rollup.high)}, key=lambda p: p[0])


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _last_rollup(session: Session, run: int, name: str) -> int:
    return session.exec(select(func.max(Rollup.last_metric)).where(Rollup.run == run, Rollup.name == name)).one() or 0


def _raw(run: int, name: str, after: int):  # type: ignore[no-untyped-def]  # SQLModel's select has no name for this type
    query = select(Metric.id, Metric.step, Metric.value).where(Metric.run == run, Metric.name == name, col(Metric.id) > after)
    return query.order_by(col(Metric.id))


def _names(session: Session, run: int) -> list[str]:
    """A run's metric names by jumping through the index: a DISTINCT would read every row."""
    names: list[str] = []
    last = ""
    while found := session.exec(select(func.min(Metric.name)).where(Metric.run == run, Metric.name > last)).one():
        names.append(last := found)
    return names
