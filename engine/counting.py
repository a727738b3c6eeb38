"""Rankings as numbers: 100,000 of them become one table, in less than a second, that all figures of agreement are read from.

A ranking is read as what it says of each two of its answers, in the order of their keys, which say nothing of who answered.
No figure depends on which of the two is the first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
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
    """Rankings side by side, added piece by piece; a repeat has the item it repeats. Each answer of each item is a slot of its own."""

    def __init__(self) -> None:
        self.item: list[int] = []
        self.again: list[bool] = []  # a repeat
        self.rater: list[int] = []
        self.raters: dict[str, int] = {}
        self.tiers: list[int] = []  # of each ranking
        self.sizes: list[int] = []  # of each tier
        self.placed: list[int] = []  # slots, ranking after ranking, best first
        self.shown: list[int] = []  # of each ranking, answers on the screen
        self.won: list[int] = []  # where on the screen the answer put first alone was; -1 where there is none
        self.slots: dict[int, dict[str, int]] = {}  # of each item, by key
        self.slot_item: list[int] = []
        self.slot_key: list[str] = []

    def add(
        self, items: Sequence[int], again: Iterable[bool], rater: str, tiers: Sequence[Sequence[Any]], shown: Sequence[Sequence[str]]
    ) -> None:
        """One rater's rankings: lists of one length."""
        self.item.extend(items)
        self.again.extend(again)
        self.rater.extend([self.raters.setdefault(rater, len(self.raters))] * len(tiers))
        self.tiers.extend(map(len, tiers))
        self.shown.extend(map(len, shown))
        for item, order, seen in zip(items, tiers, shown, strict=True):
            known = self.slots.setdefault(item, {})
            for tier in order:
                self.sizes.append(len(tier))
                for key in tier:
                    if key not in known:
                        known[key] = len(self.slot_item)
                        self.slot_item.append(item)
                        self.slot_key.append(key)
                    self.placed.append(known[key])
            alone = order and len(order[0]) == 1 and order[0][0] in seen
            self.won.append(seen.index(order[0][0]) if alone else -1)


@dataclass(frozen=True)
class Table:
    """All rankings as numbers, sorted by item: the last of each rater and item, repeats apart. Made once, read by many figures."""

    items: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]  # of each item, sorted
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
    """Each two of its answers, by key: 1 the first is better, -1 the second, 0 a tie."""
    rank = {key: place for place, tier in enumerate(ranking.tiers) for key in tier}
    return {(a, b): (rank[b] > rank[a]) - (rank[b] < rank[a]) for a, b in combinations(sorted(rank), 2)}


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
    rater, who = numpy.array(columns.rater, int), max(1, len(columns.raters))
    distinct, at = numpy.unique(of, return_inverse=True)
    of_slot, names = numpy.array(columns.slot_item, int), columns.slot_key
    order = numpy.lexsort((numpy.array(names, str), of_slot))  # the answers of an item together
    item_of_slot = numpy.searchsorted(distinct, of_slot)
    starts = numpy.searchsorted(of_slot[order], distinct)
    place = numpy.empty(len(order), int)
    place[order] = numpy.arange(len(order)) - starts[item_of_slot[order]]
    wide = int(place.max(initial=-1)) + 1
    placed, sizes, slot = (numpy.array(side, int) for side in (columns.tiers, columns.sizes, columns.placed))
    tier = numpy.arange(len(sizes)) - numpy.repeat(numpy.cumsum(placed) - placed, placed)
    row = numpy.repeat(numpy.repeat(numpy.arange(len(of)), placed), sizes)
    ranks = numpy.full((len(of), wide), -1, numpy.int8)
    ranks[row, place[slot]] = numpy.repeat(tier, sizes)
    long = numpy.full((len(distinct), wide), -1)
    long[item_of_slot, place] = [lengths.get(one, -1) for one in zip(columns.slot_item, names, strict=True)]
    keys = numpy.full((len(distinct), wide), "", object)
    keys[item_of_slot, place] = names

    last = _last(at * who + rater, numpy.flatnonzero(~again))
    items, item = numpy.unique(at[last], return_inverse=True)
    said = _compared(ranks, UNKNOWN)
    return Table(
        tuple(distinct[items].tolist()), tuple(tuple(filter(None, one)) for one in keys[items]), len(set(rater[last].tolist())),
        item, ranks[last], said[last], -_compared(long, 0)[at[last]], numpy.array(columns.won, int)[last],
        numpy.array(columns.shown, int)[last], _again(at * who + rater, said, last, numpy.flatnonzero(again), item),
    )  # fmt: skip


def _last(code: Numbers, rows: Numbers) -> Numbers:
    """Of these rows the last of each code, in the order of their codes."""
    _, first = numpy.unique(code[rows][::-1], return_index=True)
    last: Numbers = rows[::-1][first]
    return last


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
