"""What a project's labels say, in figures: who ranked how much, how far people agree, what biases them, which model they prefer.

One function counts, whether the labels come as `Rankings`, as stages and recipes have them, or as columns read from the
database, as the owner's page needs them to be drawn at once. Practice items never count, items with a known order count
for gold accuracy alone, repeats for self-consistency alone.
"""

import gc
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import compress
from statistics import median
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlmodel import Session

from engine.agreement import (
    Bias,
    Gold,
    disagreements,
    gold,
    krippendorff_alpha,
    length_bias,
    mean_tau_b,
    pair_agreement,
    position_bias,
    self_consistency,
    tie_rate,
)
from engine.counting import Columns, Numbers, Ranking, count
from engine.rankings import Rankings, as_tiers, criteria, project_of
from engine.statistics import Figure, clustered_rate
from engine.strengths import Strength, cycles, strengths, win_matrix
from storage import label_columns, labels
from storage.labels import COUNTED, GOLD, NORMAL, PRACTICE, RANK, REPEAT, SKIP

PROJECTS = 4  # whose counted labels are kept: 20 MB each, where there are 100,000
AT_ONCE = 1000  # labels parsed at a time: more small lists than that keep the garbage collector busy


class Fact(NamedTuple):
    """What is counted of an item: its answers as (key, who gave it, characters)."""

    kind: str
    of: int | None
    wanted: int
    prompt: str
    answers: tuple[tuple[str, str, int], ...]
    gold: tuple[tuple[str, ...], ...] | None


NOTHING = Fact("", None, 0, "", (), None)  # an item of another project, on which a judge was tested


@dataclass(frozen=True)
class Piece:
    """What one rater ranked, or skipped, or a piece of it."""

    rater: str
    act: str
    items: list[int]
    tiers: Sequence[Sequence[Sequence[str]]]
    shown: Sequence[Sequence[str]]
    active_ms: list[int]
    last: datetime | None


@dataclass(frozen=True)
class Person:
    """What one rater did, practice left out: items ranked and skipped, repeats, median seconds of work on an item, last seen."""

    name: str
    ranked: int
    skipped: int
    repeats: int
    seconds: float | None
    last: datetime | None


@dataclass(frozen=True)
class Summary:
    """A project, or a judge's labels, by one criterion. `done` of `items` have all their raters; `wins` is (models, models)."""

    criterion: str
    done: int
    items: int
    people: list[Person]
    agreement: Figure
    alpha: Figure
    tau: Figure
    consistency: Figure
    ties: Figure
    skips: Figure
    position: Bias
    length: Bias
    gold: Gold
    strengths: list[Strength]
    models: tuple[str, ...]
    wins: Numbers
    cycles: list[tuple[str, ...]]
    disagreements: list[tuple[int, float]]  # items, the worst first, with the share of pairs that is disputed
    extra: int  # labels that came when their items had their raters

    @property
    def raters(self) -> int:
        """How many ranked something."""
        return sum(bool(one.ranked) for one in self.people)

    @property
    def preferred(self) -> tuple[Strength, Strength] | None:
        """The strongest model and the weakest, where both can be told."""
        told = [one for one in self.strengths if one.strength.value is not None]
        return (told[0], told[-1]) if len(told) > 1 else None


def summary(rankings: Rankings, criterion: str = "") -> Summary:
    """What these labels say by a criterion, the first one unless named."""
    name = criterion or rankings.criteria[0]
    facts = {
        id: Fact(one.kind, one.of, one.wanted, one.prompt_key, tuple((c.key, c.by, len(c.text)) for c in one.choices), one.gold)
        for id, one in rankings.items.items()
    }
    said = defaultdict(list)
    for one in rankings.said:
        said[one.rater, one.act].append(one)
    columns = [
        Piece(rater, act, [one.item for one in rows], [one.tiers.get(name, ()) for one in rows], [one.shown for one in rows],
             [one.active_ms for one in rows], None)
        for (rater, act), rows in sorted(said.items())
    ]  # fmt: skip
    counted = _Counted()
    for piece in columns:
        counted.add(piece, facts)
    return counted.summary(name, facts, int(rankings.settings.get("raters", 1)), sum(one.extra for one in rankings.said))


def of_project(database: Engine, rankings: int, criterion: str = "") -> Summary:
    """The same, read from the database; kept until another label is written. Raises UserError if there are no such rankings."""
    with Session(database) as session:
        names = criteria(project_of(session, rankings).settings)
        return _kept(database, rankings, criterion or names[0], label_columns.last(session, rankings))


_counting = Lock()  # one page counts at a time
_counted: "dict[tuple[Engine, int, str], _Counted]" = {}


@lru_cache(maxsize=8)
def _kept(database: Engine, rankings: int, criterion: str, last: int) -> Summary:
    with Session(database) as session, _uncollected(), _counting:
        project = project_of(session, rankings)
        facts, gone = _facts(database, project.artifact), label_columns.superseded(session, rankings)
        counted = _counted.get((database, rankings, criterion))
        if counted is None or counted.gone != gone:  # what was taken back cannot be counted off
            counted = _Counted(gone)
        for one in label_columns.labels(session, rankings, counted.last, last):
            for piece in _parsed(one, criterion, gone):
                counted.add(piece, facts)
        counted.last = last
        _counted.pop((database, rankings, criterion), None)
        _counted[database, rankings, criterion] = counted
        while len(_counted) > PROJECTS:
            del _counted[next(iter(_counted))]
        return counted.summary(criterion, facts, int(project.settings.get("raters", 1)), labels.extra(session, rankings))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through a million new lists for cycles that are not there: half of the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@lru_cache(maxsize=4)
def _facts(database: Engine, project: int) -> Mapping[int, Fact]:
    """A project's items, which never change."""
    with Session(database) as session:
        rows = label_columns.items(session, project)
    facts = {}
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        for (id, kind, of, wanted, prompt, known, _), answers in zip(some, _loaded([row[6] for row in some]), strict=True):
            told = tuple((one["key"], one["by"], len(one["text"])) for one in answers)
            facts[id] = Fact(kind, of, wanted, prompt, told, as_tiers(known))
    return facts


def _parsed(column: label_columns.Column, criterion: str, gone: set[int]) -> Iterator[Piece]:
    """A rater's labels that count, a piece at a time."""
    for at in range(0, len(column.ids), AT_ONCE):
        counts = [id not in gone for id in column.ids[at : at + AT_ONCE]]
        items, active = (list(compress(side[at : at + AT_ONCE], counts)) for side in (column.items, column.active_ms))
        tiers, shown = (_loaded(list(compress(side[at : at + AT_ONCE], counts))) for side in (column.tiers, column.shown))
        told = [one.get(criterion, ()) for one in tiers]
        yield Piece(column.rater, column.act, items, told, shown, active, column.last)


def _loaded(texts: Sequence[str]) -> list[Any]:
    return list(json.loads(f"[{','.join(texts)}]"))


class _Counted:
    """Labels counted so far, up to the one with id `last`; `gone` are those that do not count any more."""

    def __init__(self, gone: set[int] | None = None) -> None:
        self.columns, self.gold, self.people = Columns(), list[Ranking](), dict[str, _Tally]()
        self.given = {RANK: Counter[int](), SKIP: Counter[int]()}
        self.gone, self.last = gone or set(), 0

    def add(self, one: Piece, facts: Mapping[int, Fact]) -> None:
        """Count some more labels."""
        own = [facts.get(item, NOTHING) for item in one.items]
        self.people.setdefault(one.rater, _Tally()).add(one, [fact.kind for fact in own])
        self.given[one.act].update(one.items)
        if one.act != RANK:
            return
        counts = [fact.kind in (NORMAL, REPEAT) and bool(order) for fact, order in zip(own, one.tiers, strict=True)]
        items = [item if fact.of is None else fact.of for item, fact in zip(one.items, own, strict=True)]
        again = [fact.of is not None for fact in own]
        tiers, shown = list(compress(one.tiers, counts)), list(compress(one.shown, counts))
        self.columns.add(list(compress(items, counts)), compress(again, counts), one.rater, tiers, shown)
        self.gold += [
            Ranking(item, one.rater, as_tiers(order) or ())
            for item, fact, order in zip(one.items, own, one.tiers, strict=True)
            if fact.kind == GOLD and order
        ]

    def summary(self, criterion: str, facts: Mapping[int, Fact], raters: int, extra: int) -> Summary:
        """What they say."""
        given = self.given
        normal = {item: fact for item, fact in facts.items() if fact.kind == NORMAL}
        table = count(self.columns, {(item, key): length for item, fact in normal.items() for key, _, length in fact.answers})
        prompts = {prompt: place for place, prompt in enumerate({fact.prompt: None for fact in normal.values()})}
        by = {item: {key: name for key, name, _ in normal[item].answers} for item in table.items}
        wins = win_matrix(table, by, {item: prompts[normal[item].prompt] for item in table.items})
        skipped, all_ = ([given[SKIP][item] + (given[RANK][item] if ranked else 0) for item in normal] for ranked in (False, True))
        wanted = {item: fact.wanted or max(1, raters) for item, fact in facts.items() if fact.kind in COUNTED}
        return Summary(
            criterion=criterion,
            done=sum(given[RANK][item] + given[SKIP][item] >= least for item, least in wanted.items()),
            items=len(wanted),
            people=[tally.person(name) for name, tally in sorted(self.people.items())],
            agreement=pair_agreement(table),
            alpha=krippendorff_alpha(table),
            tau=mean_tau_b(table),
            consistency=self_consistency(table),
            ties=tie_rate(table),
            skips=clustered_rate(skipped, all_),
            position=position_bias(table),
            length=length_bias(table),
            gold=gold(self.gold, {item: fact.gold for item, fact in facts.items() if fact.kind == GOLD and fact.gold}),
            strengths=strengths(wins),
            models=wins.models,
            wins=wins.total,
            cycles=[tuple(wins.models[place] for place in one) for one in cycles(wins.total)],
            disagreements=disagreements(table),
            extra=extra,
        )


class _Tally:
    """What one rater did, counted piece by piece."""

    def __init__(self) -> None:
        self.counts, self.active = Counter[tuple[str, bool]](), list[int]()
        self.last: datetime | None = None

    def add(self, said: Piece, kinds: Sequence[str]) -> None:
        for kind, n in Counter(kinds).items():
            self.counts[said.act, kind == REPEAT] += n if kind and kind != PRACTICE else 0
        self.active += [spent for spent, kind in zip(said.active_ms, kinds, strict=True) if kind != PRACTICE]
        self.last = max(filter(None, (self.last, said.last)), default=None)

    def person(self, name: str) -> Person:
        seconds = median(self.active) / 1000 if self.active else None
        repeats = self.counts[RANK, True] + self.counts[SKIP, True]
        return Person(name, self.counts[RANK, False], self.counts[SKIP, False], repeats, seconds, self.last)
