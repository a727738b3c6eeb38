"""Bullet count: how many lines are items of a list: "- ", "* ", "+ ", "• ", "1. " or "1) "."""

import re
from collections.abc import Sequence
from typing import Any

RATE = False
_RULE = r"(?!(?:[-*][ \t]*){3,}$)"  # "* * *" is a line across the page
_BULLET = re.compile(rf"^[ \t]*{_RULE}(?:[-*+•‣◦–]|\d{{1,3}}[.)])[ \t]+\S", re.MULTILINE)


def score(_prompt: list[dict[str, Any]], answer: str, _reference: Sequence[str]) -> float:
    """The number of items."""
    return float(len(_BULLET.findall(answer)))
