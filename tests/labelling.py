"""Ranking projects for tests of the label page, written through the real tables; and what the widget sends."""

from itertools import count
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from engine import rankings
from engine.rankings import Asked, Choice
from storage import queries
from storage.tables import Artifact

MODELS = ("secret-base-7b", "secret-tuned-7b", "secret-third-7b", "secret-fourth-7b")
_count = count()


def add_project(
    database: Engine, items: int = 3, answers: int = 3, texts: Any = None, more: Any = None, name: str = "Politeness", guideline: str = "",
    **settings: Any,
) -> int:  # fmt: skip
    """A project of so many items with so many answers each; its id. `texts(item, answer)` writes them; `more(item)`: fields of Asked."""
    texts = texts or (lambda n, m: f"Answer {m} to question {n}.")
    with Session(database) as session:
        now, summary = queries.utc_now(), {"format": "project", "by": list(MODELS[:answers])}
        artifact = Artifact(kind="rankings", name=name, folder="", summary=summary, created_at=now)
        session.add(artifact)
        session.flush()
        assert artifact.id
        asked = []
        for n in range(items):
            choices = tuple(Choice(f"{n}-{m}", texts(n, m), MODELS[m % 4]) for m in range(answers))
            given = {"kind": "normal", "prompt": [{"role": "user", "content": f"Question {n}?"}], "wanted": settings.get("raters", 1)}
            given |= more(n) if more else {}
            asked.append(Asked(0, prompt_key=f"k{n}", choices=choices, **given))
        plain = {"mode": "rank", "ties": True, "criteria": [], "raters": 1} | settings
        rankings.open_project(session, artifact.id, plain, guideline, asked, now)
        session.commit()
        return artifact.id


def press(shown: dict[str, Any], tiers: list[list[int]] | None = None, **more: Any) -> dict[str, Any]:
    """What the widget sends for an item."""
    numbers = [[n] for n in range(len(shown["answers"]))]
    told = {"client_event_id": f"e{next(_count)}", "item": shown["item"], "guideline": shown["guideline"]["version"]}
    ranked = dict.fromkeys(shown["criteria"], tiers or numbers)
    return told | {"tiers": ranked, "seen": list(range(len(shown["answers"])))} | more
