"""A training that somebody else's script does, seen from here: a run of its own with the rows that our trainers write.

The model it trains is an artifact without files: what was measured of it is here, its weights are where the script
saved them. If the script dies, the dispatcher settles the run as it does any other.
"""

import os
from pathlib import Path
from typing import Any

from sqlmodel import Session

from engine.options import home_at
from engine.processes import identity
from engine.stage import Kind, Stage
from engine.submit import code_version
from engine.work import Work
from storage import queries
from storage.database import open_database, transaction
from storage.tables import CANCELLED, RUNNING, SUCCEEDED, Artifact, Run

__all__ = ["CANCELLED", "SUCCEEDED", "OutsideRun"]  # a callback ends a run as one of these
STAGE = FORMAT = "outside"
NOTE = "Trained by a script of its own: what was measured is here, its weights are where the script saved them."


class OutsideRun:
    """A run that is going on in this very process, begun outside."""

    def __init__(self, home: Path | None, name: str, settings: dict[str, Any]) -> None:
        self._home = home_at(home)
        self._database = open_database(self._home)
        now = queries.utc_now()
        with transaction(self._database) as session:
            run = Run(
                stage=STAGE, settings=settings, status=RUNNING, heavy=False, code_version=code_version(), queued_at=now, started_at=now,
                pid=os.getpid(), pid_started=identity(os.getpid()),
            )  # fmt: skip
            session.add(run)
            session.flush()
            self.run = run.id or 0
            title = f"{name} (run {self.run})"
            artifact = Artifact(kind=Kind.MODEL, name=title, folder="", made_by=self.run, field="model", created_at=now)
            session.add(artifact)
            session.flush()
            self.model = artifact.id or 0
            artifact.folder = str(self._home.artifact_folder(self.model).relative_to(self._home.root))
        with Session(self._database) as session:
            row = session.get_one(Run, self.run)
            session.expunge(row)
        self.work = Work(self._database, self._home, row, Stage())
        self.work.folder.mkdir(parents=True, exist_ok=True)

    def asked_to_stop(self) -> bool:
        """Whether a person pressed Stop."""
        with Session(self._database) as session:
            return session.get_one(Run, self.run).stop_requested is not None

    def end(self, status: str, **summary: Any) -> None:
        """Settle it: succeeded, cancelled or failed."""
        self.work.describe("model", format=FORMAT, note=NOTE, **summary)
        made = self.work.put_outputs_in_place()
        with transaction(self._database) as session:
            queries.settle(session, self.run, status, queries.utc_now(), None, made)
