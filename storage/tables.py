"""Every table, in one file.

What rows there are:

- what exists (`Artifact`), what happened (`Run`, `Plan`) and how the two are tied (`Consumed`);
- what a run reports while it goes on (`Event`, `Metric`, `Response`, `Score`): append-only, always with
  `(id, run)`, so that one cursor query, `queries.rows_after`, serves every live page;
- what people say of what was scored (`Correction`), and how they change a dataset's rows (`Edit`);
- what is ranked (`Project`, its `Guideline`s and `Item`s), who holds an item right now (`Lease`), and what was said of it
  (`Label`, append-only: an undo is another row);
- who may come in from another machine: `User`, `SignIn` and the failed `Attempt`s;
- `Rollup`, the stored summary of 64 metric rows, so that a page draws a long curve without reading it, and
  `Lock`, which keeps a second dispatcher from starting.

Times are aware UTC datetimes. Rows are trusted: a stage validates its settings before a row is written.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index
from sqlmodel import Field, SQLModel

# The states of a run. Every run ends in one of FINAL, and `queries.settle` is the only way there.
QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, CANCELLED, SKIPPED = "succeeded", "failed", "cancelled", "skipped"
FINAL = (SUCCEEDED, FAILED, CANCELLED, SKIPPED)


def _json() -> Any:
    return Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Artifact(SQLModel, table=True):
    """A model, dataset, set of responses, scores or report: a folder and this row, immutable once ready."""

    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(index=True)
    name: str = Field(index=True)
    folder: str
    made_by: int | None = Field(default=None, foreign_key="run.id", index=True)
    field: str = ""  # which output of the run that made it
    summary: dict[str, Any] = _json()
    size: int = Field(default=0, sa_type=BigInteger)  # bytes on disk
    created_at: datetime
    ready_at: datetime | None = None
    deleted_at: datetime | None = None  # the folder is gone, the row stays: lineage still says what it was
    note: str = ""


class Plan(SQLModel, table=True):
    """One press of Start on a recipe: the runs it queued carry its id."""

    id: int | None = Field(default=None, primary_key=True)
    recipe: str
    settings: dict[str, Any] = _json()
    created_at: datetime


class Run(SQLModel, table=True):
    """One stage with its settings, from queued to settled."""

    id: int | None = Field(default=None, primary_key=True)
    stage: str
    settings: dict[str, Any] = _json()
    status: str = Field(default=QUEUED, index=True)
    heavy: bool = True
    plan: int | None = Field(default=None, foreign_key="plan.id", index=True)
    seed: int = 0
    code_version: str = ""
    tags: str = ""  # space-separated words, for filtering the list
    device: str | None = None  # the slot a heavy run holds while it runs: "cpu", "cuda:0"
    pid: int | None = None
    pid_started: str | None = None  # identity of the process beyond its pid: see engine.processes
    stop_requested: datetime | None = None
    queued_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    step: int = 0
    total: int = 0
    error: str | None = None


class Consumed(SQLModel, table=True):
    """This run uses this artifact in this field: lineage in both directions is a join."""

    run: int = Field(foreign_key="run.id", primary_key=True)
    artifact: int = Field(foreign_key="artifact.id", primary_key=True, index=True)
    field: str = Field(primary_key=True)


class Event(SQLModel, table=True):
    """A line a person may want to read: what was said, warned or went wrong."""

    __table_args__ = (Index("ix_event_run_id", "run", "id"),)
    id: int | None = Field(default=None, primary_key=True)
    run: int = Field(foreign_key="run.id")
    at: datetime
    level: str = "info"  # info, warning, error
    message: str
    data: dict[str, Any] = _json()


class Metric(SQLModel, table=True):
    """One number at one step. A null value is one that was not a finite number, and is never drawn as 0."""

    __table_args__ = (Index("ix_metric_run_id", "run", "id"), Index("ix_metric_run_name_id", "run", "name", "id"))
    id: int | None = Field(default=None, primary_key=True)
    run: int = Field(foreign_key="run.id")
    at: datetime
    step: int
    name: str
    value: float | None = None


class Rollup(SQLModel, table=True):
    """Up to 64 consecutive metric rows of one name, all numbers or all not: its extremes with their steps, and the last row's id."""

    __table_args__ = (Index("ix_rollup_run_name", "run", "name", "last_metric"),)
    id: int | None = Field(default=None, primary_key=True)
    run: int = Field(foreign_key="run.id")
    name: str
    count: int
    first_step: int
    last_step: int
    low_step: int
    low: float | None = None
    high_step: int
    high: float | None = None
    last_metric: int


class Response(SQLModel, table=True):
    """One answer of one model to one prompt. The same `prompt_key` joins models and steps."""

    __table_args__ = (Index("ix_response_run_id", "run", "id"), Index("ix_response_run_artifact", "run", "artifact", "prompt_key"))
    id: int | None = Field(default=None, primary_key=True)
    run: int = Field(foreign_key="run.id")
    at: datetime
    artifact: int = Field(foreign_key="artifact.id")  # the model that answered; for imported answers the set they came in
    source: str = ""  # who answered, when it was no model of this home
    step: int = 0  # of the training; in a conversation the turn
    prompt_key: str = Field(index=True)
    sample: int = 0  # which of the n answers to this prompt
    prompt: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    answer: str
    token_ids: list[int] = Field(sa_column=Column(JSON, nullable=False))
    finish_reason: str  # stop, length; stopped, where a person or an error cut it
    extra: dict[str, Any] = _json()


class Score(SQLModel, table=True):
    """One probe item of one model: per item, so that two models can be compared pair by pair."""

    __table_args__ = (Index("ix_score_run_id", "run", "id"), Index("ix_score_artifact", "artifact", "suite_hash"))
    id: int | None = Field(default=None, primary_key=True)
    run: int = Field(foreign_key="run.id")
    at: datetime
    artifact: int = Field(foreign_key="artifact.id")
    step: int = 0
    suite_hash: str
    probe: str
    item_key: str
    value: float | None = None
    response: int | None = Field(default=None, foreign_key="response.id", index=True)


class Correction(SQLModel, table=True):
    """What a person says an answer to a probe is worth, on the probe's own scale: append-only, the newest counts."""

    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    response: int = Field(foreign_key="response.id", index=True)
    probe: str
    value: float
    person: str  # by name: users come and go


class Edit(SQLModel, table=True):
    """What a person changes about one row of a dataset: append-only, the newest of each row counts. The dataset itself never changes."""

    __table_args__ = (Index("ix_edit_dataset_row", "dataset", "row_key"),)
    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    dataset: int = Field(foreign_key="artifact.id")
    row_key: str
    person: str
    tags: list[str] = Field(sa_column=Column(JSON, nullable=False))
    excluded: str | None = None  # why the row is left out
    row: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # what it says now, where it was rewritten


class Project(SQLModel, table=True):
    """A ranking project: what raters are asked. While it is open its artifact is not ready, and recipes wait for it."""

    artifact: int = Field(foreign_key="artifact.id", primary_key=True)
    settings: dict[str, Any] = _json()
    paused_at: datetime | None = None
    closed_at: datetime | None = None


class Guideline(SQLModel, table=True):
    """One version of what raters are asked to go by, in markdown."""

    project: int = Field(foreign_key="project.artifact", primary_key=True)
    version: int = Field(primary_key=True)
    text: str
    person: str
    at: datetime


class Item(SQLModel, table=True):
    """One prompt with 2 to 9 answers to rank. A repeat shows an item again, in another order, to whoever ranked it."""

    __table_args__ = (
        Index("ix_item_project_position", "project", "position"),
        Index("ix_item_project_kind_wanted", "project", "kind", "wanted"),  # counts do not read the texts
    )
    id: int | None = Field(default=None, primary_key=True)
    project: int = Field(foreign_key="project.artifact")
    position: int
    kind: str = "normal"  # normal, gold, practice, repeat
    prompt_key: str
    prompt: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    answers: list[Any] = Field(sa_column=Column(JSON, nullable=False))  # {"key", "text", "by", "original"}
    gold: list[Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # the tiers that are right
    wanted: int = 1  # raters; 0: everybody
    of: int | None = Field(default=None, foreign_key="item.id", index=True)


class Lease(SQLModel, table=True):
    """This rater was given this item, in this order, and has not answered yet. Expired, it holds the place no longer."""

    item: int = Field(foreign_key="item.id", primary_key=True)
    rater: str = Field(primary_key=True, index=True)
    shown: list[str] = Field(sa_column=Column(JSON, nullable=False))
    given_at: datetime
    expires_at: datetime


class Label(SQLModel, table=True):
    """What a rater (a person or a model) said of an item. Current is what no later row supersedes."""

    __table_args__ = (Index("ix_label_rankings_item", "rankings", "item"), Index("ix_label_rankings_rater", "rankings", "rater"))
    id: int | None = Field(default=None, primary_key=True)
    client_event_id: str = Field(unique=True)
    rankings: int = Field(foreign_key="artifact.id")  # the project, or what a judge made of it
    item: int = Field(foreign_key="item.id", index=True)
    rater: str
    act: str  # rank, skip, undo, settle
    tiers: dict[str, Any] = _json()  # by criterion, best first: lists of answer keys
    accepted_above: int | None = None  # the first so many tiers are acceptable
    strength: int | None = None  # of two answers, how much better: 1 negligibly to 4 significantly
    flags: dict[str, Any] = _json()  # by answer key
    better: str = ""  # an answer the rater wrote
    comment: str = ""
    reason: str = ""  # for skipping
    shown: list[str] = Field(sa_column=Column(JSON, nullable=False))  # answer keys in the order on the screen
    active_ms: int = 0
    wall_ms: int = 0
    guideline: int = 0  # its version
    extra: bool = False  # the item had its raters already: a lease had expired under this one
    supersedes: int | None = Field(default=None, foreign_key="label.id", index=True)
    at: datetime


class User(SQLModel, table=True):
    """Somebody who may sign in: an owner may do everything, a rater sees the label pages only."""

    __tablename__ = "users"  # "user" is a reserved word of Postgres

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    role: str  # owner, rater
    password_hash: str  # "" for somebody who comes with a link and sets one then
    created_at: datetime


class SignIn(SQLModel, table=True):
    """A browser that signed in. Only the hash of its cookie's token is kept; it ends with its user."""

    __tablename__ = "sign_in"

    token_hash: str = Field(primary_key=True)
    user: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    created_at: datetime
    expires_at: datetime


class Attempt(SQLModel, table=True):
    """A failed attempt to sign in: what slows down the next one."""

    __table_args__ = (Index("ix_attempt_at", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    name: str
    address: str


class Lock(SQLModel, table=True):
    """Who dispatches on this machine, who is the hot spare and who answers live, by process identity; and when a spare was last wanted."""

    name: str = Field(primary_key=True)
    pid: int
    pid_started: str
    at: datetime
