"""A dataset that somebody curates: its rows with what was said of them, how alike and how unlikely they are, and what is
said of them next. Artifacts never change, so what is read of one is kept; what people say is read anew each time.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sqlmodel import Session

from engine import duplicates
from engine.curation import Change, Line, changed, laid
from engine.errors import UserError
from engine.library import existing
from engine.stage import Kind
from storage import edits, queries
from storage.files import Home
from storage.tables import Artifact

MOST = 50_000  # rows; a page that reads more keeps a person waiting and the dashboard large


@dataclass(frozen=True)
class Curated:
    """A dataset and its rows as they stand now, held-out ones last."""

    artifact: Artifact
    lines: list[Line]

    @property
    def format(self) -> str:
        """The layout of its rows."""
        return str(self.artifact.summary.get("format", ""))

    def line(self, key: str) -> Line:
        """One row. Raises UserError if there is none with this key."""
        found = next((line for line in self.lines if line.key == key), None)
        if found is None:
            raise UserError("this dataset has no row {key}: reload the page", field="row", key=repr(key)[:40])
        return found


@dataclass(frozen=True)
class Losses:
    """The mean loss of each row's response under a model, by row key; of a pair, of both answers by their names."""

    scores: Artifact
    model: str
    values: Mapping[str, Mapping[str, float]]

    def first(self) -> dict[str, float]:
        """What rows are sorted by: the loss of the response, or of the chosen one."""
        return {key: next(iter(told.values())) for key, told in self.values.items()}


def read(session: Session, home: Home, dataset: int) -> Curated:
    """A dataset with the newest edit of each row. Raises UserError for what is no dataset that can be curated."""
    artifact = existing(session, dataset)
    if artifact.kind != Kind.DATASET or artifact.ready_at is None:
        raise UserError("{name} is no dataset that is ready: choose one in the library", field="dataset", name=artifact.name)
    rows = artifact.summary.get("rows", 0) + artifact.summary.get("heldout", 0)
    if rows > MOST:
        message = "{name} has {rows} rows and at most {most} can be curated here: mix or import a part of it first"
        raise UserError(message, field="dataset", name=artifact.name, rows=f"{rows:,}", most=f"{MOST:,}")
    said = {key: Change(tuple(row.tags), row.excluded, row.row) for key, row in edits.newest(session, dataset).items()}
    return Curated(artifact, changed(_lines(home.root / artifact.folder), said))


def say(session: Session, dataset: int, line: Line, change: Change, person: str, now: datetime) -> None:
    """Write down what a person makes of a row; what it was before stays written too."""
    if change.row == line.was:
        change = replace(change, row=None)
    if change != now_of(line):
        edits.write(session, dataset, line.key, person, now, list(change.tags), change.excluded, change.row)


def now_of(line: Line) -> Change:
    """What was said of a row so far, to say the next thing beside it."""
    return line.change or Change(line.tags)


def losses(session: Session, home: Home, dataset: int) -> list[Losses]:
    """What was measured of this dataset's rows, the newest first, one for each model."""
    found: dict[int, Losses] = {}
    for scores in reversed(queries.made_from(session, dataset)):
        told = scores.summary.get("row_losses") if scores.kind == Kind.SCORES else None
        if told and told["data"] == dataset and told["model"] not in found:
            model = session.get(Artifact, told["model"])
            found[told["model"]] = Losses(scores, model.name if model else str(told["model"]), _losses(home.root / scores.folder))
    return sorted(found.values(), key=lambda one: -(one.scores.id or 0))


def alike(lines: Sequence[Line]) -> list[list[str]]:
    """Keys of rows that are nearly the same as they stand, the one the others are like first, also of those left out."""
    return _alike(_Rows(lines))


class _Rows:
    """Rows as one key of a cache: the same while no row is rewritten."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.key = tuple((line.key, json.dumps(line.row, sort_keys=True) if line.edited else "") for line in lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=4)
def _alike(rows: _Rows) -> list[list[str]]:
    return [[rows.lines[place].key for place in group] for group in duplicates.groups([line.row for line in rows.lines])]


@lru_cache(maxsize=2)
def _lines(folder: Path) -> Collection[Line]:
    from engine.training.rows import read_rows

    return laid({split: read_rows(folder, split) for split in ("train", "heldout")}, {})


@lru_cache(maxsize=4)
def _losses(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        found.setdefault(one["item_key"], {})[one["probe"]] = one["value"]
    return found
