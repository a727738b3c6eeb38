"""Scores as they are read: which items are known, and what they say of a model at a step.

(artifact, step, suite hash, probe, item) names one measurement; one that was made again counts as it was last.
"""

import sqlalchemy
from sqlalchemy import case, func
from sqlmodel import Session, col, select

from storage import corrections
from storage.tables import Response, Score


def values(session: Session, artifact: int, step: int, suite_hash: str, run: int | None = None) -> dict[str, float | None]:
    """The value of each item of a part of a suite, measured by this run or by any; None for an answer that could not be read.

    Where a person corrected it, what the person says counts."""
    query = select(Score.item_key, Score.value, Score.response).where(Score.artifact == artifact, Score.suite_hash == suite_hash)
    query = query.where(Score.step == step, Score.run == run) if run is not None else query.where(Score.step == step)
    found = {key: (value, response) for key, value, response in session.exec(query.order_by(col(Score.id)))}
    said = corrections.newest(session, [response for _, response in found.values() if response])
    return {key: said.get(response or 0, value) for key, (value, response) in found.items()}


def judged(session: Session, artifact: int, step: int, suite_hash: str) -> dict[str, tuple[float | None, Response | None]]:
    """The value of each item of a part of a suite with the answer it judges, where there is one."""
    query = select(Score.item_key, Response).join(Response, col(Response.id) == col(Score.response), isouter=True)
    query = query.where(Score.artifact == artifact, Score.suite_hash == suite_hash, Score.step == step)
    answers = dict(session.exec(query.order_by(col(Score.id))).all())
    return {key: (value, answers[key]) for key, value in values(session, artifact, step, suite_hash).items()}


def by_step(session: Session, artifact: int) -> list[tuple[str, str, int, int, int]]:
    """What was measured of a model while it learned: (probe, suite hash, step, right, items), steps ascending."""
    right, place = func.sum(case((col(Score.value) == 1, 1), else_=0)), (col(Score.probe), col(Score.suite_hash), col(Score.step))
    query = sqlalchemy.select(*place, right, func.count()).where(col(Score.artifact) == artifact).group_by(*place).order_by(*place)
    return [(probe, suite_hash, step, int(ok), n) for probe, suite_hash, step, ok, n in session.execute(query)]
