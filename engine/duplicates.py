"""Rows that say nearly the same: the Jaccard similarity of their three-word shingles, found exactly.

Two sets that share at least the share t of their union have one of their rarest elements in common: of a set of n, one
of the n - ceil(t n) + 1 rarest (prefix filtering, Chaudhuri et al. 2006; Bayardo et al. 2007). So only rows that share
a rare shingle are compared, and nothing is missed. A group is a row with all later ones that are alike to it: chains of
small differences do not drift away from what is kept.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

THRESHOLD = 0.8
WIDTH = 3  # words in a shingle
ONE_BY_ONE = "\u3040-\u30ff\u3400-\u9fff"  # scripts without spaces: each sign counts as a word
WORD = re.compile(rf"[{ONE_BY_ONE}]|[^\W{ONE_BY_ONE}]+")


def shingles(row: dict[str, Any]) -> frozenset[str]:
    """What a row is compared by. System messages are left out: a shared instruction makes no two rows alike."""
    text = "\n".join(_said(row))
    words = WORD.findall(text.casefold()) or [text]
    return frozenset("\n".join(words[place : place + WIDTH]) for place in range(max(1, len(words) - WIDTH + 1)))


def groups(rows: Sequence[dict[str, Any]], threshold: float = THRESHOLD) -> list[list[int]]:
    """Places of rows that are alike, the first of each group the one the others are alike to; rows alone are in none."""
    sets = [shingles(row) for row in rows]
    counts = Counter(shingle for one in sets for shingle in one)
    first: dict[frozenset[str], int] = {}  # exact copies need no comparison
    holders: dict[str, list[int]] = defaultdict(list)
    found: dict[int, list[int]] = {}
    for place, one in enumerate(sets):
        leader = first.get(one)
        if leader is None:
            rarest = sorted(one, key=lambda shingle: (counts[shingle], shingle))[: len(one) - math.ceil(threshold * len(one) - 1e-9) + 1]
            candidates = {other for shingle in rarest for other in holders[shingle]}
            alike = [(similarity(one, sets[other]), -other) for other in candidates if _fits(len(one), len(sets[other]), threshold)]
            best = max(alike, default=(0.0, 0))
            leader = -best[1] if best[0] >= threshold else place
            first[one] = leader
            for shingle in rarest if leader == place else ():
                holders[shingle].append(place)
        found.setdefault(leader, []).append(place)
    return [places for places in found.values() if len(places) > 1]


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: what two sets share of their union, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _fits(size: int, other: int, threshold: float) -> bool:
    return min(size, other) >= threshold * max(size, other) - 1e-9


def _said(row: dict[str, Any]) -> list[str]:
    """All texts of a row but its tags and system messages."""
    found: list[str] = []
    for name, value in row.items():
        turns = value if isinstance(value, list) else [value]
        texts = [one.get("content") if isinstance(one, dict) and one.get("role") != "system" else one for one in turns]
        found += [text for text in texts if isinstance(text, str) and name != "tags"]
    return found
