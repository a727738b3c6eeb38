"""The Forgetting page with 30 models, 20 probes and 500 items each: 300,000 scores.

    python bench/forgetting.py

Server side: how long the page's rows take to read and judge, the median of five. One JSON line.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODELS, PROBES, ITEMS = 30, 20, 500


def main() -> None:
    """Fill a home, draw the page five times."""
    from sqlalchemy import insert
    from sqlmodel import Session

    from app.pages import Place, forgetting
    from storage import queries
    from storage.database import open_database
    from storage.files import Home
    from storage.tables import Artifact, Consumed, Run, Score

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        database, now = open_database(home), queries.utc_now()
        with Session(database) as session:
            for place in range(1, MODELS + 1):
                session.add(Run(id=place, stage="finetune", queued_at=now))
                session.flush()
                model = Artifact(id=place, kind="model", name=f"model {place}", folder="x", made_by=place, created_at=now)
                model.summary = {"steps": place - 1}
                session.add(model)
                session.flush()
                if place > 1:
                    session.add(Consumed(run=place, artifact=place - 1, field="model"))
            session.commit()
            for one in range(1, MODELS + 1):
                rows = [
                    {"run": one, "at": now, "artifact": one, "step": one - 1, "suite_hash": f"h{probe}", "probe": f"probe {probe}",
                     "item_key": str(item), "value": float((item * 7 + probe + one) % 10 < 6)}
                    for probe in range(PROBES) for item in range(ITEMS)
                ]  # fmt: skip
                session.execute(insert(Score), rows)
                session.commit()
        place, seconds = Place(database, home), []
        for _ in range(5):
            began = time.perf_counter()
            forgetting.parts(place, {"model": str(MODELS)})
            seconds.append(time.perf_counter() - began)
    line = {"bench": "forgetting", "models": MODELS, "probes": PROBES, "items": ITEMS, "first_seconds": round(seconds[0], 2)}
    print(json.dumps(line | {"median_seconds": round(statistics.median(seconds), 2)}))


if __name__ == "__main__":
    main()
