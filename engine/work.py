"""Work: all that a running stage can touch.

Every call is one short transaction, so what was reported survives a kill at any moment. Outside `finishing` every call
is also a cancellation point: it raises Cancelled once the person asked to stop. A trainer must not be cut by an
exception (it would skip its checkpoint): it runs inside `finishing`, reads `stopping`, saves and leaves.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from engine import rankings
from engine.curation import Change
from engine.errors import Cancelled
from engine.lineage import Ancestor, lineage
from engine.rankings import Asked, Rankings, Said
from engine.stage import Input, Kind, Stage
from storage import curves, edits, queries, scores
from storage.curves import Recorder
from storage.files import Home, fresh, put_in_place
from storage.listings import not_to_probes
from storage.queries import Made
from storage.tables import Artifact, Response, Run, Score


@dataclass(frozen=True)
class Answer:
    """One answer of one model to one prompt (a list of messages). `source`: who answered, when it was no model of this home."""

    artifact: int
    prompt_key: str
    prompt: list[dict[str, Any]]
    answer: str
    token_ids: list[int]
    finish_reason: str
    step: int = 0
    sample: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class ItemScore:
    """One probe item of one model."""

    artifact: int
    suite_hash: str
    probe: str
    item_key: str
    value: float | None
    step: int = 0


# One answer to a probe's item, if it was answered, with all that was measured on it.
Measurement = tuple[Answer | None, Sequence[ItemScore]]


def as_input(home: Home, artifact: Artifact) -> Input:
    """An artifact's row as a stage sees it."""
    ready = artifact.ready_at is not None
    return Input(artifact.id or 0, Kind(artifact.kind), artifact.name, home.root / artifact.folder, dict(artifact.summary), ready)


def _answer(row: Response) -> Answer:
    return Answer(**{name: getattr(row, name) for name in Answer.__dataclass_fields__})


class Work:
    """One run's view of the world. Of processes that share a run only one `leads`, and only what it says is kept."""

    leads = True

    def __init__(
        self, database: Engine, home: Home, run: Run, stage: Stage, now: Callable[[], datetime] = queries.utc_now, device: str = "cpu"
    ) -> None:
        self._database, self._home, self._now, self._stage = database, home, now, stage
        self.run, self.seed, self.device = run.id or 0, run.seed, device
        self.folder, self.starters = home.run_folder(self.run), home.starters
        self.stopping = False
        self._in_trainer = False
        self._made: dict[str, dict[str, Any]] = {}
        with Session(database) as session:
            self._recorder = Recorder(session, self.run)
            self._outputs = {name: artifact.id or 0 for name, artifact in queries.outputs_of(session, self.run).items()}
        self._aside = {name: self._aside_for(id) for name, id in self._outputs.items()}
        random.seed(self.seed)

    # what goes in

    def input(self, field: str) -> Input:
        """The artifact in this field of the stage."""
        return self.artifact(getattr(self._stage, field))

    def inputs(self, field: str) -> list[Input]:
        """The artifacts in this list field of the stage."""
        return [self.artifact(id) for id in getattr(self._stage, field)]

    def artifact(self, id: int) -> Input:
        """Any artifact, such as the base of an adapter. Raises LookupError if there is none."""
        with Session(self._database) as session:
            row = session.get(Artifact, id)
            if row is None:
                raise LookupError(f"there is no artifact {id}")
            return as_input(self._home, row)

    def lineage(self, artifact: int) -> list[Ancestor]:
        """An artifact and all it was made from, causes first, with what was measured on each."""
        with Session(self._database) as session:
            return lineage(session, artifact)

    def edits(self, dataset: int) -> dict[str, Change]:
        """What people last changed about each row of a dataset, by row key."""
        with Session(self._database) as session:
            return {key: Change(tuple(row.tags), row.excluded, row.row) for key, row in edits.newest(session, dataset).items()}

    # what comes out

    def output(self, name: str) -> Path:
        """The folder to write this output into; it takes its place when the run succeeds."""
        return self._aside[name]

    def output_id(self, name: str) -> int:
        """The id reserved for this output."""
        return self._outputs[name]

    def describe(self, name: str, /, **summary: Any) -> None:
        """What this output's row says about it."""
        self._made[name] = self._made.get(name, {}) | summary

    def put_outputs_in_place(self) -> dict[str, Made]:
        """Rename the finished folders; what the rows shall say of them. For the worker, just before it settles."""
        sizes = {name: put_in_place(aside, self._home.artifact_folder(self._outputs[name])) for name, aside in self._aside.items()}
        return {name: Made(self._made.get(name, {}), size) for name, size in sizes.items()}

    def _aside_for(self, artifact: int) -> Path:
        return fresh(self._home.aside(artifact))

    # what is reported meanwhile

    def metrics(self, step: int, /, **values: float | None) -> None:
        """Numbers at a step. None is left out; what is not finite is stored as not a number."""
        known = {name: value for name, value in values.items() if value is not None}
        with self._reporting() as session:
            self._recorder.record(session, self._now(), step, known)

    def progress(self, step: int, of: int) -> None:
        """How far the run is."""
        with self._reporting() as session:
            row = session.get_one(Run, self.run)
            row.step, row.total = step, of

    def say(self, message: str, /, **data: Any) -> None:
        """A line for the log."""
        self._log("info", message, data)

    def warn(self, message: str, /, **data: Any) -> None:
        """A line for the log that a person should not miss."""
        self._log("warning", message, data)

    def responses(self, rows: Iterable[Answer]) -> None:
        """Store answers."""
        with self._reporting() as session:
            session.add_all(Response(run=self.run, at=self._now(), **asdict(row)) for row in rows)

    def answers(self) -> list[Answer]:
        """The answers this run stored so far, before a stop or a kill too; not those to probes."""
        with Session(self._database) as session:
            rows = session.exec(select(Response).where(Response.run == self.run, not_to_probes(self.run)).order_by(col(Response.id)))
            return [_answer(row) for row in rows]

    def scores(self, rows: Iterable[ItemScore]) -> None:
        """Store scores, item by item."""
        self.measured([(None, list(rows))])

    def measured(self, rows: Iterable[Measurement]) -> None:
        """Store what was measured on probes' items, each score with the answer it judges."""
        with self._reporting() as session:
            for answer, scores in rows:
                response = answer and Response(run=self.run, at=self._now(), **asdict(answer))
                if response:
                    session.add(response)
                    session.flush()
                told = response.id if response else None
                session.add_all(Score(run=self.run, at=self._now(), response=told, **asdict(score)) for score in scores)

    def values(self, artifact: int, step: int, suite_hash: str, own: bool = False) -> dict[str, float | None]:
        """What is stored of a part of a suite on a model at a step, item by item; with `own`, what this run measured."""
        with Session(self._database) as session:
            return scores.values(session, artifact, step, suite_hash, self.run if own else None)

    def judged(self, artifact: int, step: int, suite_hash: str, run: int | None = None) -> dict[str, tuple[float | None, Answer | None]]:
        """The same with the answers that were judged, measured by this run or by any."""
        with Session(self._database) as session:
            found = scores.judged(session, artifact, step, suite_hash, run)
            return {key: (value, _answer(row) if row else None) for key, (value, row) in found.items()}

    def watched(self, artifact: int) -> list[tuple[str, str, int, int, int]]:
        """What was measured of a model while it learned: (probe, suite hash, step, right, items)."""
        with Session(self._database) as session:
            return scores.by_step(session, artifact)

    def last_metrics(self, artifact: int, names: Sequence[str]) -> dict[str, float]:
        """The last value of each of these metrics of the run that made an artifact, where it has any."""
        with Session(self._database) as session:
            maker = session.get_one(Artifact, artifact).made_by
            told = curves.read(session, maker, list(names)).series if maker else {}
            return {name: points[-1][1] for name, points in told.items() if points[-1][1] is not None}

    # rankings

    def open_project(self, output: str, settings: dict[str, Any], guideline: str, items: Sequence[Asked]) -> None:
        """Put these items before raters; `output` becomes ready when they are done, or at once where no raters are wanted.

        Ids do not count: `of` is the place of the item that is repeated. A run that is done again finds what it wrote before.
        """
        with self._reporting() as session:
            rankings.open_project(session, self.output_id(output), settings, guideline, items, self._now())

    def rankings(self, artifact: int) -> Rankings:
        """A project or a judge's labels, with the items and all that was said of them."""
        with Session(self._database) as session:
            return rankings.read(session, artifact)

    def label(self, output: str, rows: Iterable[Said]) -> None:
        """Write labels of this run's own, by a judge or from elsewhere, each once however often the run is done."""
        with self._reporting() as session:
            rankings.write(session, self.output_id(output), rows, self._now())

    def labelled(self, output: str) -> list[Said]:
        """The labels that this run wrote so far, before a stop or a kill too."""
        with Session(self._database) as session:
            return rankings.written(session, self.output_id(output))

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Around a trainer: no call raises Cancelled inside; on leaving, it is raised if the person asked to stop."""
        self._in_trainer = True
        try:
            yield
        finally:
            self._in_trainer = False
        self._leave_if_stopping()

    def _leave_if_stopping(self) -> None:
        if self.stopping and not self._in_trainer:
            raise Cancelled

    @contextmanager
    def _reporting(self) -> Iterator[Session]:
        self._leave_if_stopping()
        with Session(self._database) as session:
            yield session
            session.commit()

    def _log(self, level: str, message: str, data: dict[str, Any]) -> None:
        print(message, flush=True)  # noqa: T201  (the run's log file)
        with self._reporting() as session:
            queries.say(session, self.run, message, self._now(), level, **data)
