"""Rows that say nearly the same: the Jaccard similarity of their three-word shingles, found exactly.

Two sets that share at least the share t of their union have one of their rarest elements in common: of a set of n, one
of the n - ceil(t n) + 1 rarest (prefix filtering, Chaudhuri et al. 2006; Bayardo et al. 2007). So only rows that share
a rare shingle are compared, and nothing is missed; a row with that many shingles of its own is compared with none. A
group is a row with all later ones that are alike to it: chains of small differences do not drift away from what is kept.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

THRESHOLD = 0.8
ONE_BY_ONE = "\u3040-\u30ff\u3400-\u9fff"  # scripts without spaces: each sign counts as a word
WORD = re.compile(rf"[{ONE_BY_ONE}]|[^\W{ONE_BY_ONE}]+")
Numbers = np.ndarray[Any, np.dtype[np.uint64]]


def words(row: dict[str, Any]) -> list[str]:
    """What a row is compared by. System messages are left out: a shared instruction makes no two rows alike."""
    text = "\n".join(_said(row))
    return WORD.findall(text.casefold()) or [text]


def groups(rows: Sequence[dict[str, Any]], threshold: float = THRESHOLD) -> list[list[int]]:
    """Places of rows that are alike, the first of each group the one the others are alike to; rows alone are in none."""
    known: dict[str, int] = {}
    sets = [_shingles(words(row), known) for row in rows]
    if not sets:
        return []
    _, numbers, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    ends = np.cumsum([len(one) for one in sets])
    first: dict[frozenset[int], int] = {}  # exact copies need no comparison
    holders: dict[int, list[int]] = defaultdict(list)
    shared: dict[int, frozenset[int]] = {}  # what other rows have too, of those that may be alike to another
    found: dict[int, list[int]] = {}
    for place, end in enumerate(ends):
        size = len(sets[place])
        mine = numbers[end - size : end]
        often = counts[mine]
        wanted = size - math.ceil(threshold * size - 1e-9) + 1 - int((often == 1).sum())
        if wanted <= 0:
            continue
        mine, often = mine[often > 1], often[often > 1]
        rarest = mine[np.lexsort((mine, often))[:wanted]].tolist()
        one = frozenset(mine.tolist())
        leader = first.get(one) if len(one) == size else None
        if leader is None:
            best = 0.0
            for other in sorted({other for shingle in rarest for other in holders[shingle]}):
                alike = len(one & shared[other])
                share = alike / (size + len(sets[other]) - alike)
                if share >= threshold and share > best:
                    best, leader = share, other
            if leader is None:
                leader, shared[place] = place, one
                for shingle in rarest:
                    holders[shingle].append(place)
            if len(one) == size:
                first[one] = leader
        found.setdefault(leader, []).append(place)
    return [places for places in found.values() if len(places) > 1]


def _shingles(said: list[str], known: dict[str, int]) -> Numbers:
    """Each run of three words as one number, sorted, each once; exact for up to two million different words."""
    one = np.array([known.setdefault(word, len(known) + 1) for word in said] + [0] * max(0, 3 - len(said)), dtype=np.uint64)
    return np.unique((one[:-2] << np.uint64(42)) ^ (one[1:-1] << np.uint64(21)) ^ one[2:])


def _said(row: dict[str, Any]) -> list[str]:
    """All texts of a row but its tags and system messages."""
    found: list[str] = []
    for name, value in row.items():
        turns = value if isinstance(value, list) else [value]
        texts = [one.get("content") if isinstance(one, dict) and one.get("role") != "system" else one for one in turns]
        found += [text for text in texts if isinstance(text, str) and name != "tags"]
    return found
