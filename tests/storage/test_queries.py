"""Cursors that miss nothing and use their index; names, lineage and the one way to a final state."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlmodel import Session

from storage import curves, queries
from storage.queries import Made, utc_now
from storage.tables import Artifact, Event, Metric, Response, Run, Score


def artifact_of(session, run):
    return queries.outputs_of(session, run)["out"]


def finish(database, run, status="succeeded", **made):
    with Session(database) as session:
        queries.begin(session, run, 1, "now", "cpu", utc_now())
        assert queries.settle(session, run, status, utc_now(), None if status == "succeeded" else "why", made)
        session.commit()


def test_a_cursor_reads_every_row_once_in_order(database, add_run):
    run, other, seen, cursor = add_run(), add_run(), [], 0
    with Session(database) as session:
        for n in range(25):
            queries.say(session, run, f"line {n}", utc_now())
            queries.say(session, other, "another run's", utc_now())
            session.flush()
            if n % 4 == 0:
                while rows := queries.rows_after(session, Event, run, cursor, limit=3):
                    seen, cursor = seen + [row.message for row in rows], rows[-1].id
        seen += [row.message for row in queries.rows_after(session, Event, run, cursor)]
    assert seen == [f"line {n}" for n in range(25)]


def test_what_is_said_may_carry_any_word(database, add_run):
    with Session(database) as session:
        queries.say(session, add_run(), "loaded", utc_now(), "info", run=3, level=2, message="m", now=1)
        session.flush()
        assert queries.rows_after(session, Event, 1, 0)[0].data == {"run": 3, "level": 2, "message": "m", "now": 1}


@pytest.mark.parametrize("table", [Event, Metric, Response, Score])
def test_a_tick_costs_only_what_is_new(database, table):
    """Its plan goes straight to (run, id): no scan, no sort."""
    if database.dialect.name != "sqlite":
        pytest.skip("SQLite's words for a plan")
    for read in (lambda s: queries.rows_after(s, table, 1, 7), lambda s: curves.after(s, 1, 7)):
        plan = " ".join(plan_of(database, read))
        assert re.search(r"_run_id \(run=\? AND (row)?id>\?\)", plan)
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


def plan_of(database, read):
    asked = []
    event.listen(database, "before_cursor_execute", lambda c, cursor, statement, parameters, *rest: asked.append((statement, parameters)))
    with Session(database) as session:
        read(session)
    statement, parameters = asked[0]
    with database.connect() as connection:
        return [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]


def test_reading_a_long_curve_and_its_names_does_not_scan(database):
    if database.dialect.name != "sqlite":
        pytest.skip("SQLite's words for a plan")
    assert "SCAN" not in " ".join(plan_of(database, lambda s: curves._names(s, 1)))
    assert "SCAN" not in " ".join(plan_of(database, lambda s: s.exec(curves._raw(1, "loss", 5)).all()))


def test_a_run_succeeds_with_its_outputs_in_one_step(database, add_run):
    run = add_run()
    finish(database, run, out=Made({"rows": 3}, 5 * 10**9))
    with Session(database) as session:
        row, artifact = session.get_one(Run, run), artifact_of(session, run)
        assert (row.status, row.pid, row.device, row.ended_at is not None) == ("succeeded", None, None, True)
        assert (artifact.ready_at is not None, artifact.summary, artifact.size) == (True, {"rows": 3}, 5 * 10**9)
        assert not queries.settle(session, run, "failed", utc_now(), "too late")
        assert not queries.queue_again(session, run, utc_now())


def test_only_a_running_run_can_succeed(database, add_run):
    run = add_run()
    with Session(database) as session:
        with pytest.raises(ValueError, match="only a running run"):
            queries.settle(session, run, "succeeded", utc_now())
        with pytest.raises(ValueError, match="not a final state"):
            queries.settle(session, run, "running", utc_now())


def test_a_run_is_begun_once(database, add_run):
    run = add_run()
    with Session(database) as session:
        assert queries.begin(session, run, 10, "a", "cpu", utc_now())
        assert not queries.begin(session, run, 11, "b", "cpu", utc_now())
        assert session.get_one(Run, run).pid == 10
        assert not queries.begin(session, 999, 11, "b", "cpu", utc_now())


def test_what_waits_for_a_failed_run_is_skipped_and_comes_back_with_it(database, add_run):
    first = add_run()
    with Session(database) as session:
        second = add_run(artifact_of(session, first).id)
        third = add_run(artifact_of(session, second).id)
        apart = add_run()
    finish(database, first, "failed")
    with Session(database) as session:
        assert [session.get_one(Run, r).status for r in (first, second, third, apart)] == ["failed", "skipped", "skipped", "queued"]
        assert f"run {first} (count) failed" in session.get_one(Run, second).error
        assert not queries.queue_again(session, second, utc_now()), "its input can never come"
        assert queries.queue_again(session, first, utc_now())
        assert [session.get_one(Run, r).status for r in (first, second, third)] == ["queued"] * 3
        assert session.get_one(Run, third).error is None
        assert [r.id for r in queries.ready_to_start(session)] == [first, apart]


def test_a_run_whose_input_was_deleted_cannot_be_resumed(database, add_run):
    first = add_run()
    finish(database, first)
    with Session(database) as session:
        data = artifact_of(session, first)
        second = add_run(data.id)
    finish(database, second, "failed")
    with Session(database) as session:
        session.get_one(Artifact, data.id).deleted_at = utc_now()
        assert not queries.queue_again(session, second, utc_now())


def test_an_output_that_was_deleted_before_it_was_made_is_there_once_made(database, add_run):
    run = add_run()
    finish(database, run, "failed")
    with Session(database) as session:
        artifact_of(session, run).deleted_at = utc_now()
        assert queries.queue_again(session, run, utc_now())
        session.commit()
    finish(database, run)
    with Session(database) as session:
        assert [a.name for a in queries.artifacts(session)] == [f"out of {run}"]


def test_names_lead_to_the_newest_that_exists_or_will(database, add_run):
    lost, made, coming = add_run(), add_run(), add_run()
    finish(database, lost, "failed")
    finish(database, made)
    with Session(database) as session:
        for run in (lost, made, coming):
            artifact_of(session, run).name = "data"
        session.flush()
        assert [a.made_by for a in queries.artifacts_named(session, "data")] == [coming, made]
        artifact_of(session, made).deleted_at = utc_now()
        session.flush()
        assert [a.made_by for a in queries.artifacts_named(session, "data")] == [coming]


def test_lineage_reads_both_ways(database, add_run):
    first = add_run()
    finish(database, first)
    with Session(database) as session:
        data = artifact_of(session, first)
        second = add_run(data.id, data.id)
    finish(database, second)
    with Session(database) as session:
        assert [r.id for r in queries.users_of(session, data.id)] == [second], "once, though it is used twice"
        assert [a.made_by for a in queries.made_from(session, data.id)] == [second]
        assert [(field, a.id) for field, a in queries.consumed_by(session, second)] == [("parts.0", data.id), ("parts.1", data.id)]


def test_runs_are_listed_and_counted(database, add_run):
    finish(database, add_run(), "failed")
    add_run(stage="join")
    with Session(database) as session:
        assert [r.id for r in queries.runs(session)] == [2, 1]
        assert [r.id for r in queries.runs(session, status="failed")] == [1]
        assert [r.id for r in queries.runs(session, stage="join")] == [2]
        assert queries.count_by_status(session) == {"failed": 1, "queued": 1}


def test_a_spare_is_wanted_anew(database):
    with Session(database) as session:
        assert queries.spare_wanted(session) is None
        now = utc_now()
        for minutes in (0, 3):
            queries.want_spare(session, now + timedelta(minutes=minutes))
            session.flush()
        assert queries.spare_wanted(session) == now + timedelta(minutes=3)
