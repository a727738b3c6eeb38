"""Answers side by side: what several models said to the same prompts, read by the page and never whole.

A column is one model's answers out of one set. Its index, a few plain values a prompt, is all that is kept in memory;
texts are read for the prompts on the screen, or stream past while something is counted over all of them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from storage import queries
from storage.tables import Artifact, Consumed, Response


@dataclass(frozen=True)
class Column:
    """One model's answers in a set: `model` answered, or `source` did and `model` is the set itself."""

    answers: int  # the responses artifact
    run: int  # that made it
    model: int
    source: str = ""


@dataclass(frozen=True)
class Line:
    """What a column's index knows of its answer to one prompt."""

    id: int
    finish_reason: str
    tokens: int | None
    tags: tuple[str, ...]
    references: tuple[str, ...]


def sets(session: Session) -> Sequence[Artifact]:
    """Every set of answers that can be read, newest first."""
    return queries.artifacts(session, "responses")


def columns(answers: Artifact) -> list[Column]:
    """The columns of a set: its models, then its sources."""
    id, run = answers.id or 0, answers.made_by or 0
    models = [Column(id, run, int(model)) for model in answers.summary.get("models", [])]
    return models + [Column(id, run, id, str(source)) for source in answers.summary.get("sources", [])]


def key_of(column: Column, answers: Artifact) -> str:
    """How an address names a column: its set and its model, or its set and the number of its source."""
    return f"{column.answers}-" + (f"s{answers.summary['sources'].index(column.source)}" if column.source else str(column.model))


def column_named(session: Session, key: str) -> tuple[Column | None, Artifact | None]:
    """The column that a key names, None if it is not there (any more), and the set it would be in."""
    id = key.partition("-")[0]
    row = session.get(Artifact, int(id)) if id.isdecimal() and len(id) < 19 else None
    if row is None or row.kind != "responses" or row.ready_at is None or row.deleted_at is not None:
        return None, row
    return next((column for column in columns(row) if key_of(column, row) == key), None), row


def prompts_of(session: Session, answers: Artifact) -> Artifact | None:
    """The dataset that a set's prompts came from; None for imported answers."""
    asked = select(Artifact).join(Consumed, col(Consumed.artifact) == col(Artifact.id))
    return session.exec(asked.where(Consumed.run == answers.made_by, Consumed.field == "prompts")).first()


def samples(session: Session, column: Column) -> int:
    """How many answers a column has to a prompt, at most."""
    return 1 + (session.exec(select(func.max(Response.sample)).where(*_of(column))).one() or 0)


def index(session: Session, column: Column, sample: int = 0) -> dict[str, Line]:
    """A column's lines by prompt key, in the order asked."""
    counted = func.json_array_length(col(Response.token_ids))
    wanted: Any = (Response.prompt_key, Response.id, Response.finish_reason, counted, Response.extra)  # more than select has types for
    rows: Any = select(*wanted)
    found = {}
    for key, id, reason, count, extra in session.exec(rows.where(*_of(column), Response.sample == sample).order_by(col(Response.id))):
        accepted = extra.get("accept") or ([extra["answer"]] if extra.get("answer") else [])
        tokens = count or extra.get("tokens")
        found[key] = Line(id or 0, reason, tokens, tuple(map(str, extra.get("tags") or ())), tuple(map(str, accepted)))
    return found


def texts(session: Session, column: Column, sample: int = 0, batch: int = 500) -> Iterator[Response]:
    """A column's answers one after the other, `batch` of them in memory."""
    rows = select(Response).where(*_of(column), Response.sample == sample).order_by(col(Response.id)).limit(batch)
    after = 0
    while found := session.exec(rows.where(col(Response.id) > after)).all():
        yield from found
        after = found[-1].id or 0
        session.expunge_all()


def read(session: Session, ids: Sequence[int]) -> dict[int, Response]:
    """Answers by their ids."""
    return {row.id or 0: row for row in session.exec(select(Response).where(col(Response.id).in_(ids)))}


def matching(session: Session, shown: Sequence[Column], words: str) -> set[str]:
    """The keys of prompts where every word stands in the prompt or in one column's answer to it."""
    text = or_(*[and_(*_of(column)) for column in shown])
    found: set[str] | None = None
    for word in words.split():
        stored = json.dumps(word)[1:-1]  # JSON keeps what is not ASCII as escapes
        there = or_(
            cast(col(Response.prompt), String).icontains(stored, autoescape=True), col(Response.answer).icontains(word, autoescape=True)
        )
        keys = set(session.exec(select(Response.prompt_key).where(text, there)))
        found = keys if found is None else found & keys
    return found or set()


def changed(session: Session, baseline: Column, others: Sequence[Column], sample: int = 0) -> set[str]:
    """The keys of prompts that some other column answers differently from the baseline."""
    first, second = aliased(Response), aliased(Response)
    keys: set[str] = set()
    for other in others:
        pair = select(first.prompt_key).join(second, col(first.prompt_key) == col(second.prompt_key))
        pair = pair.where(*_of(baseline, first), *_of(other, second), first.sample == sample, second.sample == sample)
        keys |= set(session.exec(pair.where(first.answer != second.answer)))
    return keys


def _of(column: Column, table: type[Response] = Response) -> list[ColumnElement[bool]]:
    named = ((table.run, column.run), (table.artifact, column.model), (table.source, column.source), (table.step, 0))
    return [col(one) == value for one, value in named]
