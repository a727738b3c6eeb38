"""Curves drawn from rollups show what the rows say: nothing lost, nothing that a resume has overwritten."""

import itertools
import math
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from storage import curves
from storage.curves import Recorder, newest_wins
from storage.queries import utc_now
from storage.tables import Metric, Rollup

relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.floats(width=32) | st.sampled_from([math.nan, math.inf, 0.0])
# A stretch of training: how many steps back it starts from where the last one ended, its values, and whether the
# process that recorded it was a new one.
stretches = st.lists(st.tuples(st.integers(0, 12), st.lists(values, min_size=1, max_size=20), st.booleans()), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def _short_buckets(monkeypatch):
    monkeypatch.setattr(curves, "WIDTH", 4)


def rows_of(stretches):
    """(step, value, whether a new process starts here) for each row."""
    step = 0
    for back, told, restarted in stretches:
        step = max(0, step - back)
        for place, value in enumerate(told):
            step += 1
            yield step, value, restarted and place == 0


def write(session, run, rows, restarts=True):
    recorder = Recorder(session, run)
    for step, value, restarted in rows:
        if restarts and restarted:
            recorder = Recorder(session, run)
        recorder.record(session, utc_now(), step, {"loss": value, "other": 1.0})
        session.flush()


def truth(rows):
    return newest_wins([(step, value if math.isfinite(value) else None) for step, value, _ in rows])


@relaxed
@given(stretches)
def test_at_full_resolution_every_row_is_drawn(database, add_run, stretches):
    rows, run = list(rows_of(stretches)), add_run()
    with Session(database) as session:
        write(session, run, rows)
        assert curves.read(session, run, points=sys.maxsize).series["loss"] == truth(rows)


@relaxed
@given(stretches, st.integers(3, 15))
def test_a_thinned_curve_keeps_every_extreme_and_shows_nothing_overwritten(database, add_run, stretches, points):
    rows, run = list(rows_of(stretches)), add_run()
    with Session(database) as session:
        write(session, run, rows)
        drawn = curves.read(session, run, points=points).series["loss"]
    full = truth(rows)
    assert set(drawn) <= set(full)
    assert [step for step, _ in drawn] == sorted({step for step, _ in drawn})
    known, all_known = ([v for _, v in line if v is not None] for line in (drawn, full))
    assert (None in dict(drawn).values()) == (None in dict(full).values()), "what is not a number stays visible"
    if all_known:
        assert (min(known), max(known)) == (min(all_known), max(all_known))
    assert len(drawn) <= 1.5 * points + 3


@relaxed
@given(stretches, st.integers(0, 60), st.integers(1, 9))
def test_a_cursor_misses_nothing(database, add_run, stretches, split, limit):
    rows, run = list(rows_of(stretches)), add_run()
    with Session(database) as session:
        write(session, run, rows[:split])
        told = curves.read(session, run, points=sys.maxsize)
        drawn, cursor = told.series.get("loss", []), told.cursor
        write(session, run, rows[split:])
        while True:
            told = curves.after(session, run, cursor, limit)
            if told.cursor == cursor:
                break
            drawn, cursor = drawn + told.series.get("loss", []), told.cursor
    assert newest_wins(drawn) == truth(rows)


@relaxed
@given(stretches)
def test_a_restarted_recorder_goes_on_with_the_open_bucket(database, add_run, stretches):
    rows, restarted, steady = list(rows_of(stretches)), add_run(), add_run()
    columns = (Rollup.count, Rollup.first_step, Rollup.last_step, Rollup.low_step, Rollup.low, Rollup.high_step, Rollup.high)
    with Session(database) as session:
        write(session, restarted, rows)
        write(session, steady, rows, restarts=False)
        one, other = (
            [tuple(r) for r in session.exec(select(*columns).where(Rollup.run == run, Rollup.name == "loss").order_by(Rollup.id))]
            for run in (restarted, steady)
        )
    assert one == other


def test_rollups_cover_the_rows_once_and_in_order(database, add_run):
    run = add_run()
    with Session(database) as session:
        write(session, run, [(step, float(step % 7), step % 13 == 0) for step in range(1, 100)])
        rollups = session.exec(select(Rollup).where(Rollup.name == "loss").order_by(Rollup.id)).all()
        assert [r.first_step for r in rollups] == list(range(1, 97, 4))
        ids = session.exec(select(Metric.id).where(Metric.name == "loss").order_by(Metric.id)).all()
        assert [r.last_metric for r in rollups] == ids[3:96:4]


def test_a_long_run_is_drawn_from_few_points(database, add_run, monkeypatch):
    monkeypatch.setattr(curves, "WIDTH", 64)
    run, spike = add_run(), {777: 99.0, 1500: -99.0, 2001: math.nan}
    with Session(database) as session:
        recorder = Recorder(session, run)
        for step in range(1, 3001):
            recorder.record(session, utc_now(), step, {"loss": spike.get(step, math.sin(step))})
        session.commit()
        drawn = dict(curves.read(session, run, points=100).series["loss"])
    assert len(drawn) <= 153
    assert drawn[777] == 99.0
    assert drawn[1500] == -99.0
    assert drawn[2001] is None


def test_names_are_found_and_chosen(database, add_run):
    run, other = add_run(), add_run()
    with Session(database) as session:
        recorder = Recorder(session, run)
        for step, name in itertools.product((1, 2), ("loss", "eval_loss", "点睛")):
            recorder.record(session, utc_now(), step, {name: 0.5})
        Recorder(session, other).record(session, utc_now(), 1, {"reward": 1.0})
        session.commit()
        assert set(curves.read(session, run).series) == {"loss", "eval_loss", "点睛"}
        assert curves.read(session, run, ["loss", "unknown"]).series == {"loss": [(1, 0.5), (2, 0.5)]}
        assert curves.read(session, add_run()).series == {}
