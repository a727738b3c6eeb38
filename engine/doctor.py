"""What this machine can do, and what is wrong with it: facts are looked up first, then judged, so that judging is testable."""

import importlib.util
import os
import platform
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from engine import dispatcher
from engine.devices import DRIVER, devices, gpu_memory
from engine.errors import UserError
from engine.hub import require_hub
from storage.database import HEAD, open_database
from storage.files import Home

EXTRAS = {
    "bitsandbytes": "QLoRA on CUDA", "psycopg": "Postgres", "tensorboard": "metrics in TensorBoard", "trackio": "metrics in trackio",
    "wandb": "metrics in W&B", "flash_attn": "faster attention on CUDA", "liger_kernel": "less memory on CUDA", "lm_eval": "benchmarks",
}  # fmt: skip
LOW_DISK, LOW_MEMORY = 5e9, 3e9  # bytes


@dataclass(frozen=True)
class Finding:
    """One line: "ok", "note" for what a person may want to know, or "problem" with what to do."""

    level: Literal["ok", "note", "problem"]
    about: str
    text: str


@dataclass(frozen=True)
class Facts:
    """What was found. Bytes unless a unit is named."""

    python: str
    packages: dict[str, tuple[str, str]]  # of those that do not fit: (installed, "" if missing; wanted)
    torch: str = ""  # version, with its build: 2.13.0+cpu
    torch_for_cuda: bool = False  # whether it was built for NVIDIA GPUs
    torch_finds_gpu: bool = False
    cards: int = 0  # NVIDIA cards on the bus
    driver: bool = False  # theirs
    gpus: dict[str, tuple[int, int]] = field(default_factory=dict)  # slot: (free, total), of the driver
    slots: list[str] = field(default_factory=list)
    precision: str = ""  # in words, on the first slot
    threads: int = 1
    memory: tuple[int, int] = (0, 0)  # available, total
    disk: int = 0
    writable: bool = True
    database: str = ""  # what is wrong with it
    dispatching: bool = False
    hub: bool = False
    extras: list[str] = field(default_factory=list)


def judge(facts: Facts) -> list[Finding]:
    """What the facts mean to a person."""
    found = [Finding("ok", "Python", facts.python)]
    for name, (installed, wanted) in facts.packages.items():
        told = f"{name} {installed} is installed" if installed else f"{name} is not installed"
        found.append(Finding("problem", "packages", f"{told}, and {wanted} is needed: run make install"))
    if not facts.packages:
        found.append(Finding("ok", "packages", "all there, in the versions that are needed"))
    found += _compute(facts)
    found.append(Finding("ok", "threads", f"{facts.threads}"))
    available, total = facts.memory
    short = available < LOW_MEMORY
    text = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB available"
    found.append(Finding("note" if short else "ok", "memory", text + (": only the smallest models fit" if short else "")))
    if not facts.writable:
        found.append(Finding("problem", "home", "cannot be written to: name another one with --home or DIANJING_HOME"))
    elif facts.disk < LOW_DISK:
        found.append(Finding("problem", "disk", f"{facts.disk / 1e9:.1f} GB left in the home: delete artifacts, or name another home"))
    else:
        found.append(Finding("ok", "disk", f"{facts.disk / 1e9:.0f} GB left in the home"))
    found.append(Finding("problem", "database", facts.database) if facts.database else Finding("ok", "database", f"revision {HEAD}"))
    running = "runs" if facts.dispatching else "does not run; `dianjing ui` and `dianjing run` start one"
    found.append(Finding("ok" if facts.dispatching else "note", "dispatcher", running))
    hub = "answers" if facts.hub else "does not answer: starters and local files are all there is"
    found.append(Finding("ok" if facts.hub else "note", "hub", hub))
    for name, what in EXTRAS.items():
        there = name in facts.extras
        found.append(Finding("ok" if there else "note", name, what if there else f"not installed; it is needed for {what}"))
    return found


def look(home: Home) -> Facts:
    """The facts of this machine. Takes some seconds: torch is imported."""
    problem, dispatching = _database(home)
    slots = devices()
    torch, for_cuda, finds_gpu, precision = _torch(slots[0])
    there = home.root if home.root.exists() else home.root.parent
    return Facts(
        python=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        packages=unfit(requires("dianjing") or []),
        torch=torch,
        torch_for_cuda=for_cuda,
        torch_finds_gpu=finds_gpu,
        cards=_nvidia_cards(),
        driver=DRIVER.is_dir(),
        gpus=gpu_memory(),
        slots=slots,
        precision=precision,
        threads=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory=(psutil.virtual_memory().available, psutil.virtual_memory().total),
        disk=shutil.disk_usage(there).free if there.exists() else 0,
        writable=os.access(there, os.W_OK),
        database=problem,
        dispatching=dispatching,
        hub=_hub_answers(),
        extras=[name for name in EXTRAS if importlib.util.find_spec(name)],
    )


def unfit(wanted: list[str]) -> dict[str, tuple[str, str]]:
    """The packages that are missing or have another version than needed: (installed, wanted)."""
    found = {}
    for text in wanted:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(need.name)
        except PackageNotFoundError:
            installed = ""
        if not installed or not need.specifier.contains(installed, prereleases=True):
            found[need.name] = (installed, f"{need.name}{need.specifier}")
    return found


def _compute(facts: Facts) -> list[Finding]:
    if not facts.torch:
        return [Finding("problem", "torch", "cannot be imported: run make install")]
    on_gpu = facts.slots[0].startswith("cuda")
    if on_gpu and not facts.torch_finds_gpu:
        text = f"{facts.torch} finds no GPU, and the machine has one: is its driver new enough? nvidia-smi shows it"
        if not facts.torch_for_cuda:
            fix = f"pip uninstall -y torch && pip install torch=={facts.torch.partition('+')[0]}"
            text = f"{facts.torch} is a build for the CPU, and the machine has an NVIDIA GPU: {fix}"
        return [Finding("problem", "torch", text)]
    found = [Finding("ok", "torch", facts.torch)]
    if facts.torch_for_cuda and not facts.cards and not on_gpu:
        found = [Finding("note", "torch", f"{facts.torch} is a build for NVIDIA GPUs, and there is none: the CPU build takes 3 GB less")]
    if facts.cards and not on_gpu:
        hidden = Finding("note", "driver", "an NVIDIA GPU is there and is not used: CUDA_VISIBLE_DEVICES hides it")
        lacking = Finding("problem", "driver", "an NVIDIA card is there, and no driver: install NVIDIA's driver until nvidia-smi lists it")
        found.append(hidden if facts.driver else lacking)
    for slot in facts.slots:
        free, total = facts.gpus.get(slot, (0, 0))
        room = f", {free / 1e9:.1f} of {total / 1e9:.1f} GB free" if total else ""
        found.append(Finding("ok", "device", f"{slot}{room}"))
    return [*found, Finding("ok", "precision", facts.precision)]


def _torch(slot: str) -> tuple[str, bool, bool, str]:
    try:
        import torch

        from engine.training.models import compute_dtype, precision_in_words
    except ImportError:
        return "", False, False, ""
    finds = torch.cuda.is_available()
    device = slot if finds or not slot.startswith("cuda") else "cpu"
    return torch.__version__, torch.version.cuda is not None, finds, precision_in_words(compute_dtype("auto", device), device)


def _nvidia_cards() -> int:
    found = 0
    for card in Path("/sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            found += (card / "vendor").read_text().strip() == "0x10de" and (card / "class").read_text().startswith("0x03")
    return found


def _database(home: Home) -> tuple[str, bool]:
    if not home.root.exists():
        return "", False
    try:
        database: Engine = open_database(home)
        with Session(database) as session:
            return "", dispatcher.dispatching(session)
    except (SQLAlchemyError, OSError, RuntimeError) as error:
        return f"cannot be opened: {str(error).splitlines()[0]}", False


def _hub_answers() -> bool:
    try:
        require_hub()
    except UserError:
        return False
    return True
