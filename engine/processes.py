"""Who a process is, beyond its pid, and the environment its children get.

A pid is reused; a pid with its start time and the machine's boot is not. On Linux both come from /proc, which counts
start times in ticks since boot and so does not move with the wall clock.
"""

import os
import sys
from pathlib import Path

import psutil

# What torchrun and clusters set.
CLUSTER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def identity(pid: int) -> str | None:
    """What distinguishes this process from a later one with its pid; None if it is gone or a zombie."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (OSError, IndexError):
            return None
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def alive(pid: int | None, known_identity: str | None) -> bool:
    """Whether the process that was given this identity still runs."""
    return pid is not None and known_identity is not None and identity(pid) == known_identity


def child_environment(root: Path, heavy: bool, online: bool = False) -> dict[str, str]:
    """What a child must find in its environment before it starts: glibc, OpenMP and the hub read these only then.

    A run that torchrun does not start is alone, whatever started the dashboard; GPUs are numbered as nvidia-smi numbers them.
    The allocator settings keep freed tensors mapped: page faults of large temporaries cost a tenth of a training step
    on the CPU. A light child gets one thread, since two torch processes on two cores stall each other by spinning.
    """
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | {name: value for name, value in os.environ.items() if name not in CLUSTER}
    environment |= {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
        "MALLOC_TOP_PAD_": str(256 * 2**20),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(root / "compiled"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # torchrun starts python without -P
    }
    if not online:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if not heavy:
        environment |= {"OMP_NUM_THREADS": "1", "MALLOC_TOP_PAD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20)}
    return environment


def inference_environment(root: Path) -> dict[str, str]:
    """The environment of a child that answers live: what a dropped model held goes back to the machine at once, and
    the number of threads is chosen while it runs."""
    own = ("OMP_NUM_THREADS", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    chosen = {name: value for name, value in child_environment(root, heavy=False).items() if name not in own}
    return chosen | {name: os.environ[name] for name in own if name in os.environ}
