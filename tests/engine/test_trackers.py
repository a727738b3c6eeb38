"""What another tool is given is what the database holds, and such a tool never ends a run."""

import math
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from engine import submit
from engine.errors import UserError
from engine.training import trackers
from storage.files import Home
from storage.tables import Event, Metric
from tests.engine.teaching import Class, stops_at

Numbers = dict[tuple[str, int], float]


@pytest.fixture
def school(database: Engine, home: Home, add_artifact: Callable[..., int], tmp_path: Path) -> Class:
    return Class(database, home, add_artifact, tmp_path)


def measured(school: Class, run: int) -> Numbers:
    """The last value of every name and step of a run."""
    with Session(school.database) as session:
        return {(row.name, row.step): row.value for row in session.exec(select(Metric).where(Metric.run == run).order_by(Metric.id))}


def train(school: Class, tracker: str, stop_at: int | None = None) -> tuple[int, Path]:
    """A short run with a tracker, stopped and resumed if asked for; its number and folder."""
    stage = school.lesson(training={"tracker": tracker}, save_as="org/tuned: 1")
    if stop_at:
        work = school.start(stage, stops_at(stop_at))
        assert not school.finish(work, stage)
        work = school.start(stage, run=work.run)
    else:
        work = school.start(stage)
    assert school.finish(work, stage)
    return work.run, work.folder


@pytest.mark.parametrize("stop_at", [None, 4])
def test_tensorboard_reads_what_the_database_holds(school: Class, stop_at: int | None) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, folder = train(school, "tensorboard", stop_at)
    (place,) = (folder / "tensorboard").iterdir()
    assert place.name == f"{run} org-tuned- 1"
    told = EventAccumulator(str(place)).Reload()
    read = {
        (name, event.step): event.tensor_proto.double_val[0] for name in told.Tags()["tensors"] if "settings" not in name
        for event in told.Tensors(name)
    }  # fmt: skip
    assert read == measured(school, run)
    names = {"loss", "eval_loss", "eval_perplexity", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb", "trained_tokens"}
    assert {name for name, _ in read} == names
    assert b'"learning_rate": 0.01' in told.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(school: Class, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(trackers, "distribution", missing)
    submit.submit(school.database, home, school.lesson())
    for tool in trackers.OPENERS:
        with pytest.raises(UserError, match=f"pip install {tool}") as refused:
            submit.submit(school.database, home, school.lesson(training={"tracker": tool}))
        assert refused.value.field == "training.tracker"


@pytest.mark.parametrize("when", ["open", "log", "close"])
def test_a_tracker_that_fails_is_said_once_and_left_alone(school: Class, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    logged = []

    def fail(*_: Any) -> None:
        raise ConnectionError("nobody answers")

    def log(step: int, values: dict[str, float]) -> None:
        logged.append(step)
        if when == "log":
            fail()

    def opened(tracker: trackers.Tracker, step: int) -> trackers.Open:
        return fail() if when == "open" else trackers.Open(log, fail if when == "close" else lambda: None)

    monkeypatch.setitem(trackers.OPENERS, "tensorboard", opened)
    run, _ = train(school, "tensorboard")
    with Session(school.database) as session:
        warnings = session.exec(select(Event.message).where(Event.run == run, Event.level == "warning")).all()
    assert warnings == ["tensorboard gets no more numbers: ConnectionError: nobody answers"]
    assert len(logged) == {"open": 0, "log": 1}.get(when, len(logged))
    assert len([name for name, _ in measured(school, run) if name == "loss"]) == 6


def test_a_number_that_is_not_one_arrives_as_such(school: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setitem(trackers.OPENERS, "tensorboard", lambda *_: trackers.Open(lambda step, values: sent.append(values), lambda: None))
    tracker = trackers.Tracker("tensorboard", school.start(school.lesson()), "x", {})
    tracker.log(1, {"loss": math.nan, "kl": None})
    assert list(sent[0]) == ["loss"]
    assert math.isnan(sent[0]["loss"])


def test_trackio_keeps_it_on_this_machine(school: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    run, _ = train(school, "trackio", stop_at=4)
    read = {(name, row["step"]): row[name] for row in SQLiteStorage.get_logs("home", f"{run} org/tuned: 1") for name in row}
    assert {key: read[key] for key in measured(school, run)} == measured(school, run)


def test_wandb_without_a_key_writes_beside_the_log(school: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    _, folder = train(school, "wandb", stop_at=4)
    offline = list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(offline) == 2, "before and after the stop"
    assert {path.stem for path in offline} == {f"run-{(folder / 'tracker.txt').read_text()}"}


@pytest.mark.parametrize("key, netrc, found", [
    ("", "", False), ("x", "", True), ("", "machine api.wandb.ai login user password x", True), ("", "machine a.example password x", False),
])  # fmt: skip
def test_wandb_is_online_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, netrc: str, found: bool) -> None:
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    assert trackers._has_wandb_key() is found
