"""The child process: one run, from queued to settled.

It marks its own run as running, so that a run is never started twice even when the dispatcher dies between starting a
child and noting it; and it settles its run itself: the outputs' folders are renamed, then status and outputs change in
one transaction. What it could not settle, because it was killed, the dispatcher does.
"""

import errno
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from sqlalchemy import Engine
from sqlmodel import Session

from engine import library, submit
from engine.catalogue import stages
from engine.devices import compute_device, rank
from engine.errors import Cancelled, UserError
from engine.follower import Follower
from engine.processes import identity
from engine.stage import Stage
from engine.work import Work
from storage import queries
from storage.database import open_database, transaction
from storage.files import Home
from storage.tables import CANCELLED, FAILED, RUNNING, SUCCEEDED, Run

NOT_MINE = 75  # the exit status of a child whose run is not queued any more


def work(database: Engine, home: Home, run: int, device: str = "cpu") -> int:
    """Do one queued run in this process. Returns 0 if it succeeded, 1 if not, NOT_MINE if it was not there to take."""
    if rank():
        return _follow(database, home, run, device)
    with transaction(database) as session:
        if not queries.begin(session, run, os.getpid(), identity(os.getpid()) or "", device, queries.utc_now()):
            return NOT_MINE
    home.run_folder(run).mkdir(parents=True, exist_ok=True)
    status, error, made = FAILED, None, None
    try:
        stage, task = _prepare(database, home, run, compute_device(device), Work)
        stage.run(task)
        made = task.put_outputs_in_place()
        status = SUCCEEDED
    except Cancelled:
        status, error = CANCELLED, "stopped; what was saved can be resumed"
    except Exception as problem:  # noqa: BLE001  (whatever a stage raises is the run's end, told in its row)
        error = explain(problem, home)
        if not isinstance(problem, UserError):
            traceback.print_exc()
    with transaction(database) as session:
        if status != SUCCEEDED:
            library.discard_unfinished(session, home, run)
        if error and status == FAILED:
            queries.say(session, run, error, queries.utc_now(), "error")
        queries.settle(session, run, status, queries.utc_now(), error, made)
    return 0 if status == SUCCEEDED else 1


def _follow(database: Engine, home: Home, run: int, device: str) -> int:
    """Do a run's work beside the process that leads it: the row and the outputs are the leader's.

    A failure is told, since the leader learns only that somebody is gone. Leaving because of a stop is none: torchrun
    ends the others as soon as one fails, and the leader may still be saving.
    """
    for _ in range(600):  # until the leader has marked the run
        with Session(database) as session:
            status = session.get_one(Run, run).status
        if status == RUNNING:
            break
        time.sleep(0.1)
    if status != RUNNING:
        return NOT_MINE
    try:
        stage, task = _prepare(database, home, run, compute_device(device), Follower)
        stage.run(task)
    except Cancelled:
        return 0
    except Exception as problem:  # noqa: BLE001
        traceback.print_exc()
        if not isinstance(problem, UserError) and not _misses_another(problem):
            with transaction(database) as session:
                queries.say(session, run, f"process {rank()} of this run: {explain(problem, home)}", queries.utc_now(), "error")
        return 1
    return 0


def explain(problem: Exception, home: Home) -> str:
    """What went wrong, in a sentence that says what to do where that is known."""
    if isinstance(problem, UserError):
        return str(problem)
    text = f"{problem}"
    full = "No space left on device" in text or "database or disk is full" in text
    if full or (isinstance(problem, OSError) and problem.errno == errno.ENOSPC):
        free = shutil.disk_usage(home.root).free / 1e6
        return f"the disk is full ({free:.0f} MB left): delete artifacts or checkpoints, then resume; the last whole checkpoint is kept"
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        details = text.splitlines()[0][:200] if text else "no details"
        return f"out of memory: lower batch size or max length, or use LoRA, then resume ({details})"
    if _misses_another(problem):
        details = text.splitlines()[0][:200]
        return f"another process of this run ended (killed, or out of memory): the log may say more; resume goes on ({details})"
    return f"{type(problem).__name__}: {text}"


def _misses_another(problem: Exception) -> bool:
    """Whether a process failed because it waited for another one of its run."""
    lost = ("closed by peer", "Connection reset", "Broken pipe", "NCCL", "Gloo")
    return "LOCAL_RANK" in os.environ and any(words in str(problem) for words in lost)


def main(home: Home, run: int, device: str) -> int:
    """Entry of a cold child: `python -m engine work RUN`."""
    return work(open_database(home), home, run, device)


def spare(home: Home) -> int:
    """Entry of the hot spare: import the heavy libraries, wait for "RUN DEVICE" on stdin, become that run's child.

    The imports run in a thread at the lowest priority, and only they do: on Linux a thread has its own niceness, so
    the run itself starts at normal priority, which an unprivileged process could not win back.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importing = threading.Thread(target=_import_heavy_libraries)
    importing.start()
    importing.join()
    line = sys.stdin.readline().split()
    if not line:  # the dispatcher is gone, or has no use for it
        return 0
    run, device = int(line[0]), line[1]
    log_to(home.run_folder(run))
    os.chdir(home.run_folder(run))
    return main(home, run, device)


def log_to(folder: Path) -> None:
    """Send this process's output to the run's log file."""
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _import_heavy_libraries() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    import peft  # noqa: F401
    import torch  # noqa: F401
    import trl  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401
    from trl import SFTTrainer  # noqa: F401


def _prepare(database: Engine, home: Home, run: int, device: str, kind: type[Work]) -> tuple[Stage, Work]:
    with Session(database) as session:
        row = session.get_one(Run, run)
        known = stages()
        if row.stage not in known:
            raise UserError("there is no stage named {name} any more", name=row.stage)
        stage = known[row.stage].model_validate(row.settings)
        submit.check(stage, submit.look(session, home, stage))
        session.expunge(row)
    task = kind(database, home, row, stage, device=device)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        task.stopping = True

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    return stage, task
