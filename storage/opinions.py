"""What raters said of single items, for the owner to read: the rows themselves, a few at a time."""

from collections.abc import Collection, Sequence

from sqlalchemy import String, cast, func, or_
from sqlmodel import Session, col, select

from storage.labels import RANK, SETTLE, SKIP, current
from storage.tables import Artifact, Item, Label


def raters(session: Session, rankings: int) -> int:
    """How many ranked or skipped something."""
    query = select(func.count(func.distinct(Label.rater))).where(Label.rankings == rankings, col(Label.act).in_((RANK, SKIP)))
    return session.exec(query).one()


def items(session: Session, ids: Collection[int]) -> dict[int, Item]:
    """These items, by id."""
    return {item.id or 0: item for item in session.exec(select(Item).where(col(Item.id).in_(ids)))}


def of_items(session: Session, rankings: int, ids: Collection[int]) -> dict[int, list[Label]]:
    """What counts of each of these items: rankings, skips, and what an owner settled; oldest first."""
    query = select(Label).where(Label.rankings == rankings, col(Label.item).in_(ids), current((RANK, SKIP, SETTLE)))
    found: dict[int, list[Label]] = {id: [] for id in ids}
    for label in session.exec(query.order_by(col(Label.id))):
        found[label.item].append(label)
    return found


def settled(session: Session, rankings: int) -> list[int]:
    """The items an owner settled, the newest first."""
    query = select(Label.item).where(Label.rankings == rankings, current((SETTLE,)))
    return list(session.exec(query.order_by(col(Label.id).desc())))


def written(session: Session, rankings: int, start: int, limit: int) -> Sequence[Label]:
    """A page of the labels with a comment, a flag, a better answer or a reason for skipping, newest first."""
    texts = [col(Label.comment) != "", col(Label.better) != "", col(Label.reason) != "", cast(col(Label.flags), String) != "{}"]
    query = select(Label).where(Label.rankings == rankings, or_(*texts), current()).order_by(col(Label.id).desc())
    return session.exec(query.offset(start).limit(limit)).all()


def judged(session: Session) -> list[Artifact]:
    """What judges made of projects, newest first."""
    query = select(Artifact).where(Artifact.kind == "rankings", col(Artifact.deleted_at).is_(None), col(Artifact.ready_at).is_not(None))
    return [row for row in session.exec(query.order_by(col(Artifact.id).desc())) if row.summary.get("format") == "judge"]
