"""How people change a dataset's rows. Nothing is changed or deleted: the newest edit of each row counts."""

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from storage.tables import Edit


def write(
    session: Session,
    dataset: int,
    row_key: str,
    person: str,
    now: datetime,
    tags: list[str],
    excluded: str | None,
    row: dict[str, Any] | None,
) -> None:
    """Write down what a person makes of a row: all its tags, why it is left out, and what it says now if it was rewritten."""
    session.add(Edit(at=now, dataset=dataset, row_key=row_key, person=person, tags=tags, excluded=excluded, row=row))


def newest(session: Session, dataset: int) -> dict[str, Edit]:
    """The edit that counts of every row somebody changed, by row key."""
    last = select(func.max(Edit.id)).where(Edit.dataset == dataset).group_by(col(Edit.row_key))
    return {edit.row_key: edit for edit in session.exec(select(Edit).where(col(Edit.id).in_(last)))}
