"""What pages list: reads across several tables, for the dashboard only."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, String, cast, func, or_
from sqlmodel import Session, col, select

from storage.tables import Artifact, Consumed, Event, Plan, Response, Run, Score


def last_events(session: Session, run: int, limit: int = 300) -> list[Event]:
    """A run's last log lines, oldest first."""
    return list(session.exec(select(Event).where(Event.run == run).order_by(col(Event.id).desc()).limit(limit)).all())[::-1]


def not_to_probes(run: int) -> ColumnElement[bool]:
    """Leaves out the answers of a run that a score of a probe judges: they are read with their scores."""
    return col(Response.id).not_in(select(Score.response).where(Score.run == run, col(Score.response).is_not(None)))


def answer_steps(session: Session, run: int) -> list[int]:
    """The steps at which a run stored answers, ascending."""
    query = select(Response.step).where(Response.run == run, not_to_probes(run))
    return list(session.exec(query.group_by(col(Response.step)).order_by(col(Response.step))))


def answers_at(session: Session, run: int, step: int, start: int = 0, limit: int | None = None) -> Sequence[Response]:
    """The answers a run stored at a step, oldest first; all of them, or a page."""
    query = select(Response).where(Response.run == run, Response.step == step, not_to_probes(run)).order_by(col(Response.id))
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


def find_runs(session: Session, status: str = "", words: str = "", limit: int = 200) -> tuple[Sequence[Run], int]:
    """The newest runs in a state that every word fits, by number, stage, tag or result; and how many there are in all."""
    fitting = [_fits(word) for word in words.split()]
    if status:
        fitting.append(col(Run.status) == status)
    found = session.exec(select(Run).where(*fitting).order_by(col(Run.id).desc()).limit(limit)).all()
    return found, session.exec(select(func.count()).select_from(Run).where(*fitting)).one()


def _fits(word: str) -> ColumnElement[bool]:
    named = select(Artifact.made_by).where(col(Artifact.name).icontains(word, autoescape=True))
    stages = [col(Run.stage).icontains(form, autoescape=True) for form in (word, word.replace("-", ""))]  # Fine-tune is finetune
    return or_(cast(col(Run.id), String) == word, *stages, col(Run.tags).icontains(word, autoescape=True), col(Run.id).in_(named))


def results(session: Session, runs: Sequence[int]) -> dict[int, str]:
    """The name of the first thing each run makes or made."""
    rows = session.exec(select(Artifact.made_by, Artifact.name).where(col(Artifact.made_by).in_(runs)).order_by(col(Artifact.id).desc()))
    return {run: name for run, name in rows if run is not None}


def ancestors(session: Session, model: int) -> list[int]:
    """The models a model was made from, the nearest first."""
    found: list[int] = []
    row = session.get(Artifact, model)
    while row and row.made_by:
        above = select(Artifact).join(Consumed, col(Consumed.artifact) == col(Artifact.id)).where(Consumed.run == row.made_by)
        row = session.exec(above.where(Artifact.kind == "model", Consumed.field != "tokenizer").order_by(Consumed.field)).first()
        if row is None or row.id in found:
            break
        found.append(row.id or 0)
    return found


def conversations(session: Session, limit: int = 10) -> Sequence[Run]:
    """The newest live conversations."""
    return session.exec(select(Run).where(Run.stage == "conversation").order_by(col(Run.id).desc()).limit(limit)).all()


def name_of(session: Session, artifact: int) -> str:
    """What an artifact is called, deleted or not."""
    row = session.get(Artifact, artifact)
    return row.name if row else str(artifact)
