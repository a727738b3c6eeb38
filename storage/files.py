"""The home folder: where the database, the runs' working folders, artifacts and starters lie.

An artifact's folder is written under a temporary name and renamed into place just before its row says ready, so that a
half-written folder can never look finished.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder that holds everything a person made. Movable: rows keep paths relative to it."""

    root: Path

    @property
    def database_url(self) -> str:
        """The SQLite file in the home, unless DIANJING_DATABASE names another database."""
        return os.environ.get("DIANJING_DATABASE") or f"sqlite:///{self.root / 'dianjing.db'}"

    @property
    def starters(self) -> Path:
        """Downloaded starter models."""
        return self.root / "starters"

    @property
    def uploads(self) -> Path:
        """Files people gave in the browser."""
        return self.root / "uploads"

    @property
    def incoming(self) -> Path:
        """Files on their way from the browser, until they are copied to where they belong."""
        return self.root / "incoming"

    def run_folder(self, run: int) -> Path:
        """A run's working folder: its log and checkpoints."""
        return self.root / "runs" / str(run)

    def artifact_folder(self, artifact: int) -> Path:
        """Where an artifact lies once it is ready."""
        return self.root / "artifacts" / str(artifact)

    def aside(self, artifact: int) -> Path:
        """Where an artifact is written before that."""
        return self.root / "artifacts" / f".{artifact}.partial"


def fresh(folder: Path) -> Path:
    """The same folder, existing and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def put_in_place(aside: Path, folder: Path) -> int:
    """Rename a finished folder to its place, flushed to disk. Returns its size in bytes.

    What lies in the place already can only come from a run that died between its rename and its row: it is replaced.
    """
    size = 0
    for path in sorted(aside.rglob("*")):
        if path.is_file():
            size += path.stat().st_size
            with path.open("rb") as file:
                os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
    return size


def forget_old(folder: Path, before: float) -> None:
    """Delete what nobody has written to since then: files below a folder, and then the folders left empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):  # gone already, or not empty
            if path.lstat().st_mtime < before:
                path.rmdir() if path.is_dir() else path.unlink()


def default_home() -> Home:
    """DIANJING_HOME, or ~/.dianjing."""
    return Home(Path(os.environ.get("DIANJING_HOME") or "~/.dianjing").expanduser().resolve())
