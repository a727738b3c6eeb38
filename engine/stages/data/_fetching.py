"""How far a download is, told while somebody else does it: by the bytes that have arrived."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.work import Work


def watch(work: "Work", running: Callable[[], bool], folder: Path, total: int) -> None:
    """Until `running` says no, report the share of `total` bytes in `folder` as the first half of the run.
    Raises Cancelled when the person asked to stop."""
    over = False
    while not over:
        over = not running()
        work.progress(min(49, 50 * _bytes(folder) // max(total, 1)), 100)
        time.sleep(0 if over else 0.2)


def _bytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # moved meanwhile
                size += (Path(place) / name).stat().st_size
    return size
