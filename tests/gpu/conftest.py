"""Tests that need CUDA skip themselves without it. `make test-gpu` ends with a report to paste: what they ran on, and how it went."""

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.engine.conftest import Machine, extension, machine  # noqa: F401  (fixtures)
from tests.engine.teaching import Class

OUTCOMES = ("passed", "failed", "error", "skipped")
MEASURED: list[str] = []


@pytest.fixture
def school(machine: Machine, add_artifact: Callable[..., int], tmp_path: Path) -> Class:  # noqa: F811
    """A tiny model and its data in a home that a dispatcher can work on."""
    return Class(machine.database, machine.home, add_artifact, tmp_path)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Put a line into the report."""
    return lambda line: MEASURED.append(f"{request.node.name}: {line}")


@pytest.fixture
def gpus() -> int:
    """How many GPUs there are; without any the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    return torch.cuda.device_count()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report, when the GPU tests were asked for."""
    if config.getoption("markexpr") != "gpu":
        return
    terminalreporter.section("report of make test-gpu: paste this")
    for line in (*_machine(), *MEASURED):
        terminalreporter.line(line)
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            why = f" ({report.longrepr[2]})" if outcome == "skipped" and isinstance(report.longrepr, tuple) else ""
            terminalreporter.line(f"{outcome:<8} {report.duration:6.1f} s  {report.nodeid.rpartition('::')[2]}{why}")


def _machine() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.platform()}"
    yield f"torch {torch.__version__}, built for CUDA {torch.version.cuda or '-'}"
    for place in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(place)
        yield f"GPU {place}: {card.name}, {card.total_memory / 1e9:.0f} GB, compute capability {card.major}.{card.minor}"
    smi = shutil.which("nvidia-smi")
    words = [smi or "", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split() if smi else []
    yield f"driver {driver[0] if driver else '-'}"
