"""Language: the answer is written in one of these languages, as py3langid (Barbaresi, after Lui and Baldwin 2012) tells them."""

from collections.abc import Sequence
from math import nan
from typing import Any

REFERENCE = "language codes, such as en or zh"
LEAST = 20  # letters: shorter texts are guessed wrong too often to count


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if it is, else 0.0; nan for a short answer and without a reference."""
    wanted = {code.strip().lower() for code in reference} - {""}
    found = language_of(answer) if wanted else None
    return nan if found is None else float(found in wanted)


def language_of(text: str) -> str | None:
    """Its ISO 639-1 code; None for a text with too little to tell it by."""
    from py3langid import classify

    # One character of Chinese or Japanese says as much as a few letters.
    letters = sum(3 if character >= "\u2e80" else 1 for character in text if character.isalpha())
    return str(classify(text)[0]) if letters >= LEAST else None
