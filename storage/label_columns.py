"""A project's labels and items as columns of text, for statistics: 100,000 labels are read in a tenth of a second.

What the database can join it joins: a row of Python for each label would take longer than all that is counted then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import String, cast, func
from sqlmodel import Session, col, select

from storage.labels import RANK, SKIP
from storage.tables import Item, Label

END = "\n"  # between two values: JSON has none within


@dataclass(frozen=True)
class Column:
    """All that one rater ranked, or skipped, each list in the same order; what was taken back is there too. `last`: when."""

    rater: str
    act: str
    ids: list[int]
    items: list[int]
    active_ms: list[int]
    tiers: list[str]  # JSON
    shown: list[str]  # JSON
    last: datetime


def labels(session: Session, rankings: int, after: int, last: int) -> list[Column]:
    """The rankings and skips of a project, or of a judge, by rater: those with ids above `after`, up to `last`."""
    texts = [_joined(column) for column in (Label.id, Label.item, Label.active_ms, Label.tiers, Label.shown)]
    query = select(Label.rater, Label.act, *texts, func.max(Label.at)).where(Label.rankings == rankings, col(Label.act).in_((RANK, SKIP)))  # type: ignore[call-overload]
    query = query.where(col(Label.id) > after, col(Label.id) <= last)
    rows = session.exec(query.group_by(Label.rater, Label.act).order_by(Label.rater, Label.act))
    return [
        Column(rater, act, _numbers(ids), _numbers(items), _numbers(active), tiers.split(END), shown.split(END), last)
        for rater, act, ids, items, active, tiers, shown, last in rows
    ]


def superseded(session: Session, rankings: int) -> set[int]:
    """The labels that do not count any more."""
    here = col(Label.rankings) + 0 == rankings  # no index on it is used so: few labels supersede one, and those have an index of their own
    return {id for id in session.exec(select(Label.supersedes).where(here, col(Label.supersedes) > 0)) if id}


def last(session: Session, rankings: int) -> int:
    """The newest label, which says whether anything has changed: labels are only ever added."""
    return session.exec(select(func.max(Label.id)).where(Label.rankings == rankings)).one() or 0


def items(session: Session, project: int) -> Sequence[Any]:
    """(id, kind, of, wanted, prompt key, gold, answers as JSON) of every item of a project; no prompts."""
    columns = (Item.id, Item.kind, Item.of, Item.wanted, Item.prompt_key, Item.gold, cast(col(Item.answers), String))
    return session.exec(select(*columns).where(Item.project == project).order_by(col(Item.position), col(Item.id))).all()  # type: ignore[call-overload]


def _joined(column: Any) -> Any:
    return func.aggregate_strings(cast(col(column), String), END)


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(END)]
