"""The owner's page of a ranking project with 100,000 labels: seconds to draw it first and again, and after one more label.

20,000 prompts with four answers each, five raters an item; 2 % repeats, 20 gold items. The aim is 1 s. Nothing is kept
between the first and the second row of figures but what the dashboard's own process keeps.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sqlalchemy import Engine, insert  # noqa: E402
from sqlmodel import Session  # noqa: E402

from app.pages import Place, rankings  # noqa: E402
from storage.database import open_database  # noqa: E402
from storage.files import Home  # noqa: E402
from storage.queries import utc_now  # noqa: E402
from storage.tables import Artifact, Guideline, Item, Label, Project  # noqa: E402

ITEMS, RATERS, MODELS, GOLD, REPEATS = 19_600, 5, ("alpha", "beta", "gamma", "delta"), 20, 380
WORDS = ("the", "sea", "is", "salty", "because", "rivers", "carry", "minerals", "from", "rocks", "and", "water", "leaves", "as", "vapour")


def main() -> None:
    """Seed a project, draw its page, print one line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        database = open_database(home)
        labels = seed(database)
        place, known = Place(database, home), {"project": 1, "criterion": "", "settled": False, "start": 0, "said": 0, "signs_in": False}
        first, again = timed(lambda: rankings.tree(place, known)), timed(lambda: rankings.tree(place, known))
        with Session(database) as session:
            session.add(_label(random.Random(1), 1, "late", "late", {"item": 1, "keys": ["1-0", "1-1", "1-2", "1-3"]}, Label))
            session.commit()
        after = timed(lambda: rankings.tree(place, known))
    told = {"bench": "rankings", "labels": labels, "items": ITEMS, "raters": RATERS, "aim_s": 1}
    for name, (wall, cpu) in (("first", first), ("again", again), ("after_a_label", after)):
        told |= {f"{name}_s": round(wall, 3), f"{name}_cpu_s": round(cpu, 3)}
    print(json.dumps(told), flush=True)


def seed(database: Engine) -> int:
    """Write the project as rows; how many labels it has."""
    chance, now = random.Random(0), utc_now()
    strength = dict(zip(MODELS, (0.6, 0.2, -0.2, -0.6), strict=True))
    items, labels = [], []
    for place in range(1, ITEMS + GOLD + REPEATS + 1):
        kind = "normal" if place <= ITEMS else "gold" if place <= ITEMS + GOLD else "repeat"
        of = place - ITEMS - GOLD if kind == "repeat" else None
        answers = [
            {"key": f"{of or place}-{n}", "text": " ".join(chance.choices(WORDS, k=chance.randint(20, 90))), "by": by, "model": n + 1,
             "response": None}
            for n, by in enumerate(MODELS)
        ]  # fmt: skip
        keys = [one["key"] for one in answers]
        items.append(
            {"id": place, "project": 1, "position": place, "kind": kind, "prompt_key": f"k{of or place}", "of": of, "wanted": RATERS,
             "prompt": [{"role": "user", "content": "Why is the sea salty?"}], "answers": answers,
             "gold": [[key] for key in keys] if kind == "gold" else None}
        )  # fmt: skip
        for rater in range(1 if kind == "repeat" else RATERS):
            noisy = sorted(keys, key=lambda key: -strength[MODELS[int(key[-1])]] + chance.gauss(0, 0.5))
            labels.append({"item": place, "rater": f"rater {rater}", "keys": noisy})
    with Session(database) as session:
        session.add(Artifact(kind="rankings", name="many", folder="", created_at=now))
        session.add(Project(artifact=1, settings={"raters": RATERS}))
        session.flush()
        session.add(Guideline(project=1, version=1, text="Put the better one first.", person="", at=now))
        session.execute(insert(Item), items)
        session.execute(insert(Label), [_label(chance, 1, f"e{n}", one["rater"], one, dict) for n, one in enumerate(labels)])
        session.commit()
    return len(labels)


def _label(chance: random.Random, rankings: int, event: str, rater: str, one: dict[str, Any], make: Callable[..., Any]) -> Any:
    keys = one["keys"]
    tiers = [[keys[0]], [keys[1], keys[2]], [keys[3]]] if chance.random() < 0.1 else [[key] for key in keys]
    shown = chance.sample(keys, len(keys))
    return make(
        client_event_id=event, rankings=rankings, item=one["item"], rater=rater, act="rank", tiers={"overall": tiers}, shown=shown,
        flags={}, active_ms=chance.randint(4000, 40000), guideline=1, at=utc_now(),
    )  # fmt: skip


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
