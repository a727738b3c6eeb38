"""Two to four columns of answers as figures: what the Compare page shows and what leaves it as a file.

Every rate carries its n and interval. A measure is a scorer with what it compares with: a reference typed by the person,
or each prompt's own. What was once measured on a set is kept, since a set never changes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from pathlib import Path
from statistics import median

from sqlalchemy import Engine
from sqlmodel import Session

from engine.catalogue import did_you_mean, scorers
from engine.errors import UserError
from engine.exchange import Answered, Compared
from engine.statistics import bootstrap_mean, wilson
from storage import answers
from storage.answers import Column, Line
from storage.tables import Response

MOST = 4  # columns
KEY = re.compile(r'"prompt_key": "(\w+)"')


@dataclass(frozen=True)
class Measure:
    """A scorer, and the reference a person typed for it; without one each prompt's own is used."""

    scorer: str
    reference: tuple[str, ...] = ()

    @property
    def is_rate(self) -> bool:
        """Whether it says right or wrong, rather than how much."""
        return scorers()[self.scorer].rate

    def title(self) -> str:
        """ "Contains: Paris"."""
        return scorers()[self.scorer].title + (f": {', '.join(self.reference)}" if self.reference else "")


@dataclass(frozen=True)
class Figure:
    """A rate or a mean over n answers with its 95 % interval; n = 0: nothing could be measured."""

    value: float
    low: float
    high: float
    n: int
    rate: bool = True


def measure_named(scorer: str, reference: Sequence[str]) -> Measure:
    """A measure from what a person chose. Raises UserError for an unknown scorer and for a reference it cannot read."""
    if scorer not in scorers():
        raise UserError("there is no scorer named {name}; {hint}", field="scorer", name=repr(scorer), hint=did_you_mean(scorer, scorers()))
    scorers()[scorer].score([], "", reference)
    return Measure(scorer, tuple(reference))


@lru_cache(maxsize=24)
def index(database: Engine, column: Column, sample: int = 0) -> Mapping[str, Line]:
    """A column's lines by prompt key, read once."""
    with Session(database) as session:
        return answers.index(session, column, sample)


@lru_cache(maxsize=64)
def samples(database: Engine, column: Column) -> int:
    """How many answers a column has to a prompt, at most."""
    with Session(database) as session:
        return answers.samples(session, column)


@lru_cache(maxsize=24)
def order(responses: Path) -> list[str]:
    """The prompt keys of a set in the order its prompts were given in; rows are stored as they are answered, longest first."""
    if not responses.exists():
        return []
    with responses.open(encoding="utf-8") as file:
        return list(dict.fromkeys(found[1] for line in file if (found := KEY.search(line))))


@lru_cache(maxsize=64)
def values(database: Engine, column: Column, measure: Measure, sample: int = 0) -> Mapping[str, float]:
    """What a measure says of each answer of a column, by prompt key; what it cannot say anything about is left out."""
    lines, found = index(database, column, sample), {}
    with Session(database) as session:
        for row in answers.texts(session, column, sample):
            value = score(measure, row, lines[row.prompt_key].references)
            if value is not None:
                found[row.prompt_key] = value
    return found


def score(measure: Measure, row: Response, references: Sequence[str]) -> float | None:
    """What a measure says of one answer; None when it does not apply, as when a prompt's own reference is none for this scorer."""
    try:
        value = scorers()[measure.scorer].score(row.prompt, row.answer, measure.reference or references)
    except UserError:
        if measure.reference:
            raise
        return None
    return None if isnan(value) else value


def rate(right: Iterable[bool]) -> Figure:
    """A share with Wilson's interval."""
    given = list(right)
    low, high = wilson(sum(given), len(given))
    return Figure(sum(given) / len(given) if given else 0.0, low, high, len(given))


def mean(numbers: Iterable[float]) -> Figure:
    """A mean with its bootstrap interval."""
    given = list(numbers)
    middle, low, high = bootstrap_mean(given) if given else (0.0, 0.0, 0.0)
    return Figure(middle, low, high, len(given), rate=False)


def stop_rate(lines: Iterable[Line]) -> Figure:
    """How often the model stopped by itself, among answers of which that is known."""
    return rate(line.finish_reason == "stop" for line in lines if line.finish_reason in ("stop", "length"))


def median_tokens(lines: Iterable[Line]) -> float | None:
    """The middle length in tokens of the model's own tokenizer; None where nobody counted."""
    counted = [line.tokens for line in lines if line.tokens is not None]
    return median(counted) if counted else None


def figure(database: Engine, column: Column, measure: Measure, keys: Sequence[str], sample: int = 0) -> Figure:
    """A measure over some prompts of a column."""
    known = values(database, column, measure, sample)
    given = [known[key] for key in keys if key in known]
    return rate(value == 1 for value in given) if measure.is_rate else mean(given)


def tags(lines: Iterable[Line]) -> dict[str, int]:
    """How many prompts carry each tag, the most frequent first."""
    counted: dict[str, int] = {}
    for line in lines:
        for tag in line.tags:
            counted[tag] = counted.get(tag, 0) + 1
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def rows(
    database: Engine, columns: Sequence[Column], measures: Sequence[Measure], keys: Sequence[str], sample: int = 0, batch: int = 200
) -> Iterator[Compared]:
    """What leaves the page: prompts with every column's answer, `batch` of them in memory."""
    lines = [index(database, column, sample) for column in columns]
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        with Session(database) as session:
            found = answers.read(session, [known[key].id for known in lines for key in part if key in known])
        for key in part:
            sides = [found.get(known[key].id) if key in known else None for known in lines]
            first = next(row for row in sides if row)
            line = next(known[key] for known in lines if key in known)
            told = [_answered(row, known.get(key), measures) if row else None for row, known in zip(sides, lines, strict=True)]
            yield Compared(key, first.prompt, list(line.tags), list(line.references), told)


def _answered(row: Response, line: Line | None, measures: Sequence[Measure]) -> Answered:
    said = {measure.title(): score(measure, row, line.references if line else ()) for measure in measures}
    known = {name: value for name, value in said.items() if value is not None}
    return Answered(row.answer, str(row.extra.get("thought", "")), row.finish_reason, line.tokens if line else None, known)
