"""What the tests of processes share: real children of a real extension, dispatched here, and waiting for conditions."""

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from engine import catalogue, submit
from engine.dispatcher import Dispatcher
from engine.processes import alive
from storage import queries
from storage.files import Home
from storage.tables import FINAL, Artifact, Run

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "tests" / "extension"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stages of tests/extension, installed here and in every child."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(EXTENSION)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(EXTENSION)
    importlib.invalidate_caches()
    forget_catalogue()
    yield
    forget_catalogue()


def forget_catalogue() -> None:
    catalogue.stages.cache_clear()
    catalogue.recipes.cache_clear()


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; the limit only ends a test that has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.02)


class Machine:
    """A home with a dispatcher that lives in the test: start runs, look at them, wait for them."""

    def __init__(self, database: Engine, home: Home) -> None:
        self.database, self.home = database, home

    def submit(self, name: str, **settings: object) -> submit.Submitted:
        """Queue a stage or recipe."""
        return submit.submit(self.database, self.home, submit.parse(self.database, catalogue.find(name), settings))

    def start(self, name: str, **settings: object) -> int:
        """Queue a stage; its run's id."""
        return self.submit(name, **settings).runs[0]

    def row(self, run: int) -> Run:
        """A run as it is now."""
        with Session(self.database) as session:
            return session.get_one(Run, run)

    def artifact(self, id: int) -> Artifact:
        """An artifact as it is now."""
        with Session(self.database) as session:
            return session.get_one(Artifact, id)

    def has_ended(self, *runs: int) -> bool:
        """Whether these runs reached a final state."""
        return all(self.row(run).status in FINAL for run in runs)

    def dispatcher(self, **options: object) -> Dispatcher:
        """One that holds this home until it is closed."""
        return Dispatcher(self.database, self.home, **{"keep_spare": False, **options})

    def dispatch(self, until: Callable[[], object], seconds: float = 60, **options: object) -> None:
        """Dispatch here until a condition holds."""
        dispatcher = self.dispatcher(**options)

        def ticked() -> object:
            dispatcher.tick()
            return until()

        try:
            eventually(ticked, seconds)
        finally:
            dispatcher.close()

    def finish(self, *runs: int, seconds: float = 60, **options: object) -> list[str]:
        """Dispatch until these runs have ended; their states."""
        self.dispatch(lambda: self.has_ended(*runs), seconds, **options)
        return [self.row(run).status for run in runs]


@pytest.fixture
def machine(database: Engine, home: Home, extension: None) -> Iterator[Machine]:
    """A home with the extension; whatever still runs when the test ends is killed."""
    machine = Machine(database, home)
    yield machine
    with Session(database) as session:
        for run in queries.runs(session, "running"):
            if alive(run.pid, run.pid_started):
                os.killpg(run.pid, signal.SIGKILL)
