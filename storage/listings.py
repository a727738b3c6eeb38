"""What pages list: reads across several tables, for the dashboard only."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from storage.tables import RUNNING, Artifact, Event, Plan, Response, Run


def last_events(session: Session, run: int, limit: int = 300) -> list[Event]:
    """A run's last log lines, oldest first."""
    return list(session.exec(select(Event).where(Event.run == run).order_by(col(Event.id).desc()).limit(limit)).all())[::-1]


def answer_steps(session: Session, run: int) -> list[int]:
    """The steps at which a run stored answers, ascending."""
    return list(session.exec(select(Response.step).where(Response.run == run).group_by(col(Response.step)).order_by(col(Response.step))))


def answers_at(session: Session, run: int, step: int, start: int = 0, limit: int = 50) -> Sequence[Response]:
    """A page of the answers a run stored at a step, oldest first."""
    query = select(Response).where(Response.run == run, Response.step == step).order_by(col(Response.id))
    return session.exec(query.offset(start).limit(limit)).all()


def count_answers(session: Session, run: int, step: int) -> int:
    """How many answers a run stored at a step."""
    return session.exec(select(func.count()).select_from(Response).where(Response.run == run, Response.step == step)).one()


def runs_of_plan(session: Session, plan: int) -> Sequence[Run]:
    """The runs a recipe queued, in order."""
    return session.exec(select(Run).where(Run.plan == plan).order_by(col(Run.id))).all()


def plan_of(session: Session, plan: int) -> Plan | None:
    """A recipe's row."""
    return session.get(Plan, plan)


def reports(session: Session, limit: int = 3) -> Sequence[Artifact]:
    """The newest reports."""
    ready = select(Artifact).where(Artifact.kind == "report", col(Artifact.ready_at).is_not(None), col(Artifact.deleted_at).is_(None))
    return session.exec(ready.order_by(col(Artifact.id).desc()).limit(limit)).all()


def revision(session: Session) -> tuple[Any, ...]:
    """Changes whenever a list of runs would look different."""
    newest = session.exec(select(func.max(Run.id))).one()
    active = session.exec(select(Run.id, Run.step, Run.total).where(Run.status == RUNNING)).all()
    counts = session.exec(select(Run.status, func.count()).group_by(Run.status)).all()
    return newest, [tuple(row) for row in active], sorted(tuple(row) for row in counts)
