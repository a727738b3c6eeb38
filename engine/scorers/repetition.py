"""Repetition: the share of word trigrams that stood in the answer before.

1 - distinct-3 within one answer, after Welleck et al. 2019 (seq-rep-n, 1908.04319).
"""

from collections.abc import Sequence
from typing import Any

from engine.scorers.length import words

RATE = False
N = 3


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """0.0 when nothing comes twice, near 1.0 for a loop; 0.0 for an answer of fewer than three words."""
    told = [word.casefold() for word in words(answer)]
    grams = [tuple(told[place : place + N]) for place in range(len(told) - N + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
