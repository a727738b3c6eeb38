"""What people say of answers that a scorer of words judged. Nothing is changed or deleted: the newest word counts.

Only the answers of some probes are corrected; a judged answer belongs to one of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Subquery, func
from sqlmodel import Session, col, select

from storage.tables import Artifact, Correction, Response, Score


@dataclass(frozen=True)
class Judged:
    """An answer with what the scorer says of it and, where somebody corrected it, what people say: the newest correction."""

    response: Response
    probe: str
    value: float
    correction: Correction | None


def correct(session: Session, response: int, probe: str, value: float, person: str, now: datetime) -> None:
    """Write down what a person says an answer to a probe is worth."""
    session.add(Correction(at=now, response=response, probe=probe, value=value, person=person))


def newest(session: Session, responses: Collection[int]) -> dict[int, float]:
    """What people say last of these answers, of those somebody corrected."""
    query = select(Correction.response, Correction.value).where(_is_newest(), col(Correction.response).in_(responses))
    return dict(session.exec(query).all())


def said() -> Subquery:
    """What people say last of each corrected answer: (response, value)."""
    return select(Correction.response, Correction.value).where(_is_newest()).subquery()


def against(session: Session, probe: str) -> list[tuple[float, float]]:
    """What the scorer and what people say of every corrected answer to a probe."""
    query = select(Score.value, Correction.value).join(Correction, col(Correction.response) == col(Score.response))
    corrected = col(Score.response).in_(select(Correction.response))
    query = query.where(_is_newest(), Correction.probe == probe, _is_last(corrected, Score.probe == probe))
    return [(scored, said) for scored, said in session.exec(query) if scored is not None]


def models(session: Session, probes: Sequence[str]) -> list[tuple[Artifact, int, int]]:
    """Every model that answered these probes, newest first, with how many answers are judged and how many corrected."""
    answers, said = func.count(col(Score.response).distinct()), func.count(col(Correction.response).distinct())
    counts = select(Score.artifact, answers.label("judged"), said.label("corrected"))
    counts = counts.join(Correction, col(Correction.response) == col(Score.response), isouter=True)
    counts = counts.where(col(Score.probe).in_(probes), col(Score.value).is_not(None))
    told = counts.group_by(col(Score.artifact)).subquery()
    query = select(Artifact, told.c.judged, told.c.corrected).join(told, told.c.artifact == Artifact.id)
    return [(model, judged, corrected) for model, judged, corrected in session.exec(query.order_by(col(Artifact.id).desc()))]


def ids(session: Session, model: int, probes: Sequence[str], corrected: bool, start: int, limit: int) -> list[int]:
    """A page of a model's judged answers, corrected or not yet, oldest first."""
    query = _with_corrections(select(Score.response)).where(_is_last(Score.artifact == model, col(Score.probe).in_(probes)))
    query = query.where(col(Correction.id).is_not(None) if corrected else col(Correction.id).is_(None))
    return [id or 0 for id in session.exec(query.order_by(col(Score.response)).offset(start).limit(limit))]


def read(session: Session, responses: Collection[int], probes: Sequence[str]) -> list[Judged]:
    """Judged answers by their ids, oldest first."""
    query = _with_corrections(select(Response, Score.probe, Score.value, Correction).join(Score, col(Score.response) == col(Response.id)))
    query = query.where(_is_last(col(Score.response).in_(responses), col(Score.probe).in_(probes)))
    return [Judged(*row) for row in session.exec(query.order_by(col(Response.id)))]


def _with_corrections(query: Any) -> Any:
    newest = (col(Correction.response) == col(Score.response)) & _is_newest()
    return query.join(Correction, newest, isouter=True)


def _is_newest() -> ColumnElement[bool]:
    return col(Correction.id).in_(select(func.max(Correction.id)).group_by(col(Correction.response)))


def _is_last(*where: ColumnElement[bool] | bool) -> ColumnElement[bool]:
    """The last score of each answer among these; an answer that could not be read has none."""
    scored = (col(Score.response).is_not(None), col(Score.value).is_not(None))
    return col(Score.id).in_(select(func.max(Score.id)).where(*where, *scored).group_by(col(Score.response)))
