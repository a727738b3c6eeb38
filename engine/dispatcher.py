"""The process that starts runs whose inputs are ready and settles those that died. One per machine.

It holds nothing that matters: every fact is a row, so it may be killed at any time and the next one goes on. Children
run in sessions of their own with their output in a file; they outlive the dispatcher and the dashboard. It also keeps a
hot spare, a child that has imported the heavy libraries and waits, while somebody seems about to press Start.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from engine import library
from engine.catalogue import stages
from engine.devices import devices, seen_by
from engine.errors import UserError
from engine.outside import STAGE as OUTSIDE
from engine.processes import alive, child_environment, identity
from engine.slots import Slots, shared_by
from engine.worker import NOT_MINE
from storage import queries
from storage.database import transaction
from storage.files import Home
from storage.tables import CANCELLED, FAILED, QUEUED, RUNNING, Lock, Run

log = logging.getLogger(__name__)

LIGHT_AT_ONCE = 2
GRACE = timedelta(seconds=120)  # between asking a run to stop and killing it: longer than the longest step
SPARE_STAYS = timedelta(minutes=10)
SPARE_WORDS = "spare.txt"


@dataclass(frozen=True)
class Child:
    """A process started for a run, and when that run had been queued: a later time means it was resumed since."""

    process: subprocess.Popen[bytes]
    queued_at: datetime


class Dispatcher:
    """`run()` loops over `tick()`. Raises UserError if another dispatcher of this home is alive."""

    def __init__(self, database: Engine, home: Home, keep_spare: bool = True, now: Callable[[], datetime] = queries.utc_now) -> None:
        self.database, self.home, self.keep_spare, self.now = database, home, keep_spare, now
        self.children: dict[int, Child] = {}
        self.starting: dict[int, str | None] = {}  # children that have not marked their run yet; the device of heavy ones
        self.asked: set[int] = set()
        self.slots = Slots(database, home, now)
        self.spare: subprocess.Popen[bytes] | None = None
        self.spare_slot = ""  # the one it sees
        self._take_lock()

    def run(self, until: Callable[[], bool] = lambda: False, pause: float = 0.2) -> None:
        """Dispatch until told to leave. Children go on."""
        try:
            while not until():
                try:
                    self.tick()
                except OperationalError:  # a full disk, a database that restarts: nothing is lost, look again
                    log.exception("the database does not answer")
                time.sleep(pause)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the lock and the spare."""
        self._dismiss_spare()
        with transaction(self.database) as session:
            row = session.get(Lock, "dispatcher")
            if row and row.pid == os.getpid():
                session.delete(row)

    def tick(self) -> None:
        """One look at the rows and the processes."""
        with Session(self.database) as session:
            running = queries.runs(session, RUNNING)
            for run in running:
                self._look_after(run)
            self._forget_ended_children()
            ready = queries.ready_to_start(session)
            held = [run.device for run in running if run.heavy] + [device for device in self.starting.values() if device]
            free = [device for device in devices() if device not in {slot for slots in held for slot in (slots or "").split(",")}]
            light = sum(not run.heavy for run in running) + sum(device is None for device in self.starting.values())
            wanted = queries.spare_wanted(session)
        for run in ready:
            if run.id in self.children or run.id is None:
                continue
            if run.heavy and free:
                chosen = self.slots.choose(run, free)
                if chosen:
                    self._start(run, ",".join(chosen))
                    free = [device for device in free if device not in chosen]
                elif len(free) < shared_by(run) <= len(devices()):
                    free = []  # kept for this one: it would wait for ever if others took each GPU that becomes free
            elif not run.heavy and light < LIGHT_AT_ONCE:
                self._start(run, "cpu")
                light += 1
        self._look_after_spare(wanted, (free or devices())[0])

    # runs

    def _look_after(self, run: Run) -> None:
        assert run.id is not None
        self.starting.pop(run.id, None)
        child = self.children.get(run.id)
        mine = child.process if child and child.process.pid == run.pid else None
        if mine.poll() is not None if mine else not alive(run.pid, run.pid_started):
            self._settle(run, mine.returncode if mine else None)
        elif run.stage == OUTSIDE:
            return  # somebody else's script: it reads that it is asked to stop, and is never killed
        elif run.stop_requested and run.id not in self.asked:
            self.asked.add(run.id)
            _signal(run.pid, signal.SIGTERM)
        elif run.stop_requested and self.now() - run.stop_requested > GRACE:
            _signal(run.pid, signal.SIGKILL)

    def _settle(self, run: Run, exit_status: int | None) -> None:
        """Settle a run whose process is gone. If the child did it itself, the row says so and nothing changes."""
        assert run.id is not None
        reason = how_it_died(exit_status)
        if (count := shared_by(run)) > 1:
            reason = f"one of its {count} processes ended (killed, or out of memory) and took the others along"
        with transaction(self.database) as session:
            row = session.get_one(Run, run.id)
            if (row.status, row.pid, row.pid_started) != (RUNNING, run.pid, run.pid_started):
                return
            library.discard_unfinished(session, self.home, run.id)
            at = f", last step {row.step} of {row.total}" if row.total else ""
            if row.stop_requested:
                queries.settle(session, run.id, CANCELLED, self.now(), f"stopped before it could save ({reason}{at})")
            elif queries.settle(session, run.id, FAILED, self.now(), f"{reason}{at}; resume goes on from its last checkpoint"):
                queries.say(session, run.id, f"{reason}{at}", self.now(), "error")

    def _forget_ended_children(self) -> None:
        for id, child in list(self.children.items()):
            status = child.process.poll()
            if status is None:
                continue
            with transaction(self.database) as session:
                row = session.get_one(Run, id)
                if row.status == QUEUED and row.queued_at == child.queued_at and status != NOT_MINE:  # died before it could mark its run
                    keep_words_of_spare(self.home.run_folder(id))
                    queries.settle(session, id, FAILED, self.now(), f"{how_it_died(status)} before it started: see its log")
                settled = row.status != RUNNING
            if settled:
                del self.children[id]
                self.starting.pop(id, None)

    def _start(self, run: Run, device: str) -> None:
        assert run.id is not None
        stage = stages().get(run.stage)
        online = bool(stage and stage.online)
        self.starting[run.id] = device if run.heavy else None
        self.asked.discard(run.id)
        processes, folder = shared_by(run), self.home.run_folder(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        process = self._hand_to_spare(run.id, device) if run.heavy and processes == 1 and not online else None
        if process is None:
            process = self._spawn(["work", str(run.id), "--device", device], folder / "log.txt", device, run.heavy, online, processes)
        self.children[run.id] = Child(process, run.queued_at)

    def _spawn(
        self, words: list[str], log_file: Path, device: str, heavy: bool, online: bool = False, processes: int = 1
    ) -> subprocess.Popen[bytes]:
        torchrun = ["torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1", "--nproc_per_node", str(processes), "-m"]
        with log_file.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", *(torchrun if processes > 1 else []), "engine", *words, "--home", str(self.home.root)],
                stdin=subprocess.PIPE if words[0] == "spare" else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log_file.parent,
                env=child_environment(self.home.root, heavy, online) | seen_by(device),
                start_new_session=True,
                preexec_fn=None if heavy else _be_nice,
            )

    # the spare

    def _hand_to_spare(self, run: int, device: str) -> subprocess.Popen[bytes] | None:
        """Make the spare this run's child; None if there is none, or it died this moment."""
        if self.spare is None or self.spare.poll() is not None or self.spare_slot != device:
            return None
        process, self.spare = self.spare, None
        self._note_spare()
        try:
            assert process.stdin
            process.stdin.write(f"{run} {device}\n".encode())
            process.stdin.close()
        except BrokenPipeError:
            return None
        with suppress(FileNotFoundError):  # what it says until it finds the run's log
            (self.home.root / SPARE_WORDS).replace(self.home.run_folder(run) / SPARE_WORDS)
        return process

    def _look_after_spare(self, wanted: datetime | None, slot: str) -> None:
        wanting = self.keep_spare and wanted is not None and self.now() - wanted < SPARE_STAYS
        if self.spare and self.spare.poll() is not None:
            self.spare = None
            self._note_spare()
        if wanting and self.spare is None:
            self.spare = self._spawn(["spare"], self.home.root / SPARE_WORDS, slot, heavy=True)
            self.spare_slot = slot
            self._note_spare()
        elif not wanting and self.spare:
            self._dismiss_spare()

    def _dismiss_spare(self) -> None:
        if self.spare:
            assert self.spare.stdin
            self.spare.stdin.close()
            self.spare = None
            self._note_spare()

    def _note_spare(self) -> None:
        """Its pid in a row, so that the dashboard can show its memory."""
        with transaction(self.database) as session:
            row = session.get(Lock, "spare")
            if row:
                session.delete(row)
                session.flush()
            if self.spare:
                session.add(Lock(name="spare", pid=self.spare.pid, pid_started=identity(self.spare.pid) or "", at=self.now()))

    def _take_lock(self) -> None:
        with transaction(self.database) as session:
            row = session.get(Lock, "dispatcher")
            if row and alive(row.pid, row.pid_started):
                raise UserError("a dispatcher for {home} is already running (pid {pid})", home=self.home.root, pid=row.pid)
            if row:
                session.delete(row)
                session.flush()
            session.add(Lock(name="dispatcher", pid=os.getpid(), pid_started=identity(os.getpid()) or "", at=self.now()))


def keep_words_of_spare(folder: Path) -> None:
    """Bring what a spare said before it found its run's log into that log."""
    with suppress(FileNotFoundError), (folder / "log.txt").open("ab") as log_file:
        log_file.write((folder / SPARE_WORDS).read_bytes())


def dispatching(session: Session) -> bool:
    """Whether a dispatcher of this home is alive."""
    row = session.get(Lock, "dispatcher")
    return row is not None and alive(row.pid, row.pid_started)


def start_dispatcher(home: Home, keep_spare: bool = True) -> subprocess.Popen[bytes]:
    """Start one in a process of its own; it leaves when nobody needs it any more."""
    home.root.mkdir(parents=True, exist_ok=True)
    options = ["--leave-with", str(os.getpid())] + ([] if keep_spare else ["--no-spare"])
    with (home.root / "dispatcher.txt").open("ab") as output:
        words = [sys.executable, "-P", "-m", "engine", "dispatch", "--home", str(home.root), *options]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home.root, start_new_session=True)


def stop(database: Engine, run: int, now: datetime | None = None) -> None:
    """Ask a run to save and stop; one that has not started is cancelled at once. Raises UserError if it has ended."""
    now = now or queries.utc_now()
    with transaction(database) as session:
        row = _existing(session, run)
        if row.status == QUEUED:
            queries.settle(session, run, CANCELLED, now, "stopped before it started")
        elif row.status == RUNNING:
            row.stop_requested = row.stop_requested or now
        else:
            raise UserError("run {run} has already ended ({status})", run=run, status=row.status)
        pid = row.pid if row.stage != OUTSIDE and alive(row.pid, row.pid_started) else None
    _signal(pid, signal.SIGTERM)  # only after the intent is written, and even when nobody dispatches


def resume(database: Engine, run: int, now: datetime | None = None) -> None:
    """Queue a failed or cancelled run again: it goes on from its last whole checkpoint. Raises UserError if it cannot."""
    with transaction(database) as session:
        row = _existing(session, run)
        if not queries.queue_again(session, run, now or queries.utc_now()):
            message = "run {run} cannot be resumed: it is {status}, or one of its inputs is not there; retry starts it anew"
            raise UserError(message, run=run, status=row.status)


def how_it_died(exit_status: int | None) -> str:
    """The end of a process in words, from subprocess's return code (negative: a signal); None: nobody saw it."""
    if exit_status is None:
        return "its process is gone (killed, or the machine restarted)"
    if exit_status >= 0:
        return f"its process ended with status {exit_status}"
    name = signal.Signals(-exit_status).name if -exit_status in set(signal.Signals) else "unknown"
    cause = ": probably out of memory, or killed by hand" if -exit_status == signal.SIGKILL else f" ({name})"
    return f"killed (signal {-exit_status}){cause}"


def _existing(session: Session, run: int) -> Run:
    row = session.get(Run, run)
    if row is None:
        raise UserError("there is no run {run}; `dianjing show run ID` shows one", run=run)
    return row


def _signal(pid: int | None, number: signal.Signals) -> None:
    try:
        if pid:
            os.killpg(pid, number)
    except ProcessLookupError:
        log.debug("process group %s was gone before signal %s", pid, number)


def _be_nice() -> None:
    os.nice(19)
