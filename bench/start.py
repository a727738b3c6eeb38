"""From Start pressed to the first training step, warm and cold, against a bare TRL trainer.

    python bench/start.py --model FOLDER --data FILE.jsonl

The bare trainer is a script that imports, loads and trains one step: cold from its process's start, warm from the end of
its imports. Ours is a fine-tuning run submitted to a dispatcher, with the hot spare (warm) and without (cold), timed
from submit to its first reported step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sqlmodel import Session, select

from engine import submit
from engine.dispatcher import Dispatcher
from engine.stages.train.finetune import Finetune
from storage import queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import FINAL, Artifact, Metric, Run

BARE = """
import time; began = time.time()
import json, sys, torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
imported = time.time()
model, data = sys.argv[1:]
rows = [json.loads(line) for line in open(data)][:8]
args = SFTConfig(output_dir="out", max_steps=1, per_device_train_batch_size=4, max_length=128, use_cpu=True, bf16=True,
                 gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True)
loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
trainer = SFTTrainer(loaded, args, train_dataset=Dataset.from_list([{"messages": row["messages"]} for row in rows]),
                     processing_class=AutoTokenizer.from_pretrained(model), peft_config=LoraConfig(r=16, target_modules="all-linear"))
trainer.train()
print(json.dumps({"cold": time.time() - began, "warm": time.time() - imported}))
"""


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"))
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"))
    given = parser.parse_args()
    if not (given.model and given.data and Path(given.model).exists() and Path(given.data).exists()):
        print(json.dumps({"bench": "start", "skipped": "give --model FOLDER and --data FILE, or set BENCH_MODEL and BENCH_DATA"}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-c", BARE, str(Path(given.model).resolve()), str(Path(given.data).resolve())]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        told = subprocess.run(words, cwd=scratch, env=environment, capture_output=True, text=True, check=True).stdout
        bare = json.loads(told.splitlines()[-1])
        for name, warm in (("warm", True), ("cold", False)):
            seconds = first_step(Path(scratch) / name, Path(given.model), Path(given.data), warm)
            line = {"bench": f"start: {name}", "ours_s": round(seconds, 2), "bare_s": round(bare[name], 2)}
            print(json.dumps(line | {"more_s": round(seconds - bare[name], 2), "aim_more_s": 2 if warm else None}), flush=True)


def first_step(place: Path, model: Path, data: Path, warm: bool) -> float:
    """Seconds from submit to the first step's row, in a home of its own."""
    home = Home(place)
    database = open_database(home)
    parameters = {"format": "full", "parameters": 134_515_008, "context_length": 8192}
    lines = data.read_text().splitlines()[:8]
    folder = home.artifact_folder(2)
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "heldout.jsonl").write_text("")
    home.artifact_folder(1).symlink_to(model.resolve())
    now = queries.utc_now()
    with transaction(database) as session:
        session.add(Artifact(kind="model", name="m", folder="artifacts/1", summary=parameters, created_at=now, ready_at=now))
        session.add(
            Artifact(
                kind="dataset", name="d", folder="artifacts/2", summary={"format": "messages", "rows": 8}, created_at=now, ready_at=now
            )
        )
        if warm:
            queries.want_spare(session, now)
    dispatcher = Dispatcher(database, home, keep_spare=warm)
    ended = threading.Event()
    loop = threading.Thread(target=dispatcher.run, args=(ended.is_set,), daemon=True)
    loop.start()
    if warm:
        time.sleep(20)  # the person reads the form while the spare imports
    stage = Finetune.model_validate({"model": 1, "data": 2, "panel_size": 0, "training": {"steps": 6, "max_length": 128, "checkpoints": 1}})
    began = time.time()
    run = submit.submit(database, home, stage).runs[0]
    first = None
    while True:
        with Session(database) as session:
            row = session.get_one(Run, run)
            found = session.exec(select(Metric.at).where(Metric.run == run, Metric.name == "loss")).first()
        if found and first is None:
            first = found.timestamp() - began
        if row.status in FINAL:
            break
        time.sleep(0.02)
    ended.set()
    loop.join()
    if first is None or row.status != "succeeded":
        raise SystemExit(f"the run {row.status}: {row.error}")
    return first


if __name__ == "__main__":
    main()
