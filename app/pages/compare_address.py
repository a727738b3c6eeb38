"""What the Compare page shows stands in its address: a copied link shows the same thing to somebody else."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from engine import comparison
from engine.comparison import MOST, Measure

# What may stand there beside the columns, with what it is when it does not.
DEFAULTS: dict[str, Any] = {
    "base": "", "at": "", "words": "", "tag": "", "only": "all", "sample": 0, "rows": 1, "plain": 0, "pin": "", "measures": [],
}  # fmt: skip


def read(given: Mapping[str, str]) -> dict[str, Any]:
    """What an address asks for; what makes no sense in it is as if it were not there."""
    known: dict[str, Any] = {"answers": [part for part in given.get("answers", "").split(",") if part][:MOST]}
    for name, default in DEFAULTS.items():
        told = given.get(name, "")
        known[name] = (told or default) if isinstance(default, str) else _parsed(told, default)
    return known


def address(known: Mapping[str, Any], **changes: Any) -> str:
    """The address of what is shown, with some of it changed."""
    wanted = {**known, **changes}
    given = {name: wanted[name] for name, default in DEFAULTS.items() if wanted[name] != default}
    told = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in given.items()}
    return "/compare?" + urlencode({"answers": ",".join(wanted["answers"]), **told}, safe=",")


def measures_of(known: Mapping[str, Any]) -> list[Measure]:
    """The measures that are asked for. Raises UserError."""
    return [comparison.measure_named(str(name), [str(one) for one in reference]) for name, reference in known["measures"]]


def _parsed(given: str, default: Any) -> Any:
    try:
        value = json.loads(given) if given else default
    except ValueError:
        return default
    if isinstance(default, int):
        return value if isinstance(value, int) and 0 <= value < 10**6 else default
    pairs = isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 and isinstance(one[1], list) for one in value)
    return value[:MOST] if pairs else default
