"""Which words a text has that another one has not."""

from difflib import SequenceMatcher
from functools import lru_cache

import regex

from engine.scorers.length import WORD

LIKE = 0.3  # share of words in common from which on it is worth telling
MOST = 6000  # words of both texts, beyond which nobody waits for it
_PIECE = regex.compile(rf"(?:{WORD.pattern}|\S)\s*|\s+", regex.V1)

Pieces = tuple[tuple[str, bool], ...]


def changed(before: str, after: str) -> Pieces:
    """The later text in pieces, each with whether the earlier one lacks it. Spaces do not count."""
    return _compared(before, after)[1]


def alike(one: str, other: str) -> bool:
    """Whether two texts have enough in common to show what differs; else everything would be marked."""
    return _compared(one, other)[0] >= LIKE


@lru_cache(maxsize=4096)  # every tick of a page shows the same answers
def _compared(before: str, after: str) -> tuple[float, Pieces]:
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    if before == after or len(old) + len(new) > MOST:
        return float(before == after), ((after, before != after),) if after else ()
    # Words that come all the time are no place to begin from: without difflib's rule for them a model in a loop takes minutes.
    matcher = SequenceMatcher(None, [piece.strip() for piece in old], [piece.strip() for piece in new])
    pieces: list[tuple[str, bool]] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        text = "".join(new[start:end])
        bare = text.rstrip() if kind != "equal" else ""
        pieces += [(bare, True), (text[len(bare) :], False)]
    return matcher.ratio(), tuple(piece for piece in pieces if piece[0])
