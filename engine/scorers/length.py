"""Length: words, or characters where words are not separated, as in Chinese, Japanese and Thai."""

import re
from collections.abc import Sequence
from typing import Any

RATE = False
_WORD = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|(?:(?![\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff])[\w'’-])+"
)


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """The number of words."""
    return float(len(words(answer)))


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return [word for word in _WORD.findall(text) if any(letter.isalnum() for letter in word)]
