"""Scores as they are read: which items are known, and what they say of a model at a step.

(artifact, step, suite hash, probe, item) names one measurement; one that was made again counts as it was last.
"""

from typing import Any

import sqlalchemy
from sqlalchemy import case, func
from sqlmodel import Session, col, select

from storage import corrections
from storage.tables import Artifact, Consumed, Response, Score


def values(session: Session, artifact: int, step: int, suite_hash: str, run: int | None = None) -> dict[str, float | None]:
    """The value of each item of a part of a suite, measured by this run or by any; None for an answer that could not be read.

    Where a person corrected it, what the person says counts."""
    query = select(Score.item_key, Score.value, Score.response).where(Score.artifact == artifact, Score.suite_hash == suite_hash)
    query = query.where(Score.step == step, Score.run == run) if run is not None else query.where(Score.step == step)
    found = {key: (value, response) for key, value, response in session.exec(query.order_by(col(Score.id)))}
    said = corrections.newest(session, [response for _, response in found.values() if response])
    return {key: said.get(response or 0, value) for key, (value, response) in found.items()}


def judged(
    session: Session, artifact: int, step: int, suite_hash: str, run: int | None = None
) -> dict[str, tuple[float | None, Response | None]]:
    """The value of each item of a part of a suite with the answer it judges, where there is one; measured by this run or any."""
    query = select(Score.item_key, Response).join(Response, col(Response.id) == col(Score.response), isouter=True)
    query = query.where(Score.artifact == artifact, Score.suite_hash == suite_hash, Score.step == step)
    query = query if run is None else query.where(Score.run == run)
    answers = dict(session.exec(query.order_by(col(Score.id))).all())
    return {key: (value, answers[key]) for key, value in values(session, artifact, step, suite_hash, run).items()}


def by_step(session: Session, artifact: int) -> list[tuple[str, str, int, int, int]]:
    """What was measured of a model while it learned: (probe, suite hash, step, right, items), steps ascending."""
    return [(probe, suite_hash, step, right, n) for probe, suite_hash, step, right, n, _, _ in summary(session, artifact)]


def summary(session: Session, artifact: int) -> list[tuple[str, str, int, int, int, int, float]]:
    """All that was measured of a model: (probe, suite hash, step, right, items, unreadable, mean), steps ascending.

    An item that was measured again counts as it was last, and where a person corrected it, what the person says counts."""
    last = sqlalchemy.select(func.max(col(Score.id))).where(col(Score.artifact) == artifact)
    last = last.group_by(col(Score.probe), col(Score.suite_hash), col(Score.step), col(Score.item_key))
    said = corrections.said()
    value, place = func.coalesce(said.c.value, col(Score.value)), (col(Score.probe), col(Score.suite_hash), col(Score.step))
    right, unreadable = func.sum(case((value == 1, 1), else_=0)), func.sum(case((value.is_(None), 1), else_=0))
    query = sqlalchemy.select(*place, right, func.count(), unreadable, func.coalesce(func.avg(value), 0.0))
    query = query.join(said, said.c.response == col(Score.response), isouter=True).where(col(Score.id).in_(last))
    rows = session.execute(query.group_by(*place).order_by(*place))
    return [(probe, suite, step, int(ok), n, int(lost), float(average)) for probe, suite, step, ok, n, lost, average in rows]


def described(session: Session, model: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What the runs that measured a model say of each probe and suite hash: its title, whether it is a rate, its floor ..."""
    made = select(Artifact).join(Consumed, col(Consumed.run) == col(Artifact.made_by))
    made = made.where(Artifact.kind == "scores", Consumed.artifact == model, col(Artifact.ready_at).is_not(None))
    rows = session.exec(made.order_by(col(Artifact.id))).all()
    told = [row.summary.get("measured", {}).get(str(model), {}) for row in rows]
    return {(probe, one["suite_hash"]): one for probes in told for probe, one in probes.items()}


def models(session: Session, limit: int = 50) -> list[tuple[int, str]]:
    """The models that were measured, newest first."""
    measured = sqlalchemy.select(col(Score.artifact)).distinct()
    query = select(Artifact.id, Artifact.name).where(Artifact.kind == "model", col(Artifact.id).in_(measured))
    query = query.where(col(Artifact.deleted_at).is_(None))
    return [(id or 0, name) for id, name in session.exec(query.order_by(col(Artifact.id).desc()).limit(limit))]


def noise(session: Session, model: int) -> dict[str, Any] | None:
    """The newest measurement of how far a model's scores move by themselves, by probe; None where there is none."""
    made = select(Artifact).where(Artifact.kind == "scores", col(Artifact.ready_at).is_not(None), col(Artifact.deleted_at).is_(None))
    rows = session.exec(made.order_by(col(Artifact.id).desc()))
    return next((row.summary["noise"] for row in rows if row.summary.get("noise") and row.summary.get("model") == model), None)


def newest_model(session: Session) -> int | None:
    """The newest model that was trained here and measured; else the newest measured one."""
    measured = sqlalchemy.select(col(Score.artifact)).distinct()
    query = select(Artifact.id).where(Artifact.kind == "model", col(Artifact.id).in_(measured), col(Artifact.deleted_at).is_(None))
    trained = query.where(col(Artifact.id).in_(select(Score.artifact).where(Score.step > 0)))
    newest = col(Artifact.id).desc()
    return session.exec(trained.order_by(newest).limit(1)).first() or session.exec(query.order_by(newest).limit(1)).first()
