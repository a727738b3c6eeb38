"""Items written for this project: one JSON object a line in assets/probes, where each probe has its card."""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

FOLDER = Path(__file__).parents[2] / "assets" / "probes"


def written(name: str, n: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """At most `n` rows of a file or all, in its order for seed 0, else shuffled by the seed."""
    rows = list(_rows(name))
    if seed:
        Random(f"{name}/{seed}").shuffle(rows)
    return rows[:n]


@cache
def _rows(name: str) -> tuple[dict[str, Any], ...]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)
