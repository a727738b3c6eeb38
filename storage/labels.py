"""Ranking projects: who gets which item, and what was said of it. Functions take the session; the clock is an argument.

An item has as many places as it wants raters. A place is taken by who ranked it and by who holds it by a lease that has
not expired; not by a skip, so that somebody else is asked, nor by a label that is extra. A project is complete when every
item was said by as many as it wants, skips and extra labels too, and nobody who was here lately has anything left to do:
no repeat, no item that everybody gets, none that others skipped. Labels are only ever added: an undo or a correction is a
row that supersedes another, and current is what no row supersedes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from storage.tables import Artifact, Guideline, Item, Label, Lease, Project

RANK, SKIP, UNDO, SETTLE = "rank", "skip", "undo", "settle"
NORMAL, GOLD, PRACTICE, REPEAT = "normal", "gold", "practice", "repeat"
COUNTED = (NORMAL, GOLD)  # a project is complete when these have their raters
GAP = 5  # items between one and its repeat
# Made once: to make an alias takes longer than most of these queries.
SUPERSEDING, FIRST, SINCE = aliased(Label), aliased(Label), aliased(Label)


def open_project(
    session: Session, artifact: int, settings: dict[str, Any], guideline: str, items: Sequence[Item], now: datetime
) -> Project:
    """Write a project with its items and the first version of its guideline. Items name the place of the item they repeat in `of`."""
    project = Project(artifact=artifact, settings=settings)
    session.add(project)
    session.flush()
    session.add(Guideline(project=artifact, version=1, text=guideline, person="", at=now))
    ids: list[int] = []
    for item in items:
        item.of = None if item.of is None else ids[item.of]
        session.add(item)
        session.flush()
        ids.append(item.id or 0)
    return project


def projects(session: Session) -> Sequence[tuple[Project, Artifact]]:
    """Every project that was not deleted, newest first."""
    query = select(Project, Artifact).join(Artifact, col(Artifact.id) == col(Project.artifact)).where(col(Artifact.deleted_at).is_(None))
    return session.exec(query.order_by(col(Project.artifact).desc())).all()


def open_projects(session: Session) -> list[Artifact]:
    """The artifacts of projects in which people may still rank, newest first."""
    return [artifact for project, artifact in projects(session) if project.closed_at is None and artifact.ready_at is None]


def is_open(session: Session, artifact: int) -> bool:
    """Whether people may still rank: it is a project and nobody closed it."""
    project = session.get(Project, artifact)
    return project is not None and project.closed_at is None


def close(session: Session, project: Project, now: datetime) -> None:
    """End a project: its artifact is ready, and what waits for it can go on. Does nothing the second time."""
    if project.closed_at is None:
        project.closed_at = now
        artifact = session.get_one(Artifact, project.artifact)
        artifact.ready_at = artifact.ready_at or now


def guideline(session: Session, project: int) -> Guideline:
    """Its newest version."""
    query = select(Guideline).where(Guideline.project == project).order_by(col(Guideline.version).desc()).limit(1)
    return session.exec(query).one()


def items(session: Session, project: int) -> Sequence[Item]:
    """All items of a project, in their order."""
    return session.exec(select(Item).where(Item.project == project).order_by(col(Item.position), col(Item.id))).all()


def current(acts: Sequence[str] = (RANK, SKIP), table: type[Label] = Label) -> ColumnElement[bool]:
    """Which labels count: of these acts, and not superseded."""
    superseded = select(SUPERSEDING.id).where(SUPERSEDING.supersedes == col(table.id)).exists()
    return and_(col(table.act).in_(acts), ~superseded)


def labels(session: Session, rankings: int, acts: Sequence[str] = (RANK, SKIP)) -> Sequence[Label]:
    """The current labels of a project, or of what a judge made of one, oldest first."""
    return session.exec(select(Label).where(Label.rankings == rankings, current(acts)).order_by(col(Label.id))).all()


def done_by(session: Session, project: int, rater: str) -> int:
    """How many items a rater ranked or skipped, practice not counted."""
    query = select(func.count()).select_from(Label).join(Item, col(Item.id) == col(Label.item))
    return session.exec(query.where(Label.rankings == project, Label.rater == rater, current(), Item.kind != PRACTICE)).one()


def progress(session: Session, project: Project) -> tuple[int, int]:
    """How many items have their raters, and how many items there are: "12 of 60"."""
    counted = and_(col(Item.project) == project.artifact, col(Item.kind).in_(COUNTED))
    total = session.exec(select(func.count()).select_from(Item).where(counted)).one()
    lacking = select(func.count()).select_from(Item).where(counted, _said(project.artifact) < _wanted(project))
    return total - session.exec(lacking).one(), total


def is_complete(session: Session, project: Project, now: datetime, lately: timedelta) -> bool:
    """Whether every item has its raters, and nobody who was here lately has anything left to do. It looks from the end, where
    a project is complete last."""
    counted = and_(col(Item.project) == project.artifact, col(Item.kind).in_(COUNTED))
    lacking = select(Item.id).where(counted, _said(project.artifact) < _wanted(project))
    if session.exec(lacking.order_by(col(Item.position).desc()).limit(1)).first() is not None:
        return False
    held = select(Lease.rater).join(Item, col(Item.id) == col(Lease.item)).where(Item.project == project.artifact)
    if session.exec(held.where(col(Lease.expires_at) > now).limit(1)).first() is not None:
        return False
    here = select(Label.rater).where(Label.rankings == project.artifact, col(Label.act) != SETTLE, col(Label.at) > now - lately)
    return all(_next(session, project.artifact, rater, now) is None for rater in session.exec(here.distinct()))


def open_to(session: Session, project: Project, rater: str, now: datetime) -> int:
    """How many items this rater could still be given."""
    kinds = col(Item.kind).in_(COUNTED)
    query = select(func.count()).select_from(Item).where(Item.project == project.artifact, kinds, *_free(project.artifact, rater, now))
    return session.exec(query).one()


def lease(session: Session, item: int, rater: str) -> Lease | None:
    """What says that this item was given to this rater, expired or not."""
    return session.get(Lease, (item, rater))


def holds(session: Session, project: int, rater: str) -> Lease | None:
    """The lease this rater got last in a project."""
    query = select(Lease).join(Item, col(Item.id) == col(Lease.item)).where(Item.project == project, Lease.rater == rater)
    return session.exec(query.order_by(col(Lease.given_at).desc()).limit(1)).first()


def settlement(session: Session, rankings: int, item: int) -> Label | None:
    """What an owner decided about an item."""
    return session.exec(select(Label).where(Label.rankings == rankings, Label.item == item, current((SETTLE,)))).first()


def add_guideline(session: Session, project: int, text: str, person: str, now: datetime) -> int:
    """A new version of a project's guideline; its number."""
    version = guideline(session, project).version + 1
    session.add(Guideline(project=project, version=version, text=text, person=person, at=now))
    return version


def assign(
    session: Session, project: Project, rater: str, now: datetime, until: datetime, order: Callable[[Item], list[str]]
) -> tuple[Item, Lease] | None:
    """The item this rater works on, held until then: the one they hold already, or else the next; None when there is none.

    `order` says in which order an item's answers are shown. Call it inside `transaction`, so that nobody is between.
    """
    held = select(Item, Lease).join(Lease, col(Lease.item) == col(Item.id)).where(Item.project == project.artifact, Lease.rater == rater)
    for item, one in session.exec(held.order_by(col(Lease.given_at).desc(), col(Item.position))):
        if one.expires_at > now or has_room(session, item, rater, now):
            one.expires_at = until
            return item, one
    found = _next(session, project.artifact, rater, now)
    if found is None:
        return None
    given = lease(session, found.id or 0, rater)
    given = given or Lease(item=found.id or 0, rater=rater, shown=order(found), given_at=now, expires_at=until)
    given.expires_at = until
    session.add(given)
    return found, given


def has_room(session: Session, item: Item, rater: str, now: datetime) -> bool:
    """Whether an item has a place for this rater beside the others."""
    return session.exec(select(Item.id).where(Item.id == item.id, _room(item.project, rater, now))).first() is not None


def extra(session: Session, rankings: int) -> int:
    """How many labels came when their items had their raters: see `Label.extra`."""
    query = select(func.count()).select_from(Label).where(Label.rankings == rankings, col(Label.extra), current())
    return session.exec(query).one()


def last_of(session: Session, project: int, rater: str) -> Label | None:
    """The last thing this rater said that still counts."""
    query = select(Label).where(Label.rankings == project, Label.rater == rater, current())
    return session.exec(query.order_by(col(Label.id).desc()).limit(1)).first()


def taken_back(session: Session, project: int, item: int, rater: str) -> Label | None:
    """What this rater had said of an item, if they took it back and have said nothing of it since."""
    query = select(Label).where(Label.rankings == project, Label.item == item, Label.rater == rater)
    last = session.exec(query.order_by(col(Label.id).desc()).limit(1)).first()
    return session.get(Label, last.supersedes) if last and last.act == UNDO else None


def counting(session: Session, item: int, events: Sequence[str]) -> Label | None:
    """The label of an item that one of these presses wrote and that still counts."""
    return session.exec(select(Label).where(Label.item == item, col(Label.client_event_id).in_(events), current())).first()


def with_event(session: Session, client_event_id: str) -> Label | None:
    """The label that this press wrote."""
    return session.exec(select(Label).where(Label.client_event_id == client_event_id)).first()


def _next(session: Session, project: int, rater: str, now: datetime) -> Item | None:
    here = select(Item).where(Item.project == project).limit(1)
    few, many = here.order_by(col(Item.kind), col(Item.id)), here.order_by(col(Item.position), col(Item.id))  # each by its own index
    mine = _mine(project, rater)
    after = and_(col(SINCE.rankings) == project, col(SINCE.rater) == rater, current(table=SINCE), col(SINCE.id) > col(FIRST.id))
    since = select(func.count()).where(after).scalar_subquery()

    def again(gap: int) -> ColumnElement[bool]:
        said = select(FIRST.id).where(FIRST.item == Item.of, FIRST.rater == rater, current((RANK,), FIRST), since >= gap)
        return and_(col(Item.kind) == REPEAT, ~mine, said.correlate(Item).exists())

    ways = [
        few.where(col(Item.kind) == PRACTICE, ~mine),
        few.where(again(GAP)),
        many.where(col(Item.kind).in_(COUNTED), *_free(project, rater, now)),
        few.where(again(1)),
    ]
    return next((found for way in ways if (found := session.exec(way).first())), None)


def _mine(project: int, rater: str) -> ColumnElement[bool]:
    query = select(Label.id).where(Label.rankings == project, Label.item == Item.id, Label.rater == rater, current())
    return query.correlate(Item).exists()


def _free(project: int, rater: str, now: datetime) -> list[ColumnElement[bool]]:
    """Not said by this rater yet, and with a place for them."""
    return [~_mine(project, rater), _room(project, rater, now)]


def _room(project: int, rater: str, now: datetime) -> ColumnElement[bool]:
    others = select(func.count()).select_from(Label).where(Label.rankings == project, Label.item == Item.id, Label.rater != rater)
    ranked = others.where(current((RANK,)), ~col(Label.extra)).correlate(Item).scalar_subquery()
    holders = select(func.count()).select_from(Lease).where(Lease.item == Item.id, Lease.rater != rater, col(Lease.expires_at) > now)
    holding = holders.correlate(Item).scalar_subquery()
    return or_(col(Item.kind).not_in(COUNTED), col(Item.wanted) == 0, ranked + holding < col(Item.wanted))


def _said(project: int) -> Any:
    query = select(func.count()).select_from(Label).where(Label.rankings == project, Label.item == Item.id, current())
    return query.correlate(Item).scalar_subquery()


def _wanted(project: Project) -> Any:
    """What everybody gets is complete once as many as usual have said it."""
    return func.coalesce(func.nullif(col(Item.wanted), 0), max(1, int(project.settings.get("raters", 1))))
