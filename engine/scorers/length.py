"""Length: words, or characters where words are not separated, as in Chinese, Japanese and Thai."""

from collections.abc import Sequence
from typing import Any

import regex

RATE = False
_TOGETHER = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # scripts without spaces between words
_APART = regex.compile(rf"[{_TOGETHER}]\p{{M}}*")
WORD = regex.compile(rf"{_APART.pattern}|[\w--[_{_TOGETHER}]]+(?:['’_-]\w+)*", regex.V1)


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """The number of words."""
    return float(len(words(answer)))


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return list(WORD.findall(text))


def spaced(text: str) -> str:
    """The text with a space on both sides of every character that stands for a word."""
    return str(_APART.sub(r" \g<0> ", text))
