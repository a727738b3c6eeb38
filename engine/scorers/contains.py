"""Contains: one of the accepted answers stands somewhere in the answer, as whole words."""

from collections.abc import Sequence
from math import nan
from typing import Any

from engine.scorers.exact_match import normalise

REFERENCE = "texts, one of which must stand in the answer"


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if a reference occurs in the answer as whole words, else 0.0; nan without a reference. Normalised as in exact match."""
    text = f" {normalise(answer)} "
    accepted = [one for one in map(normalise, reference) if one]
    return float(any(f" {one} " in text for one in accepted)) if reference else nan
