"""20 million metric rows (200 runs x 100,000): one run's page, an overlay of five, and a live tick, each under 300 ms at p95.

Rows and rollups are filled by SQL, with the arithmetic of storage.curves.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session

from storage import curves, queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import Run

NAMES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb")


def main(runs: int = 200, rows: int = 100_000) -> None:
    """Fill a database and time its readers."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        database = open_database(home)
        started = time.perf_counter()
        steps = rows // len(NAMES)
        with transaction(database) as session:
            session.add_all(Run(stage="finetune", status="succeeded", queued_at=queries.utc_now()) for _ in range(runs))
        with database.connect() as connection:
            for run in range(1, runs + 1):
                for sql in FILL:
                    connection.execute(text(sql), {"run": run, "steps": steps})
                connection.commit()
        filled = time.perf_counter() - started

        def page(turn: int) -> None:
            with Session(database) as session:
                assert len(curves.read(session, 1 + turn % runs).series) == len(NAMES)

        def overlay(turn: int) -> None:
            with Session(database) as session:
                for offset in range(5):
                    curves.read(session, 1 + (turn + 37 * offset) % runs, ["loss"])

        def tick(turn: int) -> None:
            with Session(database) as session:
                run = 1 + turn % runs
                curves.after(session, run, run * rows - 10)

        for name, read in (("page", page), ("overlay of five", overlay), ("tick", tick)):
            print(json.dumps({"bench": f"curves: {name}", "rows": runs * rows, "fill_s": round(filled), **timed(read)}), flush=True)


def timed(read: Callable[[int], None], turns: int = 60) -> dict[str, float]:
    """Median and 95th percentile in milliseconds, every turn on another run."""
    took = []
    for turn in range(turns):
        started = time.perf_counter()
        read(turn * 7)
        took.append(1000 * (time.perf_counter() - started))
    return {"median_ms": round(statistics.median(took), 1), "p95_ms": round(sorted(took)[int(0.95 * turns)], 1), "aim_ms": 300}


_VALUE = "2.0 / (1 + s.step / 100.0) + (s.step * 7919 % 1000) / 5000.0"
_STEPS = "WITH RECURSIVE s(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM s WHERE step < :steps)"
_NAMES = ", ".join(f"('{name}')" for name in NAMES)
FILL = (
    f"{_STEPS}, n(name) AS (VALUES {_NAMES}) INSERT INTO metric (run, at, step, name, value)"
    f" SELECT :run, '2026-01-01 00:00:00', s.step, n.name, {_VALUE} FROM s CROSS JOIN n ORDER BY s.step",
    "INSERT INTO rollup (run, name, count, first_step, last_step, low_step, low, high_step, high, last_metric)"
    " SELECT run, name, count(*), min(step), max(step), min(step), min(value), max(step), max(value), max(id)"
    f" FROM metric WHERE run = :run GROUP BY name, (step - 1) / {curves.WIDTH} HAVING count(*) = {curves.WIDTH} ORDER BY max(id)",
)

if __name__ == "__main__":
    main()
