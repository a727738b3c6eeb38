"""Who a process is, beyond its pid, and the environment its children get.

A pid is reused; a pid with its start time and the machine's boot is not. On Linux both come from /proc, which counts
start times in ticks since boot and so does not move with the wall clock.
"""

import os
import subprocess
import sys
from pathlib import Path

import psutil


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

    The allocator settings keep freed tensors mapped: page faults of large temporaries cost a tenth of a training step
    on the CPU. A light child gets one thread, since two torch processes on two cores stall each other by spinning.
    """
    environment = dict(os.environ)
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


def rank() -> int:
    """Which of the processes that share a run this one is; torchrun says it. 0 leads."""
    return int(os.environ.get("RANK", "0"))


def see_only(slots: str) -> str:
    """Make this process see the GPUs of its run's slots and no others, before CUDA starts; the device it computes on.

    "cuda:1,cuda:3" for a run that two processes share: each sees both, and computes on its own.
    """
    names = slots.split(",")
    if not names[0].startswith("cuda"):
        return names[0]
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    numbers = [int(name.partition(":")[2] or 0) for name in names]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[number] if visible else str(number) for number in numbers)
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def gpu_memory() -> dict[str, tuple[int, int]]:
    """Free and total bytes of each GPU slot, as nvidia-smi tells them; empty where it cannot be asked."""
    words = ["nvidia-smi", "--query-gpu=index,uuid,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    known = {}
    for line in told.splitlines():
        index, uuid, *numbers = (cell.strip() for cell in line.split(","))
        if all(number.isdigit() for number in numbers) and len(numbers) == 2:  # "[N/A]" where a driver does not say
            known[index] = known[uuid] = (int(numbers[0]) * 2**20, int(numbers[1]) * 2**20)
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    names = visible or [index for index in known if index.isdigit()]
    return {f"cuda:{place}": known[name] for place, name in enumerate(names) if name in known}


def devices() -> list[str]:
    """The slots heavy runs share on this machine, found without importing torch: each NVIDIA GPU, or the CPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if Path("/proc/driver/nvidia/gpus").is_dir() and visible not in ("", "-1"):
        count = len(visible.split(",")) if visible else len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
        return [f"cuda:{index}" for index in range(count)]
    if sys.platform == "darwin" and os.uname().machine == "arm64":
        return ["mps"]
    return ["cpu"]
