"""What watching costs a training run: the seconds of all its looks against the seconds of the run, with points on `auto`.

    python bench/watch.py --model FOLDER --data FILE.jsonl [--steps 300]

A LoRA fine-tuning with the settings a person finds in the form, on conversations. One JSON line; the aim is a share under
0.1. The start, the middle and the end are always looked at, so that a run of a few minutes cannot reach it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Train once, read what the run noted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"), help="a model folder")
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="conversations")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if not (given.model and given.data and Path(given.model).exists() and Path(given.data).exists()):
        print(json.dumps({"bench": "watch", "skipped": "give --model FOLDER and --data FILE, or set BENCH_MODEL and BENCH_DATA"}))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        model = run(home, "import_model", source="path", path=str(Path(given.model).resolve()))
        data = run(home, "import_dataset", source=str(Path(given.data).resolve()))
        run(home, "finetune", model=model, data=data, panel_size=0, training={"steps": given.steps})
        print(json.dumps({"bench": "watch", "steps": given.steps, **cost(home)}))


def run(home: Path, stage: str, **settings: Any) -> int:
    """Run a stage to its end; what it made."""
    words = [sys.executable, "-m", "engine", "run", stage, "-", "--home", str(home), "--json"]
    told = subprocess.run(words, input=json.dumps(settings), text=True, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    made: dict[str, int] = json.loads(told.stdout.splitlines()[-1])["outputs"]
    return next(iter(made.values()))


def cost(home: Path) -> dict[str, float | int]:
    """Looks, their seconds, and their share of the run."""
    from sqlmodel import Session, select

    from storage.database import open_database
    from storage.files import Home
    from storage.tables import Metric, Run

    with Session(open_database(Home(home))) as session:
        row = session.exec(select(Run).where(Run.stage == "finetune")).one()
        looks = session.exec(select(Metric.value).where(Metric.run == row.id, Metric.name == "retention_seconds"))
        seconds = [value or 0.0 for value in looks]
        assert row.started_at
        assert row.ended_at
        whole, looking = (row.ended_at - row.started_at).total_seconds(), sum(seconds)
    return {"looks": len(seconds), "looking_seconds": round(looking, 1), "run_seconds": round(whole, 1), "share": round(looking / whole, 3)}


if __name__ == "__main__":
    main()
