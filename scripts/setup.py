"""Make .venv and install Dianjing in it: `python3 scripts/setup.py [--test]`. Needs nothing but Python.

It is what `make` calls first every time, so it is instant when nothing has changed: `.venv/installed` remembers what was
installed from which files. PyTorch comes in two builds. Without an NVIDIA card on Linux the CPU build is enough, and its
own index has it; where that index does not answer, and everywhere else, PyTorch comes from the index pip is set up with.
"""

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
PYTHONS = (3, 11), (3, 13)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Everything in constraints.txt but PyTorch is 0.3 GB of wheels; what PyTorch adds depends on where it comes from.
SIZES = {
    "cpu": "about 0.5 GB, of which 0.2 GB is PyTorch's CPU build",
    "cuda": "up to 3 GB, most of it PyTorch with its CUDA libraries",
    "default": "about 0.4 GB",
}


def main(arguments: list[str] | None = None) -> None:
    """Bring .venv up to date, and with --test also what tests need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="also install what tests need, Chromium included")
    test = parser.parse_args(arguments).test
    if problem := python_problem(sys.version_info[:2], has_ensurepip=importlib.util.find_spec("ensurepip") is not None):
        sys.exit(problem)
    want = fingerprint(ROOT, sys.version_info[:2])
    if not satisfied(STAMP.read_text() if STAMP.exists() else "", want, test):
        install(test)
        STAMP.write_text(f"{want} {'test' if test else 'run'}\n")
    if test and not has_chromium():
        install_chromium()


def python_problem(version: tuple[int, ...], has_ensurepip: bool) -> str:
    """What is wrong with this Python and how to put it right; empty when it will do."""
    low, high = (".".join(map(str, end)) for end in PYTHONS)
    name = ".".join(map(str, version))
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        return f"Dianjing needs Python {low} to {high}; this is {name}. Name another one: make run PYTHON=python{low}"
    if not has_ensurepip:
        return f"Python {name} cannot make a virtual environment yet. Run:\n  sudo apt-get install -y python{name}-venv\nand try again."
    return ""


def fingerprint(root: Path, version: tuple[int, ...]) -> str:
    """Changes when an installed .venv no longer matches the project's files or this Python."""
    files = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*files, repr(version).encode()])).hexdigest()


def satisfied(stamp: str, want: str, test: bool) -> bool:
    """Is what the stamp remembers enough? What tests need includes what running needs."""
    return stamp.split() in ([[want, "test"]] if test else [[want, "test"], [want, "run"]])


def torch_source(system: str, nvidia: bool, cpu_index_answers: bool) -> str:
    """Which PyTorch to fetch: "cpu" from its own index, else from pip's own: with "cuda" libraries, or "default" on macOS."""
    if system != "Linux":
        return "default"
    return "cpu" if cpu_index_answers and not nvidia else "cuda"


def install(test: bool) -> None:
    """Make .venv if there is none and install the pinned packages in it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    nvidia = shutil.which("nvidia-smi") is not None
    source = torch_source(platform.system(), nvidia, cpu_index_answers=not nvidia and answers(CPU_INDEX + "/"))
    print(f"Installing Dianjing. To download, unless pip has it already: {SIZES[source]}.", flush=True)
    extra = ["--extra-index-url", CPU_INDEX] if source == "cpu" else []
    target = f"{ROOT}[test]" if test else str(ROOT)
    command = [python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", *extra, "--editable", target]
    if subprocess.run(command, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}).returncode:
        sys.exit("The installation did not finish; pip says why above. What it fetched is kept: run the same command again.")


def answers(address: str, seconds: float = 3) -> bool:
    """Does this address answer in time? In a thread, since looking up a name has no time-out of its own."""
    answer: SimpleQueue[bool] = SimpleQueue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
            answer.put(True)
        except (OSError, ValueError):
            answer.put(False)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except Empty:
        return False


def has_chromium() -> bool:
    """Is there a browser for the tests: named, on the path, or playwright's own?"""
    if os.environ.get("DIANJING_CHROMIUM") or shutil.which("chromium"):
        return True
    code = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    found = subprocess.run([VENV / "bin" / "python", "-c", code], capture_output=True, text=True)
    return found.returncode == 0 and Path(found.stdout.strip()).exists()


def chromium_commands(os_release: str, apt: bool, root: bool, sudo: bool) -> list[list[str]]:
    """How to get Chromium here. Debian's own package where apt can be used (Ubuntu's is an empty shell around snap)."""
    debian = "ID=debian" in os_release.split()
    prefix = [] if root else ["sudo", "-n"]
    if debian and apt and (root or sudo):
        return [[*prefix, "apt-get", "update"], [*prefix, "apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
    playwright = [str(VENV / "bin" / "playwright"), "install"]
    return [[*playwright, *(["--with-deps"] if apt and (root or sudo) else []), "chromium"]]


def install_chromium() -> None:
    """Install Chromium for the browser tests."""
    release = Path("/etc/os-release")
    sudo = shutil.which("sudo") is not None and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    apt = shutil.which("apt-get") is not None
    print("Installing Chromium for the browser tests.", flush=True)
    for command in chromium_commands(release.read_text() if release.exists() else "", apt, os.geteuid() == 0, sudo):
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
            sys.exit(f"`{' '.join(command)}` failed. Install Chromium yourself, or name one: DIANJING_CHROMIUM=/path/to/chromium")


if __name__ == "__main__":
    main()
