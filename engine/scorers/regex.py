"""Regex: a regular expression is found in the answer.

A pattern can take longer than the age of the universe on a short text, so each search is given a moment and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import Any

import regex

from engine.errors import UserError

REFERENCE = "a regular expression, such as ^Sure"
MOMENT = 0.05  # seconds
PATIENCE = 20  # moments a pattern may waste before it is refused


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if one of the patterns is found, else 0.0; nan without a pattern, or when none could say so in time.

    Raises UserError for a pattern that is none, and for one that again and again takes too long.
    """
    found = [_pattern(text).found(answer) for text in reference if text]
    if any(found):
        return 1.0
    return 0.0 if found and None not in found else nan


@dataclass
class _Pattern:
    compiled: "regex.Pattern[str]"
    slow: int = 0

    def found(self, answer: str) -> bool | None:
        if self.slow >= PATIENCE:
            message = "{pattern} takes too long: it has nested repetitions such as (a+)+; write it another way"
            raise UserError(message, field="reference", pattern=repr(self.compiled.pattern))
        try:
            return self.compiled.search(answer, timeout=MOMENT) is not None
        except TimeoutError:
            self.slow += 1
            return None


@lru_cache(maxsize=64)
def _pattern(text: str) -> _Pattern:
    try:
        return _Pattern(regex.compile(text, regex.MULTILINE))
    except regex.error as error:
        message = "{pattern} is no regular expression: {why} at character {at}"
        raise UserError(message, field="reference", pattern=repr(text), why=error.msg, at=(error.pos or 0) + 1) from None
    except (OverflowError, RecursionError) as error:
        message = "{pattern} is no regular expression that can be used: {why}"
        raise UserError(message, field="reference", pattern=repr(text)[:80], why=type(error).__name__) from None
