"""How things read to a person. Every string a person sees passes through `say`; English is the source.

Another language is one file, assets/words/<language>.json, mapping English templates to its own; DIANJING_LANGUAGE
chooses it. What it lacks stays English.
"""

import json
import os
from datetime import datetime
from functools import cache
from pathlib import Path

from engine.errors import UserError

WORDS = Path(__file__).parent.parent / "assets" / "words"


def say(text: str, **values: object) -> str:
    """The text in the person's language, with its values."""
    template = _catalogue().get(text, text)
    return template.format(**values) if values else template


def error(problem: Exception) -> str:
    """An error as a sentence."""
    if isinstance(problem, UserError):
        told = say(problem.message, **problem.values)
        return told[:1].upper() + told[1:]
    return f"{type(problem).__name__}: {problem}"


def duration(seconds: float) -> str:
    """ "1 min 10 s", "2 h 5 min", "0.4 s"."""
    if seconds < 1:
        return say("{n:.1f} s", n=seconds)
    whole = round(seconds)
    if whole < 60:
        return say("{n} s", n=whole)
    if whole < 3600:
        return say("{m} min {s} s", m=whole // 60, s=whole % 60) if whole % 60 else say("{m} min", m=whole // 60)
    minutes = whole % 3600 // 60
    return say("{h} h {m} min", h=whole // 3600, m=minutes) if minutes else say("{h} h", h=whole // 3600)


def ago(then: datetime, now: datetime) -> str:
    """ "just now", "5 min ago", or the date."""
    seconds = (now - then).total_seconds()
    if seconds < 60:
        return say("just now")
    if seconds < 3600:
        return say("{n} min ago", n=int(seconds // 60))
    if seconds < 86400:
        return say("{n} h ago", n=int(seconds // 3600))
    return then.astimezone().strftime("%Y-%m-%d %H:%M")


def size(amount: float) -> str:
    """Bytes for people: "268 MB"."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def number(value: object) -> str:
    """A setting or figure: no needless digits."""
    if isinstance(value, bool) or value is None:
        return {True: say("yes"), False: say("no"), None: say("empty")}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value)) or say("empty")
    return f"{value:,}" if isinstance(value, int) else str(value)


@cache
def _catalogue() -> dict[str, str]:
    path = WORDS / f"{os.environ.get('DIANJING_LANGUAGE', 'en')}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
