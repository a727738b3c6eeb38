"""Contains: one of the accepted answers stands somewhere in the answer, as whole words."""

from collections.abc import Sequence
from math import nan
from typing import Any

from engine.scorers.exact_match import normalise
from engine.scorers.length import spaced

REFERENCE = "texts, one of which must stand in the answer"


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if a reference occurs in the answer as whole words, else 0.0; nan without a reference. Normalised as in exact match."""
    text = _words(answer) if reference else ""
    accepted = [one for one in map(_words, reference) if one.strip()]
    return float(any(one in text for one in accepted)) if reference else nan


def _words(text: str) -> str:
    return f" {' '.join(spaced(normalise(text)).split())} "
