"""What every test may use: a home in a temporary folder, and a way to run one stage in this process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine
from sqlmodel import Session

from engine import submit, worker
from engine.stage import Stage
from storage.database import open_database
from storage.files import Home
from storage.tables import Artifact, Run

# Two torch processes that spin for work stall each other on two cores; torch reads this when it is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("untimed", deadline=None)  # a machine under load is no bug
settings.load_profile("untimed")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home."""
    monkeypatch.delenv("DIANJING_DATABASE", raising=False)
    monkeypatch.setenv("DIANJING_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture
def database(home: Home) -> Engine:
    """The home's database."""
    return open_database(home)


@pytest.fixture
def run_stage(database: Engine, home: Home) -> Callable[[Stage], dict[str, int]]:
    """Submit a stage and work on it here; its outputs' ids by name. A run that does not succeed fails the test."""

    def run(stage: Stage) -> dict[str, int]:
        submitted = submit.submit(database, home, stage)
        worker.work(database, home, submitted.runs[0])
        with Session(database) as session:
            row = session.get_one(Run, submitted.runs[0])
            assert row.status == "succeeded", row.error
        return submitted.outputs

    return run


@pytest.fixture
def add_artifact(database: Engine, home: Home) -> Callable[..., int]:
    """Put a folder into the library as a ready artifact, as if a run had made it; its id."""
    from storage.queries import utc_now

    def add(kind: str, name: str, folder: Path | None = None, **summary: object) -> int:
        with Session(database) as session:
            row = Artifact(kind=kind, name=name, folder="", summary=summary, created_at=utc_now(), ready_at=utc_now())
            session.add(row)
            session.flush()
            assert row.id is not None
            place = home.artifact_folder(row.id)
            place.parent.mkdir(parents=True, exist_ok=True)
            if folder:
                place.symlink_to(folder)
            else:
                place.mkdir()
            row.folder = str(place.relative_to(home.root))
            session.commit()
            return row.id

    return add


