"""Contains: one of the accepted answers stands somewhere in the answer, as whole words."""

from collections.abc import Sequence
from typing import Any

from engine.scorers.exact_match import normalise


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if a reference occurs in the answer as whole words, else 0.0. Normalised as in exact match."""
    text = f" {normalise(answer)} "
    return float(any(f" {normalise(accepted)} " in text for accepted in reference if normalise(accepted)))
