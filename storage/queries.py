"""Reading and changing rows. Functions take the session; the clock is an argument.

`settle` is the one place where a run reaches a final state: its outputs become ready in the same transaction, and what
can never start any more is skipped with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import func
from sqlmodel import Session, col, select

from storage import labels
from storage.tables import (
    CANCELLED,
    FAILED,
    FINAL,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    Artifact,
    Consumed,
    Event,
    Lock,
    Metric,
    Response,
    Run,
    Score,
)

Row = TypeVar("Row", Event, Metric, Response, Score)


@dataclass(frozen=True)
class Made:
    """What a finished run says about one of its outputs."""

    summary: dict[str, Any] = field(default_factory=dict)
    size: int = 0


def utc_now() -> datetime:
    """The clock that callers pass in."""
    return datetime.now(UTC)


def rows_after(session: Session, table: type[Row], run: int, cursor: int, limit: int = 1000) -> Sequence[Row]:
    """Rows a run appended after the one with id `cursor`, oldest first."""
    return session.exec(select(table).where(table.run == run, col(table.id) > cursor).order_by(col(table.id)).limit(limit)).all()


def say(session: Session, run: int, message: str, now: datetime, level: str = "info", /, **data: Any) -> None:
    """Append a line to a run's log."""
    session.add(Event(run=run, at=now, level=level, message=message, data=data))


def artifacts(session: Session, kind: str | None = None, ready: bool = True) -> Sequence[Artifact]:
    """Artifacts, newest first; only those that can be used, unless `ready` is False."""
    query = select(Artifact).order_by(col(Artifact.id).desc()).where(col(Artifact.deleted_at).is_(None))
    if kind:
        query = query.where(Artifact.kind == kind)
    if ready:
        query = query.where(col(Artifact.ready_at).is_not(None))
    return session.exec(query).all()


def artifacts_named(session: Session, name: str) -> Sequence[Artifact]:
    """Artifacts of this name that exist or will, newest first."""
    return [a for a in artifacts(session, ready=False) if a.name == name and (a.ready_at or not is_lost(session, a))]


def is_lost(session: Session, artifact: Artifact) -> bool:
    """Whether it is deleted, or its maker ended without making it. A project whose people are not done is not lost."""
    if artifact.deleted_at is not None or artifact.ready_at is not None:
        return artifact.deleted_at is not None
    maker = session.get(Run, artifact.made_by) if artifact.made_by else None
    return maker is None or (maker.status in FINAL and not (maker.status == SUCCEEDED and labels.is_open(session, artifact.id or 0)))


def consumed_by(session: Session, run: int) -> Sequence[tuple[str, Artifact]]:
    """(field, artifact) for everything a run uses."""
    query = select(Consumed.field, Artifact).where(Consumed.run == run, Consumed.artifact == col(Artifact.id))
    return [(name, artifact) for name, artifact in session.exec(query.order_by(Consumed.field))]


def outputs_of(session: Session, run: int) -> dict[str, Artifact]:
    """What a run makes or made, by output name."""
    return {a.field: a for a in session.exec(select(Artifact).where(Artifact.made_by == run).order_by(col(Artifact.id))) if a.field}


def users_of(session: Session, artifact: int) -> Sequence[Run]:
    """Runs that use an artifact, oldest first."""
    users = select(Consumed.run).where(Consumed.artifact == artifact)
    return session.exec(select(Run).where(col(Run.id).in_(users)).order_by(col(Run.id))).all()


def made_from(session: Session, artifact: int) -> Sequence[Artifact]:
    """Artifacts that exist and were made by runs that used this one."""
    users = [run.id for run in users_of(session, artifact)]
    there = select(Artifact).where(col(Artifact.ready_at).is_not(None), col(Artifact.deleted_at).is_(None))
    return session.exec(there.where(col(Artifact.made_by).in_(users)).order_by(col(Artifact.id))).all()


def runs(session: Session, status: str | None = None, stage: str | None = None, limit: int = 200) -> Sequence[Run]:
    """Runs, newest first."""
    query = select(Run).order_by(col(Run.id).desc()).limit(limit)
    if status:
        query = query.where(Run.status == status)
    if stage:
        query = query.where(Run.stage == stage)
    return session.exec(query).all()


def ready_to_start(session: Session) -> Sequence[Run]:
    """Queued runs whose inputs are all ready, oldest first."""
    waiting = select(Consumed.run).join(Artifact, col(Artifact.id) == col(Consumed.artifact)).where(col(Artifact.ready_at).is_(None))
    return session.exec(select(Run).where(Run.status == QUEUED, col(Run.id).not_in(waiting)).order_by(col(Run.id))).all()


def people_awaited(session: Session, run: int) -> list[int]:
    """The open projects a queued run waits for, itself or through runs before it; none if it waits for anything else too."""
    row = session.get(Run, run)
    found: dict[int, None] = {}
    for _, artifact in consumed_by(session, run) if row and row.status == QUEUED else ():
        if artifact.ready_at is None and labels.is_open(session, artifact.id or 0):
            found[artifact.id or 0] = None
        elif artifact.ready_at is None:
            before = people_awaited(session, artifact.made_by or 0)
            if not before:
                return []
            found |= dict.fromkeys(before)
    return list(found)


def begin(session: Session, run: int, pid: int, pid_started: str, device: str | None, now: datetime) -> bool:
    """Mark a queued run as running in this process; False if it is not queued any more."""
    row = session.get(Run, run)
    if row is None or row.status != QUEUED:
        return False
    row.status, row.pid, row.pid_started, row.device = RUNNING, pid, pid_started, device
    row.started_at, row.ended_at, row.error = now, None, None
    return True


def settle(
    session: Session, run: int, status: str, now: datetime, error: str | None = None, made: Mapping[str, Made] | None = None
) -> bool:
    """Bring a run to a final state, once. Returns whether this call did it.

    Succeeded: its outputs become ready, described by `made`; a ranking project only when its people are done. Anything
    else: runs that wait for them are skipped.
    """
    if status not in FINAL:
        raise ValueError(f"{status} is not a final state")
    row = session.get(Run, run)
    if row is None or row.status in FINAL:
        return False
    if status == SUCCEEDED and row.status != RUNNING:
        raise ValueError(f"run {run} is {row.status}: only a running run can succeed")
    row.status, row.error, row.ended_at = status, error, now
    row.pid = row.pid_started = row.device = None
    outputs = outputs_of(session, run)
    for name, artifact in outputs.items():
        if status == SUCCEEDED:
            told = (made or {}).get(name, Made())
            artifact.summary, artifact.size, artifact.deleted_at = told.summary, told.size, None
            artifact.ready_at = None if labels.is_open(session, artifact.id or 0) else now
        else:
            for user in users_of(session, artifact.id or 0):
                settle(session, user.id or 0, SKIPPED, now, f"its input {artifact.name} will not be made: run {run} ({row.stage}) {status}")
    return True


def queue_again(session: Session, run: int, now: datetime) -> bool:
    """Bring a failed or cancelled run back to the queue, and with it the runs that were skipped because of it."""
    row = session.get(Run, run)
    if row is None or row.status not in (FAILED, CANCELLED, SKIPPED):
        return False
    if any(is_lost(session, artifact) for _, artifact in consumed_by(session, run)):
        return False
    row.status, row.error, row.ended_at, row.stop_requested, row.queued_at = QUEUED, None, None, None, now
    session.flush()
    for artifact in outputs_of(session, run).values():
        for user in users_of(session, artifact.id or 0):
            if user.status == SKIPPED:
                queue_again(session, user.id or 0, now)
    return True


def count_by_status(session: Session) -> dict[str, int]:
    """How many runs are in each state."""
    return dict(session.exec(select(Run.status, func.count()).group_by(Run.status)).all())


def want_spare(session: Session, now: datetime) -> None:
    """Note that somebody is about to start something heavy."""
    row = session.get(Lock, "spare wanted") or Lock(name="spare wanted", pid=0, pid_started="", at=now)
    row.at = now
    session.add(row)


def spare_wanted(session: Session) -> datetime | None:
    """When a spare was last wanted."""
    row = session.get(Lock, "spare wanted")
    return row.at if row else None
