"""Answering 64 prompts in batches against one by one, with the generate stage's own code.

    python bench/generate.py --model FOLDER --data FILE.jsonl

Both run in one process after a warm-up, greedy, 32 new tokens at most. One JSON line each: new tokens a second, wall
seconds and the ratio.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PROMPTS, BATCH, NEW = 64, 32, 32


def main() -> None:
    """Answer twice and print two lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"), help="a model folder")
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="a JSONL file of conversations or prompts")
    given = parser.parse_args()
    if not (given.model and given.data and Path(given.model).exists() and Path(given.data).exists()):
        print(json.dumps({"bench": "generate", "skipped": "give --model FOLDER and --data FILE, or set BENCH_MODEL and BENCH_DATA"}))
        return

    from engine.chat import Chat
    from engine.settings import SamplingSettings
    from engine.stage import Input, Kind
    from engine.training.answers import batched
    from engine.training.models import compute_dtype, load_model
    from engine.training.rows import prompts_of

    prompts = prompts_of(json.loads(line) for line in Path(given.data).read_text().splitlines())
    chat = Chat.open(Path(given.model))
    ids = sorted((chat.prompt_ids(prompt.messages) for prompt in prompts), key=len)[:PROMPTS]  # a few LIMA prompts are pages long
    source = Input(1, Kind.MODEL, "model", Path(given.model), {"format": "full"})
    model = load_model(source, lambda _: source, compute_dtype("auto", "cpu"), "cpu")
    sampling = SamplingSettings(max_new_tokens=NEW)

    def answer(size: int) -> tuple[int, float]:
        began = time.perf_counter()
        written = sum(len(reply.ids) for _, replies in batched(model, chat, ids, sampling, size) for reply in replies)
        return written, time.perf_counter() - began

    next(batched(model, chat, ids[:2], sampling, 2))
    alone = 0.0
    for size in (1, BATCH):
        written, seconds = answer(size)
        speed = written / seconds
        alone = alone or speed
        line = {"bench": "generate", "prompts": PROMPTS, "max_new_tokens": NEW, "batch": size, "tokens_per_second": round(speed, 1)}
        print(json.dumps(line | {"wall_seconds": round(seconds, 1), "ratio_to_one_by_one": round(speed / alone, 1)}), flush=True)


if __name__ == "__main__":
    main()
