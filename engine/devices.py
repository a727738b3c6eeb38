"""The slots that heavy runs take, and what is known of them without importing torch: each NVIDIA GPU is one, else the CPU is.

A slot "cuda:1" is the second GPU that CUDA_VISIBLE_DEVICES shows to the dispatcher, by number or by UUID. A run's processes
see the GPUs of its slots and no others from the moment they start: a library may look for GPUs as soon as it is imported.
"""

import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
FRESH = 2.0  # seconds that an answer of nvidia-smi is used again
ASKED = "index,uuid,memory.free,memory.total,compute_cap"


def devices() -> list[str]:
    """The slots of this machine."""
    named = _named_gpus()
    if DRIVER.is_dir() and named != []:
        count = len(named or list(DRIVER.iterdir()))
        return [f"cuda:{place}" for place in range(count)] or ["cpu"]
    if sys.platform == "darwin" and os.uname().machine == "arm64":
        return ["mps"]
    return ["cpu"]


def seen_by(slots: str) -> dict[str, str]:
    """What must be in the environment of a process that computes on these slots ("cuda:1,cuda:3"), before it starts."""
    if not slots.startswith("cuda"):
        return {}
    named, places = _named_gpus(), [int(slot.partition(":")[2] or 0) for slot in slots.split(",")]
    return {"CUDA_VISIBLE_DEVICES": ",".join(named[place] if named else str(place) for place in places)}


def compute_device(slots: str) -> str:
    """Where this process of a run computes, among the GPUs it sees: each process that shares a run on a GPU of its own."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if slots.startswith("cuda") else slots


def rank() -> int:
    """Which of the processes that share a run this one is; torchrun says it. 0 leads."""
    return int(os.environ.get("RANK", "0"))


def gpu_memory() -> dict[str, tuple[int, int]]:
    """Free and total bytes of each GPU slot; those are left out of which nvidia-smi does not say it."""
    numbers = {slot: told[:2] for slot, told in _gpus().items() if told[0].isdigit() and told[1].isdigit()}
    return {slot: (int(free) * 2**20, int(total) * 2**20) for slot, (free, total) in numbers.items()}


def fast_bfloat16(device: str) -> str:
    """What makes this device fast at bfloat16, in a few words; empty if nothing does, or nobody says."""
    if device.startswith("cuda"):
        capability = _gpus().get(device, ("", "", ""))[2]
        return f"compute capability {capability}" if capability.partition(".")[0].isdigit() and float(capability) >= 8 else ""
    try:
        able = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split() if device == "cpu" else []
    except OSError:
        able = []
    return "AMX" if "amx_tile" in able else "AVX512-BF16" if "avx512_bf16" in able else ""


def in_words(precision: str, device: str, fast: str) -> str:
    """ "bfloat16: this CPU computes it fast (AMX)". `fast`: what makes bfloat16 fast here, if anything does."""
    here = {"cpu": "this CPU", "mps": "this Mac's GPU"}.get(device, "this GPU")
    if precision == "bfloat16":
        return f"bfloat16: {here} computes it fast ({fast})" if fast else f"bfloat16, though {here} is not known to be fast at it"
    return f"float32, though {here} is fast at bfloat16 ({fast})" if fast else f"float32: {here} is not known to be fast at bfloat16"


def _named_gpus() -> list[str] | None:
    """The numbers or UUIDs in CUDA_VISIBLE_DEVICES up to the first that names no GPU, as CUDA reads it; None without it."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return None
    named: list[str] = []
    for name in (part.strip() for part in given.split(",")):
        if not (name.isdigit() or name.startswith(("GPU-", "MIG-"))):
            break
        named.append(name)
    return named


def _gpus() -> dict[str, tuple[str, str, str]]:
    """Free and total MiB and the compute capability of each slot, as nvidia-smi writes them."""
    known: dict[str, tuple[str, str, str]] = {}
    for line in _told_by_driver(int(time.monotonic() / FRESH)).splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(ASKED.split(",")) and cells[0].isdigit():
            known[cells[0]] = known[cells[1]] = (cells[2], cells[3], cells[4])
    named = _named_gpus()
    order = [name for name in known if name.isdigit()] if named is None else named
    return {f"cuda:{place}": known[name] for place, name in enumerate(order) if name in known}


@lru_cache(maxsize=1)
def _told_by_driver(_moment: int) -> str:
    words = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
