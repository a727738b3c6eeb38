"""Rankings as numbers: 100,000 of them become one table, in less than a second, that all figures of agreement are read from.

A ranking is read as what it says of each two of its answers. Which of the two counts as the first is decided by a hash
of the item and the answer, never by model or position: told by model, agreement on a model that mostly wins looks poor.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, combinations
from typing import Any

import numpy
from numpy.typing import NDArray

UNKNOWN = 2  # said of two answers of which one was not ranked
Tiers = tuple[tuple[str, ...], ...]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Ranking:
    """One rater's order of an item's answers: keys in `tiers`, best first, each key once.

    A ranking of a repeated item (`of` names the item it repeats, with the same keys) counts for self-consistency alone.
    """

    item: int
    rater: str
    tiers: Tiers
    shown: tuple[str, ...] = ()  # as on the screen
    lengths: Mapping[str, int] = field(default_factory=dict)  # characters
    of: int | None = None


class Columns:
    """Rankings side by side, added piece by piece; `item` is the repeated one where `again`. All lists of one piece are equally long."""

    def __init__(self) -> None:
        self.item: list[int] = []
        self.again: list[bool] = []
        self.rater: list[int] = []
        self.raters: dict[str, int] = {}
        self.tiers: list[int] = []  # of each ranking
        self.sizes: list[int] = []  # of each tier
        self.placed: list[str] = []  # keys, ranking after ranking, best first
        self.shown: list[int] = []  # of each ranking, answers on the screen
        self.seen: list[str] = []  # keys as on the screen

    def add(
        self, items: Iterable[int], again: Iterable[bool], rater: str, tiers: Sequence[Any], shown: Sequence[Sequence[str]]
    ) -> None:
        """One rater's rankings."""
        self.item.extend(items)
        self.again.extend(again)
        self.rater.extend([self.raters.setdefault(rater, len(self.raters))] * len(tiers))
        self.tiers.extend(map(len, tiers))
        flat = list(chain.from_iterable(tiers))
        self.sizes.extend(map(len, flat))
        self.placed.extend(chain.from_iterable(flat))
        self.shown.extend(map(len, shown))
        self.seen.extend(chain.from_iterable(shown))


@dataclass(frozen=True)
class Table:
    """All rankings as numbers, sorted by item: the last of each rater and item, repeats apart. Made once, read by many figures."""

    items: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]  # of each item, in hash order
    raters: int
    item: Numbers  # (rankings,) place in `items`
    ranks: Numbers  # (rankings, answers) 0 is best, -1 where there is none, in the order of `keys`
    said: Numbers  # (rankings, pairs) 1 the first is better, -1 the second, 0 a tie, UNKNOWN
    longer: Numbers  # (rankings, pairs) 1 the first is longer, -1 the second, 0 equal or not known
    won: Numbers  # (rankings,) place on the screen of the answer put first alone; -1 where there is none
    shown: Numbers  # (rankings,) answers on the screen
    again: Numbers  # (repeats, 3) place in `items`, pairs of which its rater says the same as before, pairs of both


Labels = Sequence[Ranking] | Table


def pairs(ranking: Ranking) -> dict[tuple[str, str], int]:
    """Each two of its answers, in hash order: 1 the first is better, -1 the second, 0 a tie."""
    rank = {key: place for place, tier in enumerate(ranking.tiers) for key in tier}
    origin = ranking.item if ranking.of is None else ranking.of
    return {(a, b): (rank[b] > rank[a]) - (rank[b] < rank[a]) for a, b in combinations(_ordered(origin, rank), 2)}


def tabulate(labels: Labels) -> Table:
    """The rankings as numbers; a table is given back as it is."""
    if isinstance(labels, Table):
        return labels
    columns, lengths = Columns(), dict[tuple[int, str], int]()
    for row in labels:
        item = row.item if row.of is None else row.of
        columns.add([item], [row.of is not None], row.rater, [row.tiers], [row.shown])
        lengths |= {(item, key): length for key, length in row.lengths.items()}
    return count(columns, lengths)


def count(columns: Columns, lengths: Mapping[tuple[int, str], int]) -> Table:
    """The table of these rankings; `lengths` of answers in characters, by item and key."""
    again, of = numpy.array(columns.again, bool), numpy.array(columns.item, int)
    rater = numpy.array(columns.rater, int)
    who = max(1, len(columns.raters))
    given = numpy.arange(len(of))
    placed, sizes = numpy.array(columns.tiers, int), numpy.array(columns.sizes, int)
    tier_of = numpy.repeat(given, placed)  # the ranking of each tier
    tier = numpy.arange(len(sizes)) - numpy.repeat(numpy.cumsum(placed) - placed, placed)
    row, rank = numpy.repeat(tier_of, sizes), numpy.repeat(tier, sizes)
    names = list(dict.fromkeys(chain(columns.placed, columns.seen)))
    number = dict(zip(names, range(len(names)), strict=True))
    key, seen = (numpy.fromiter(map(number.__getitem__, side), int, len(side)) for side in (columns.placed, columns.seen))
    distinct, at = numpy.unique(of, return_inverse=True)
    codes, slot = numpy.unique(at[row] * max(1, len(names)) + key, return_inverse=True)  # every answer of every item
    slot_item, slot_key = codes // max(1, len(names)), codes % max(1, len(names))
    slots = [(item, names[one]) for item, one in zip(distinct[slot_item].tolist(), slot_key.tolist(), strict=True)]
    hashed = numpy.array([int.from_bytes(_hash(*one)[:8]) for one in slots], numpy.uint64)
    order = numpy.lexsort((hashed, slot_item))
    starts = numpy.searchsorted(slot_item, numpy.arange(len(distinct)))
    place = numpy.empty(len(codes), int)
    place[order] = numpy.arange(len(codes)) - starts[slot_item[order]]
    wide = int(place.max(initial=-1)) + 1
    ranks = numpy.full((len(of), wide), -1, numpy.int8)
    ranks[row, place[slot]] = rank
    long = numpy.full((len(distinct), wide), -1)
    long[slot_item, place] = [lengths.get(one, -1) for one in slots]
    keys = numpy.full((len(distinct), wide), "", object)
    keys[slot_item, place] = [key for _, key in slots]

    last = _last(at * who + rater, numpy.flatnonzero(~again))
    items, item = numpy.unique(at[last], return_inverse=True)
    said = _compared(ranks, UNKNOWN)
    return Table(
        tuple(distinct[items].tolist()), tuple(tuple(filter(None, one)) for one in keys[items]), len(set(rater[last].tolist())),
        item, ranks[last], said[last], -_compared(long, 0)[at[last]], _won(columns, row, key, rank, seen)[last],
        numpy.array(columns.shown, int)[last], _again(at * who + rater, said, last, numpy.flatnonzero(again), item),
    )  # fmt: skip


def _last(code: Numbers, rows: Numbers) -> Numbers:
    """Of these rows the last of each code, in the order of their codes."""
    _, first = numpy.unique(code[rows][::-1], return_index=True)
    last: Numbers = rows[::-1][first]
    return last


def _won(columns: Columns, row: Numbers, key: Numbers, rank: Numbers, seen: Numbers) -> Numbers:
    """Where on the screen each ranking's best answer was; -1 where the best are tied, or nothing was shown."""
    size = len(columns.item)
    first = rank == 0
    alone = numpy.bincount(row[first], minlength=size) == 1
    best, won = numpy.full(size, -1), numpy.full(size, -1)
    best[row[first]] = key[first]
    shown = numpy.array(columns.shown, int)
    seen_by = numpy.repeat(numpy.arange(size), shown)
    place = numpy.arange(len(seen)) - numpy.repeat(numpy.cumsum(shown) - shown, shown)
    hit = (seen == best[seen_by]) & alone[seen_by]
    won[seen_by[hit]] = place[hit]
    return won


def _again(code: Numbers, said: Numbers, last: Numbers, repeats: Numbers, item: Numbers) -> Numbers:
    """Each repeat beside what its rater said first; one that has no first is left out."""
    firsts = numpy.searchsorted(code[last], code[repeats])
    firsts[firsts == len(last)] = 0
    there = code[last][firsts] == code[repeats] if len(last) else numpy.zeros(len(repeats), bool)
    firsts, repeats = firsts[there], repeats[there]
    before, after = said[last[firsts]], said[repeats]
    both = (before != UNKNOWN) & (after != UNKNOWN)
    return numpy.stack([item[firsts], ((before == after) & both).sum(1), both.sum(1)], 1)


def _compared(given: Numbers, unknown: int) -> Numbers:
    """What is said of each two columns: (rows, columns) -> (rows, pairs)."""
    first, second = numpy.triu_indices(given.shape[1], 1)
    a, b = given[:, first], given[:, second]
    compared: Numbers = numpy.where((a < 0) | (b < 0), unknown, numpy.sign(b - a)).astype(numpy.int8)
    return compared


def _ordered(item: int, keys: Iterable[str]) -> list[str]:
    """The answers of an item in an order that knows nothing of them."""
    return sorted(keys, key=lambda key: _hash(item, key))


def _hash(item: int, key: str) -> bytes:
    return sha256(f"{item} {key}".encode()).digest()
