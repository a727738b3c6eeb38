"""Waiting for the network without going deaf: what takes long runs in a thread, and how far it is shows in the bytes that arrived."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from engine.work import Work

T = TypeVar("T")


def watch(work: "Work", running: Callable[[], bool], folder: Path, total: int) -> None:
    """Until `running` says no, report the share of `total` bytes in `folder` as the first half of the run.
    Raises Cancelled when the person asked to stop."""
    over = False
    while not over:
        over = not running()
        work.progress(min(49, 50 * _bytes(folder) // max(total, 1)), 100)
        time.sleep(0 if over else 0.2)


def in_background(do: Callable[[], T]) -> "Future[T]":
    """Start it in a thread that does not hold up the end of this process; its result, or its error, when it is there."""
    told: Future[T] = Future()

    def run() -> None:
        try:
            told.set_result(do())
        except BaseException as error:  # noqa: BLE001  (raised again where the result is asked for)
            told.set_exception(error)

    Thread(target=run, daemon=True).start()
    return told


def _bytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # moved meanwhile
                size += (Path(place) / name).stat().st_size
    return size
