"""Readability: the automated readability index (Senter and Smith 1967), about the school year that reads it. English only."""

import re
from collections.abc import Sequence
from math import nan
from typing import Any

from engine.scorers.length import words

RATE = False
LEAST = 5  # words
ENGLISH = 0.9  # share of letters without an accent, below which it is another language
_JOINTS = str.maketrans("", "", "'’_-")
_END = re.compile(r"""(?<![.!?])[.!?]++["'”’)]*(?=\s|$)|\n\s*\n""")


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """4.71 letters per word + 0.5 words per sentence - 21.43, never below 0; nan for fewer than five words, and in other scripts."""
    told = words(answer)
    letters = "".join(told).translate(_JOINTS)
    if len(told) < LEAST or len(letters.encode("ascii", "ignore")) < ENGLISH * len(letters):
        return nan
    sentences = sum(1 for part in _END.split(answer) if any(map(str.isalnum, part)))
    return max(0.0, 4.71 * len(letters) / len(told) + 0.5 * len(told) / max(1, sentences) - 21.43)
