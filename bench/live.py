"""Answering live: memory of one base with three adapters against the base alone, and seconds to the first token of two models.

    python bench/live.py --model FOLDER

Everything is asked of the real child process in a home of its own. Cold is without a child: it starts, imports and
loads. Warm is the next question. The adapters are as large as a fine-tuning run with its defaults makes them.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine
from sqlmodel import Session

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

from engine.inference import Asked, ask, child  # noqa: E402
from engine.settings import LoraSettings, SamplingSettings  # noqa: E402
from storage.database import open_database  # noqa: E402
from storage.files import Home  # noqa: E402
from storage.queries import utc_now  # noqa: E402
from storage.tables import Artifact  # noqa: E402

BASE, OTHER, ADAPTERS = 1, 2, (3, 4, 5)
QUESTION = "Why is the sea salty? Explain it to a child in a few sentences, with an example from the kitchen."


def main() -> None:
    """Print one line for memory and one for each pair of models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"), help="a model folder")
    given = parser.parse_args()
    if not (given.model and Path(given.model).exists()):
        print(json.dumps({"bench": "live", "skipped": "give --model FOLDER, or set BENCH_MODEL"}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home")
        database = open_database(home)
        fill(database, home, Path(given.model).resolve(), Path(scratch))
        with answering(database, home):
            alone = memory(database, home, [BASE])
        with answering(database, home):
            together = memory(database, home, [BASE, *ADAPTERS])
        line = {"bench": "live: memory", "base_mb": round(alone / 1e6), "with_three_adapters_mb": round(together / 1e6)}
        print(json.dumps(line | {"more_percent": round(100 * (together / alone - 1), 1), "aim_more_percent": 15}), flush=True)
        for name, pair in (("a base and its adapter", [BASE, ADAPTERS[0]]), ("two bases", [BASE, OTHER])):
            with answering(database, home):
                cold = timed(database, home, pair)
                warm = timed(database, home, pair)
            told = {"cold_first_token_s": cold[0], "warm_first_token_s": warm[0], "aim_warm_s": 2, "tokens_per_second": warm[1]}
            print(json.dumps({"bench": f"live: {name}"} | told), flush=True)


def fill(database: Engine, home: Home, model: Path, scratch: Path) -> None:
    """The model twice, as two bases, and three adapters over the first."""
    import torch
    from peft import get_peft_model

    from engine.stage import Input, Kind
    from engine.training.models import compute_dtype, copy_tokenizer, load_model, lora_config

    source = Input(BASE, Kind.MODEL, "base", model, {"format": "full"})
    loaded = load_model(source, lambda _: source, compute_dtype("auto", "cpu"), "cpu")
    whole = {"format": "full", "parameters": loaded.num_parameters(), "context_length": loaded.config.max_position_embeddings}
    made = get_peft_model(loaded, lora_config(LoraSettings(), loaded))
    folders: dict[int, tuple[Path, dict[str, Any]]] = {BASE: (model, whole), OTHER: (model, whole)}
    for id in ADAPTERS:
        with torch.no_grad():
            for name, weights in made.named_parameters():
                if "lora_B" in name:
                    weights.normal_(0, 0.001 * id)
        folders[id] = (scratch / str(id), {"format": "adapter", "base": BASE})
        made.save_pretrained(str(folders[id][0]))
        copy_tokenizer(model, folders[id][0])
    with Session(database) as session:
        for id, (folder, summary) in folders.items():
            home.artifact_folder(id).parent.mkdir(parents=True, exist_ok=True)
            home.artifact_folder(id).symlink_to(folder)
            now, place = utc_now(), f"artifacts/{id}"
            session.add(Artifact(kind="model", name=f"model {id}", folder=place, summary=summary, created_at=now, ready_at=now))
        session.commit()


@contextmanager
def answering(database: Engine, home: Home) -> Iterator[None]:
    """A child that starts with the first question, and is gone afterwards."""
    try:
        yield
    finally:
        one = psutil.Process(child(database, home, "cpu").pid)
        one.send_signal(signal.SIGTERM)
        one.wait(30)
        shutil.rmtree(home.root / "compiled", ignore_errors=True)


def memory(database: Engine, home: Home, models: list[int]) -> int:
    """Bytes resident once each of these has answered."""
    timed(database, home, models)
    return int(psutil.Process(child(database, home, "cpu").pid).memory_info().rss)


def timed(database: Engine, home: Home, models: list[int]) -> tuple[float, float]:
    """Seconds until each has said its first token, and tokens a second of all of them."""
    began, first, tokens = time.perf_counter(), dict[int, float](), 0
    asked = [Asked(model, [{"role": "user", "content": QUESTION}]) for model in models]
    for said in ask(database, home, asked, SamplingSettings(max_new_tokens=32)):
        if said.kind == "error":
            raise SystemExit(said.text)
        if said.kind == "text":
            first.setdefault(said.model, time.perf_counter() - began)
            tokens += len(said.token_ids)
    return round(max(first.values()), 2), round(tokens / (time.perf_counter() - began), 1)


if __name__ == "__main__":
    main()
