"""One run in this process: what a stage reports arrives, and whatever it raises is told in its row."""

import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from engine import catalogue, submit, worker
from engine.errors import Cancelled
from engine.stage import Kind, Model, Stage
from engine.work import Answer, ItemScore
from engine.worker import NOT_MINE
from storage import curves, queries
from storage.tables import Event, Metric, Response, Run, Score


class Act(Stage):
    """Do what the test says."""

    outputs = {"model": Kind.MODEL}
    models: list[Model] = []

    def run(self, work):
        """Do it."""
        acts[self.save_as](work)


acts = {}


@pytest.fixture
def act(database, home, monkeypatch):
    """Run a function as a stage; the settled run and the id of its output."""
    monkeypatch.setattr(worker, "stages", lambda: {"test_worker": Act})
    handler = signal.getsignal(signal.SIGTERM)

    def run(function, **settings):
        acts["now"] = function
        submitted = submit.submit(database, home, Act(save_as="now", **settings))
        status = worker.work(database, home, submitted.runs[0])
        with Session(database) as session:
            row = session.get_one(Run, submitted.runs[0])
            assert status == (0 if row.status == "succeeded" else 1)
            return row, submitted.outputs["model"]

    yield run
    signal.signal(signal.SIGTERM, handler)


def test_what_a_stage_reports_arrives(database, home, act, add_artifact):
    model = add_artifact("model", "m", format="full")

    def report(work):
        assert work.inputs("models")[0].summary == {"format": "full"}
        assert work.artifact(model).folder == home.artifact_folder(model)
        work.progress(1, 3)
        work.metrics(1, loss=0.5, nothing=None, lost=float("nan"))
        work.metrics(2, loss=float("inf"), step=7.0, name=1.0)
        work.say("loaded", run=1, level=2, message="m")
        work.warn("slow")
        work.responses([Answer(model, "key", [{"role": "user", "content": "hi"}], "yes", [1], "stop", extra={"a": 1})])
        work.scores([ItemScore(model, "suite", "probe", "1", 1.0), ItemScore(model, "suite", "probe", "2", None)])
        assert [answer.answer for answer in work.answers()] == ["yes"]
        (work.output("model") / "weights").write_text("w")
        work.describe("model", format="full", parameters=1, name="m")
        work.describe("model", parameters=2)

    row, made = act(report, models=[model])
    assert (row.status, row.error, row.step, row.total) == ("succeeded", None, 1, 3)
    with Session(database) as session:
        told = curves.read(session, row.id).series
        assert told == {"loss": [(1, 0.5), (2, None)], "lost": [(1, None)], "step": [(2, 7.0)], "name": [(2, 1.0)]}
        events = queries.rows_after(session, Event, row.id, 0)
        assert [(e.level, e.message, e.data) for e in events] == [
            ("info", "loaded", {"run": 1, "level": 2, "message": "m"}), ("warning", "slow", {}),
        ]  # fmt: skip
        assert session.exec(select(Response)).one().extra == {"a": 1}
        assert [s.value for s in session.exec(select(Score).order_by(Score.id))] == [1.0, None]
        artifact = queries.outputs_of(session, row.id)["model"]
        assert artifact.summary == {"format": "full", "parameters": 2, "name": "m"}
        assert (home.root / artifact.folder / "weights").read_text() == "w"
        assert artifact.id == made


def test_every_call_is_a_way_out_unless_a_trainer_is_finishing(database, act):
    saved = []

    def stop_in_trainer(work):
        with work.finishing():
            os.kill(os.getpid(), signal.SIGTERM)
            assert work.stopping
            work.metrics(1, loss=1.0)
            saved.append("checkpoint")
        raise AssertionError("leaving `finishing` ends the run")

    row, _ = act(stop_in_trainer)
    assert (row.status, row.error, saved) == ("cancelled", "stopped; what was saved can be resumed", ["checkpoint"])

    def stop_outside(work):
        os.kill(os.getpid(), signal.SIGTERM)
        for call in (lambda: work.metrics(1, a=1), lambda: work.progress(1, 2), lambda: work.say("x"), lambda: work.warn("x"),
                     lambda: work.responses([]), lambda: work.scores([])):  # fmt: skip
            with pytest.raises(Cancelled):
                call()
        work.metrics(1, b=1)

    row, _ = act(stop_outside)
    assert row.status == "cancelled"
    with Session(database) as session:
        assert [m.name for m in session.exec(select(Metric))] == ["loss"]


def test_a_trainers_own_failure_is_not_hidden_by_a_stop(act):
    def fail(work):
        with work.finishing():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("the trainer's own")

    assert act(fail)[0].error == "ValueError: the trainer's own"


def test_a_half_written_output_never_looks_finished(database, home, act):
    def fail(work):
        (work.output("model") / "half").write_text("x")
        raise RuntimeError("in the middle")

    row, made = act(fail)
    assert row.status == "failed"
    assert not home.artifact_folder(made).exists()
    with Session(database) as session:
        assert queries.outputs_of(session, row.id)["model"].ready_at is None
        queries.queue_again(session, row.id, queries.utc_now())
        session.commit()
    acts["now"] = lambda work: (work.output("model") / "whole").write_text("x")
    assert worker.work(database, home, row.id) == 0
    assert [file.name for file in home.artifact_folder(made).iterdir()] == ["whole"]


def test_a_full_disk_is_named_even_when_the_database_says_it(act):
    def fail(work):
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    assert "the disk is full" in act(fail)[0].error


def test_a_run_is_taken_once(database, home, act):
    row, _ = act(lambda work: None)
    assert worker.work(database, home, row.id) == NOT_MINE
    assert worker.work(database, home, 999) == NOT_MINE


def test_a_stage_that_is_gone_is_named(database, home, act, monkeypatch):
    submitted = submit.submit(database, home, Act(save_as="now"))
    monkeypatch.setattr(worker, "stages", dict)
    assert worker.work(database, home, submitted.runs[0]) == 1
    with Session(database) as session:
        assert session.get_one(Run, submitted.runs[0]).error == "there is no stage named test_worker any more"


def test_settings_that_are_no_longer_valid_fail_the_run(database, home, act):
    submitted = submit.submit(database, home, Act(save_as="now"))
    with Session(database) as session:
        session.get_one(Run, submitted.runs[0]).settings = {"gone": 1}
        session.commit()
    assert worker.work(database, home, submitted.runs[0]) == 1
    with Session(database) as session:
        assert "Extra inputs are not permitted" in session.get_one(Run, submitted.runs[0]).error
    assert "import_model" in catalogue.stages()


def test_the_log_goes_to_a_file(tmp_path):
    script = "import os, pathlib, sys; from engine import worker; worker.log_to(pathlib.Path(sys.argv[1])); os.system('echo hello')"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "new"], capture_output=True, text=True, check=True)
    assert (done.stdout, (tmp_path / "new" / "log.txt").read_text()) == ("", "hello\n")
