"""JSON object: the whole answer is a JSON object or array, and has the keys it shall have.

Stricter than the check of IFEval (Zhou et al. 2023, 2311.07911), which takes 42, NaN, "hi" and doubled keys for JSON.
One pair of code fences around it is allowed.
"""

import json
from collections.abc import Sequence
from typing import Any

REFERENCE = "keys it must have (none: any object or array)"


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if it is, else 0.0. In an array every element must be an object with the keys, when keys are given."""
    found = parsed(answer)
    if found is None:
        return 0.0
    rows = found if isinstance(found, list) else [found]
    return float(all(isinstance(row, dict) and key in row for row in rows for key in reference) and not (reference and not rows))


def parsed(answer: str) -> dict[str, Any] | list[Any] | None:
    """The object or array that an answer is, or None."""
    try:
        found = json.loads(_unfenced(answer), parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _unfenced(answer: str) -> str:
    first, _, rest = answer.strip().partition("\n")
    body, _, last = rest.rpartition("\n")
    return body if first.rstrip().lower() in ("```", "```json") and last.strip() == "```" else answer


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
