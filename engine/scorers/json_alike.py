"""JSON alike: the answer is the same JSON object as the reference: valid, with its keys and no others, and with its values.

Values are compared as exact_match compares answers, and "8" is the same as 8.
"""

from collections.abc import Sequence
from math import nan
from typing import Any

from engine.scorers.exact_match import normalise
from engine.scorers.json_object import parsed

REFERENCE = "JSON objects that are right"


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if it equals one of the references, else 0.0; nan where none of them is JSON."""
    wanted = [plain for one in reference if (plain := _plain(parsed(one))) is not None]
    return float(_plain(parsed(answer)) in wanted) if wanted else nan


def _plain(found: object) -> object:
    """The same with every value as exact_match reads it."""
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    return found if found is None or isinstance(found, bool) else normalise(str(found))
