"""Which slots a heavy run takes: as many as it has processes, on GPUs that other programs leave enough memory of.

An estimate is rough, so a GPU that nobody else uses is always good enough. What our own child that answers live holds
counts as free: it leaves as soon as a run takes its GPU.
"""

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit
from engine.catalogue import stages
from engine.devices import devices, gpu_memory
from engine.inference import lock_name
from engine.processes import alive
from storage import queries
from storage.database import transaction
from storage.files import Home
from storage.tables import Lock, Run

UNUSED = 0.9  # of a GPU's memory: more is never waited for


class Slots:
    """Chooses, and says in a run's log what it waits for: once, until that changes."""

    def __init__(self, database: Engine, home: Home, now: Callable[[], datetime]) -> None:
        self.database, self.home, self.now = database, home, now
        self._needs: dict[int, int] = {}  # bytes on each GPU, by run
        self._told: dict[int, str] = {}

    def choose(self, run: Run, free: list[str]) -> list[str]:
        """The slots that a run takes, of those that no other run holds; none while it has to wait.

        On the CPU any number of processes share the one slot.
        """
        wanted = 1 if free[0] == "cpu" else shared_by(run)
        if wanted > len(free):
            if wanted > (there := len(devices())):
                self._say(run, "devices", f"waiting for {wanted} GPUs: this machine has {there} now")
            return []
        memory = gpu_memory() if free[0].startswith("cuda") else {}
        full = self._full(run, free, memory)
        roomy = [slot for slot in free if slot not in full]
        if len(roomy) < wanted:
            room = ", ".join(f"{memory[slot][0] / 1e9:.1f} GB free on {slot}" for slot in full)
            self._say(run, "memory", f"waiting for {self._needs[run.id or 0] / 1e9:.1f} GB on a GPU: {room}, other programs use the rest")
            return []
        return roomy[:wanted]

    def _full(self, run: Run, free: list[str], memory: dict[str, tuple[int, int]]) -> list[str]:
        """Those of the free slots that other programs fill."""
        if not memory:
            return []
        assert run.id is not None
        if run.id not in self._needs:
            self._needs[run.id] = submit.memory_needed(self.database, self.home, run)
        short = [slot for slot in free if slot in memory and memory[slot][0] < min(self._needs[run.id], UNUSED * memory[slot][1])]
        with Session(self.database) as session:
            return [slot for slot in short if not _answers(session, slot)]

    def _say(self, run: Run, why: str, message: str) -> None:
        assert run.id is not None
        if self._told.get(run.id) != why:
            self._told[run.id] = why
            with transaction(self.database) as session:
                queries.say(session, run.id, message, self.now(), "warning")


def shared_by(run: Run) -> int:
    """How many processes share a run."""
    stage = stages().get(run.stage)
    try:
        return stage.model_validate(run.settings).processes() if stage else 1
    except ValidationError:  # another version's settings: the child says so
        return 1


def _answers(session: Session, slot: str) -> bool:
    row = session.get(Lock, lock_name(slot))
    return row is not None and alive(row.pid, row.pid_started)
