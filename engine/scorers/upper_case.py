"""Upper case: every letter that has a case is a capital."""

from collections.abc import Sequence
from math import nan
from typing import Any


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """1.0 if it is, else 0.0; nan for an answer without such a letter."""
    if answer.lower() == answer.upper():
        return nan
    return float(answer == answer.upper())
