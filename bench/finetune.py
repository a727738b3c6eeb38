"""Fine-tuning speed: this project's path against a plain TRL script with TRL's defaults, and against LLaMA-Factory.

    python bench/finetune.py --model FOLDER [--data FILE.jsonl] [--llamafactory VENV] [--rounds 1]

LoRA r=16 on all linear layers, 12 steps of 4 over the first 48 conversations, max length 512, loss on the answers. Each
contender runs in a child process of its own, in turn, on the same rows; ours in the environment the worker gives its
children. One JSON line each: real (unpadded) tokens a second over the 12 steps, wall and CPU seconds of the training
and of the whole process, peak memory, and the loss per answer token on the next 16 conversations, which one and the
same code computes from what each contender saved.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
STEPS, BATCH, ROWS, HELDOUT, LENGTH, RANK, ALPHA, RATE = 12, 4, 48, 16, 512, 16, 32, 2e-4


def main() -> None:
    """Run the contenders in turn and print their lines, each with its ratio to the plain script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=os.environ.get("BENCH_MODEL"), help="a folder with SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="a JSONL file of conversations")
    parser.add_argument("--llamafactory", type=Path, help="a venv with LLaMA-Factory 0.9.5")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=["ours", "trl", "heldout"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child](given.model, given.folder)
        return
    if not (given.model and given.data and Path(given.model).exists() and Path(given.data).exists()):
        print(json.dumps({"bench": "finetune", "skipped": "give --model FOLDER and --data FILE, or set BENCH_MODEL and BENCH_DATA"}))
        return
    for _ in range(given.rounds):
        plain = contend("trl", given.model.resolve(), given.data)
        report(plain, plain)
        report(contend("ours", given.model.resolve(), given.data), plain)
        if given.llamafactory:
            report(contend("llamafactory", given.model.resolve(), given.data, given.llamafactory), plain)


def report(line: dict[str, Any], plain: dict[str, Any]) -> None:
    """Print one contender's line with its ratio to the plain script."""
    print(json.dumps(line | {"ratio_to_trl": round(line["tokens_per_second"] / plain["tokens_per_second"], 2)}), flush=True)


def contend(name: str, model: Path, data: Path, venv: Path | None = None) -> dict[str, Any]:
    """Run one contender in a child process and measure it from outside and inside."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as scratch:
        folder = Path(scratch)
        split(data, folder)
        # The allocator settings are ours: they are part of what is compared, so the others run without them.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        plain |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment = worker_environment(folder) if name == "ours" else plain
        command = factory_command(venv, model, folder) if venv else child(name, model, folder)
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with (folder / "log.txt").open("w") as log:
            failed = subprocess.run(command, env=environment, stdout=log, stderr=log, cwd=folder).returncode
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if failed:
            raise SystemExit(f"{name} failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
        inside = from_factory(folder) if venv else json.loads((folder / "inside.json").read_text())
        subprocess.run(child("heldout", model, folder), env=plain, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        line = {"bench": "finetune", "who": name, "steps": STEPS, "real_tokens": (tokens := real_tokens(model, folder))}
        line |= {"tokens_per_second": round(tokens / inside["seconds"], 1), "wall_seconds": round(inside["seconds"], 1)}
        line |= {name: round(value, 2) for name, value in inside.items() if name != "seconds"}
        line |= {"process_wall_seconds": round(wall, 1), "process_cpu_seconds": round(cpu(after) - cpu(before), 1)}
        return line | json.loads((folder / "heldout.json").read_text())


def cpu(usage: resource.struct_rusage) -> float:
    """User and system seconds."""
    return usage.ru_utime + usage.ru_stime


def child(name: str, model: Path, folder: Path) -> list[str]:
    """This script again, as one contender."""
    return [sys.executable, __file__, "--child", name, "--model", str(model), "--folder", str(folder)]


def worker_environment(folder: Path) -> dict[str, str]:
    """What the worker's children get."""
    from engine.processes import child_environment

    return child_environment(folder, heavy=True)


def split(data: Path, folder: Path) -> None:
    """The first rows as training data, the next as held-out data."""
    lines = data.read_text().splitlines()
    if len(lines) < ROWS + HELDOUT:
        raise SystemExit(f"{data} has {len(lines)} rows and {ROWS + HELDOUT} are needed")
    (folder / "train.jsonl").write_text("\n".join(lines[:ROWS]) + "\n")
    (folder / "heldout.jsonl").write_text("\n".join(lines[ROWS : ROWS + HELDOUT]) + "\n")


def read(folder: Path, part: str) -> list[dict[str, Any]]:
    """Rows of one part."""
    return [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()]


def real_tokens(model: Path, folder: Path) -> int:
    """Unpadded tokens of the training rows, as cut to the max length: the same for every contender."""
    from engine.chat import Chat

    chat = Chat.open(model)
    return sum(len(chat.encode(row["messages"], max_length=LENGTH).ids) for row in read(folder, "train"))


def measured(train: Callable[[], Any], folder: Path) -> None:
    """Time a training call from inside and note what it took."""
    usage, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    train()
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = after.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    told = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu(after) - cpu(usage), "peak_gb": peak}
    (folder / "inside.json").write_text(json.dumps(told))


def ours(model: Path, folder: Path) -> None:
    """The finetune stage on a home of its own, panel and held-out loss off: the others have none."""
    from sqlmodel import Session

    from engine import submit
    from engine.stages.train.finetune import Finetune
    from engine.work import Work
    from storage.database import open_database
    from storage.files import Home
    from storage.queries import utc_now
    from storage.tables import Artifact, Run

    home = Home(folder / "home")
    database = open_database(home)
    data = folder / "dataset"
    data.mkdir()
    (data / "train.jsonl").write_bytes((folder / "train.jsonl").read_bytes())
    ids = []
    for kind, place, summary in (("model", model, {"format": "full"}), ("dataset", data, {"format": "messages", "rows": ROWS})):
        with Session(database) as session:
            row = Artifact(kind=kind, name=kind, folder=str(place), summary=summary, created_at=utc_now(), ready_at=utc_now())
            session.add(row)
            session.commit()
            ids.append(row.id)
    training = {"steps": STEPS, "batch_size": BATCH, "max_length": LENGTH, "learning_rate": RATE, "checkpoints": 1, "warmup": 0.0}
    training |= {"schedule": "linear"}
    stage = Finetune.model_validate(
        {"model": ids[0], "data": ids[1], "training": training, "lora": {"rank": RANK, "alpha": ALPHA}, "panel_size": 0}
    )
    run = submit.submit(database, home, stage).runs[0]
    with Session(database) as session:
        row = session.get_one(Run, run)
        session.expunge(row)
    work = Work(database, home, row, stage)
    work.folder.mkdir(parents=True)
    from engine.chat import Chat
    from engine.training.rows import encode_rows

    rows, _ = encode_rows(Chat.open(model), read(folder, "train"), "response", LENGTH)
    trainer = stage.lesson(work, Chat.open(model), rows, []).trainer(work, Chat.open(model))
    measured(trainer.train, folder)
    trainer.save_model(str(folder / "adapter"))


def trl(model: Path, folder: Path) -> None:
    """What one writes after reading TRL's quickstart: its defaults, and what a CPU needs to start at all."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in read(folder, "train")]
    config = SFTConfig(
        output_dir=str(folder / "out"), max_steps=STEPS, per_device_train_batch_size=BATCH, max_length=LENGTH,
        learning_rate=RATE, use_cpu=True, report_to="none", save_strategy="no",
    )  # fmt: skip
    adapter = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(model), args=config, train_dataset=Dataset.from_list(rows), peft_config=adapter)
    measured(trainer.train, folder)
    trainer.save_model(str(folder / "adapter"))


def factory_command(venv: Path, model: Path, folder: Path) -> list[str]:
    """LLaMA-Factory's own command on the same rows."""
    info = {"bench": {"file_name": "train.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}}}
    info["bench"]["tags"] = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    config = {
        "model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_target": "all",
        "lora_rank": RANK, "lora_alpha": ALPHA, "dataset_dir": str(folder), "dataset": "bench", "template": "chatml",
        "default_system": "You are a helpful AI assistant named SmolLM, trained by Hugging Face", "cutoff_len": LENGTH,
        "per_device_train_batch_size": BATCH, "gradient_accumulation_steps": 1, "max_steps": STEPS, "learning_rate": RATE,
        "lr_scheduler_type": "linear", "output_dir": str(folder / "adapter"), "bf16": True, "use_cpu": True, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "overwrite_output_dir": True, "preprocessing_num_workers": 1,
    }  # fmt: skip
    (folder / "factory.json").write_text(json.dumps(config))
    return [str(venv / "bin" / "llamafactory-cli"), "train", str(folder / "factory.json")]


def from_factory(folder: Path) -> dict[str, float]:
    """LLaMA-Factory writes how long its training took."""
    return {"seconds": json.loads((folder / "adapter" / "train_results.json").read_text())["train_runtime"]}


def heldout(model: Path, folder: Path) -> None:
    """Loss per answer token of the saved adapter, in float32, by plain code."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from engine.chat import Chat

    chat, total, count = Chat.open(model), 0.0, 0
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), str(folder / "adapter")).eval()
    with torch.no_grad():
        for row in read(folder, "heldout"):
            encoded = chat.encode(row["messages"], max_length=LENGTH)
            targets = torch.tensor(encoded.labels[1:])
            logits = tuned(input_ids=torch.tensor([encoded.ids])).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            count += int((targets != -100).sum())
    (folder / "heldout.json").write_text(json.dumps({"heldout_loss": round(total / count, 4)}))


CHILDREN: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "trl": trl, "heldout": heldout}

if __name__ == "__main__":
    main()
