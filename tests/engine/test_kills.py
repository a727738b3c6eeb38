"""kill -9 at random moments loses no run, no checkpoint and no reported metric; writers and readers do not lock each other out."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from sqlmodel import Session, select

from engine import dispatcher
from storage import curves, queries
from storage.tables import FINAL, Metric, Rollup, Run
from tests.engine.conftest import eventually

STEPS = 40


@pytest.mark.parametrize("rounds", [5, pytest.param(30, marks=pytest.mark.long)])
def test_kills_at_random_moments_lose_nothing(machine, rounds):
    """A child or the dispatcher dies; whoever dispatches next finds every row and the run goes on from its checkpoint."""
    moment = random.Random(rounds)
    submitted = machine.submit("chain", steps=STEPS, delay=0.02)
    first, second, _ = submitted.runs
    one = start(machine)
    for _ in range(rounds):
        time.sleep(moment.uniform(0.1, 1.0))
        reported, checkpoint = rows(machine, first), position(machine, first)
        if moment.random() < 0.5:
            one.kill()
            one.wait()
            one = start(machine)
        else:
            kill_a_child(machine)
        assert rows(machine, first)[: len(reported)] == reported, "what was reported stays"
        assert position(machine, first) >= checkpoint, "a finished checkpoint stays"
        resume_what_failed(machine)
    eventually(lambda: resume_what_failed(machine) or all(machine.row(run).status == "succeeded" for run in submitted.runs), 200)
    one.terminate()
    one.wait()
    for run, steps in ((first, STEPS), (second, STEPS + 1)):
        assert told(machine, run) == [(step, float(step)) for step in range(1, steps + 1)]
        assert_nothing_is_missing(rows(machine, run))
    assert machine.artifact(submitted.outputs["joined"]).summary["rows"] == 2 * STEPS + 1
    assert not list(machine.home.root.glob("artifacts/.*"))


def start(machine):
    with (machine.home.root / "dispatcher.txt").open("ab") as log:
        words = [sys.executable, "-P", "-m", "engine", "dispatch", "--no-spare", "--home", str(machine.home.root)]
        return subprocess.Popen(words, stdout=log, stderr=log)


def kill_a_child(machine):
    with Session(machine.database) as session:
        for run in queries.runs(session, "running"):
            try:
                os.killpg(run.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def resume_what_failed(machine):
    with Session(machine.database) as session:
        failed = [run.id for run in queries.runs(session, "failed")]
    for run in failed:
        assert "killed" in machine.row(run).error or "is gone" in machine.row(run).error, machine.row(run).error
        dispatcher.resume(machine.database, run)


def rows(machine, run):
    with Session(machine.database) as session:
        query = select(Metric.step, Metric.value).where(Metric.run == run, Metric.name == "value").order_by(Metric.id)
        return [tuple(row) for row in session.exec(query)]


def told(machine, run):
    with Session(machine.database) as session:
        return curves.read(session, run, ["value"], points=10**6).series["value"]


def position(machine, run):
    file = machine.home.run_folder(run) / "position.json"
    return json.loads(file.read_text()) if file.exists() else 0


def assert_nothing_is_missing(rows):
    """Each step follows the one before, or repeats it: the one whose checkpoint was not yet written."""
    steps = [step for step, _ in rows]
    assert all(after - before in (0, 1) for before, after in itertools.pairwise(steps))


def test_three_trainers_and_a_reader_never_find_the_database_locked(machine, monkeypatch):
    """Each in a process of its own, as fast as they can; none waits for another longer than SQLite's patience."""
    monkeypatch.setattr(dispatcher, "devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    runs = [machine.start("count", steps=300) for _ in range(3)]
    cursors, seen, polls = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0), 0

    def poll():
        nonlocal polls
        polls += 1
        with Session(machine.database) as session:
            for run in runs:
                new = curves.after(session, run, cursors[run])
                cursors[run], seen[run] = new.cursor, seen[run] + sum(map(len, new.series.values()))
                curves.read(session, run, points=100)
        with Session(machine.database) as session:
            return all(session.get_one(Run, run).status in FINAL for run in runs)

    machine.dispatch(poll)
    assert [machine.row(run).status for run in runs] == ["succeeded"] * 3, [machine.row(run).error for run in runs]
    poll()
    assert polls > 10
    assert seen == dict.fromkeys(runs, 600), "the reader saw each of 300 steps of two metrics once"
    logs = [(machine.home.run_folder(run) / "log.txt").read_text() for run in runs]
    assert not any("locked" in log for log in logs)
    with Session(machine.database) as session:
        assert len(session.exec(select(Rollup)).all()) == 3 * 2 * (299 // curves.WIDTH)
