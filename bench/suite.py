"""A suite of about 600 items in batches against item by item.

    python bench/suite.py --model FOLDER

Both passes run in one process after a warm-up, in the precision the stage chooses. One JSON line each: wall and CPU
seconds, the ratio, and how many items got another score. A score may differ where two choices or two next tokens are
equally likely within what the precision of the sums tells apart.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
ITEMS, BATCH = 600, 32


def main() -> None:
    """Measure twice and print two lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"), help="a model folder")
    given = parser.parse_args()
    if not (given.model and Path(given.model).exists()):
        print(json.dumps({"bench": "suite", "skipped": "give --model FOLDER, or set BENCH_MODEL"}))
        return

    from engine.catalogue import probes
    from engine.chat import Chat
    from engine.probe import Part
    from engine.stage import Input, Kind
    from engine.training.measuring import measure
    from engine.training.models import compute_dtype, load_model

    folder = Path(given.model)
    source, chat = Input(1, Kind.MODEL, "model", folder, {"format": "full"}), Chat.open(folder)
    model = load_model(source, lambda _: source, compute_dtype("auto", "cpu"), "cpu")
    each = ITEMS // len(probes())
    suite = [Part(probe, tuple(probe.items(each, 0))) for probe in probes().values()]
    for _ in measure(model, chat, [Part(part.probe, part.items[:2]) for part in suite], BATCH):
        pass  # the first pass of each kind prepares kernels
    scores: dict[int, dict[tuple[str, str], float | None]] = {}
    alone = 0.0
    for size in (1, BATCH):
        wall, cpu = time.perf_counter(), time.process_time()
        found = [one for some in measure(model, chat, suite, size) for one in some]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        scores[size] = {(one.part.probe.name, one.item.key): one.value for one in found}
        alone = alone or wall
        line = {"bench": "suite", "items": len(found), "batch": size, "wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
        rates = {key: value for key, value in scores[size].items() if value != scores[1][key] and (value or 0) in (0, 0.5, 1)}
        print(json.dumps(line | {"ratio": round(alone / wall, 1), "other_scores": len(rates)}), flush=True)


if __name__ == "__main__":
    main()
