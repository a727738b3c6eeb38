"""Which items of a suite stand in training rows: what a model was shown is no proof of what it knows."""

import re
from collections.abc import Iterable
from typing import Any

from engine.probe import Item, Suite

WINDOW = 6  # words that must agree before more is compared; shorter questions must stand there alone


def contaminated(suite: Suite, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many items of each probe, by title, stand word for word in these rows."""
    begins: dict[tuple[str, ...], list[tuple[str, Item, list[str]]]] = {}
    for part in suite:
        for item in part.items:
            words = _words(item.text or str(item.prompt[-1]["content"]))
            begins.setdefault(tuple(words[:WINDOW]), []).append((part.probe.title, item, words))
    found: dict[str, set[str]] = {}
    for row in rows:
        for text in _texts(row):
            words = _words(text)
            for place in range(max(1, len(words) - WINDOW + 1)):
                for title, item, wanted in begins.get(tuple(words[place : place + WINDOW]), ()):
                    if words[place : place + len(wanted)] == wanted and (len(wanted) >= WINDOW or words == wanted):
                        found.setdefault(title, set()).add(item.key)
    return {title: len(keys) for title, keys in sorted(found.items())}


def _texts(row: dict[str, Any]) -> list[str]:
    turns = row.get("messages") or row.get("prompt") or []
    return [str(turn["content"]) for turn in turns if turn["role"] == "user"] + ([row["text"]] if "text" in row else [])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
