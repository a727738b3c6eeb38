"""Exact match: the answer is one of the accepted ones, but for case, punctuation, articles and spaces.

The normalisation of SQuAD (Rajpurkar et al. 2016, 1606.05250).
"""

import string
from collections.abc import Sequence
from math import nan
from typing import Any

REFERENCE = "accepted answers"
_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”‘’„«»…¿¡。，、！？：；「」『』《》（）")
_ARTICLES = {"a", "an", "the"}


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if the whole answer equals one of the references, else 0.0; nan without a reference."""
    return float(normalise(answer) in {normalise(accepted) for accepted in reference}) if reference else nan


def normalise(text: str) -> str:
    """Lower case, without punctuation, English articles and extra spaces."""
    words = text.casefold().translate(_PUNCTUATION).split()
    return " ".join(word for word in words if word not in _ARTICLES)
