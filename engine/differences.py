"""Which words a text has that another one has not."""

import re
from difflib import SequenceMatcher
from functools import lru_cache

WORDS = re.compile(r"\w+|\s+|[^\w\s]")
LIKE = 0.3  # share of words in common from which on it is worth telling


@lru_cache(maxsize=4096)  # every tick of a page shows the same answers
def changed(before: str, after: str) -> tuple[tuple[str, bool], ...]:
    """The later text in pieces, each with whether the earlier one lacks it."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    pieces = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return tuple(("".join(new[start:end]), kind != "equal") for kind, _, _, start, end in pieces if end > start)


@lru_cache(maxsize=4096)
def alike(one: str, other: str) -> bool:
    """Whether two texts have enough in common to show what differs; else everything would be marked."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio() >= LIKE
