"""A home in one file, taken while runs go on: the rows, the chosen artifacts, logs and uploads.

SQLite's own backup copies the rows of one moment, and that snapshot decides what else belongs to the file. Artifacts
never change once they are ready, so they can be read afterwards; only a deletion can come between. It writes its row
before the first file goes: an artifact whose files were all open while its row still stood is whole.

The file is a plain tar, since weights hardly compress. Its manifest, with a checksum of everything else, is written
last, and only then does the file get its name. `engine.restore` reads it.
"""

import hashlib
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from pydantic import BaseModel
from sqlalchemy import Engine, NullPool, create_engine
from sqlmodel import Session, col, select

from engine import library
from engine.catalogue import did_you_mean
from engine.errors import UserError
from engine.submit import code_version
from storage import labels, queries
from storage.files import Home
from storage.tables import Artifact, Run

DATABASE, MANIFEST = "dianjing.db", "manifest.json"
OF_THIS_MACHINE = ("sign_in", "attempt", "lock")  # who is signed in, who failed to, which processes live: not kept
NEVER_KEPT = "downloaded starters and compiled code, which are made again; who is signed in"


class File(BaseModel):
    """One file of a backup."""

    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a backup holds, and in words what it does not."""

    version: str
    revision: str  # of the database
    made_at: datetime
    runs: int
    artifacts: list[int]
    left_out: list[str]
    files: list[File]


@dataclass(frozen=True)
class Contents:
    """What a snapshot says belongs to the backup."""

    revision: str
    runs: list[int]
    artifacts: list[Artifact]
    checkpoints: list[tuple[int, int]]  # run, step
    left_out: list[str]


def back_up(database: Engine, home: Home, target: Path, artifacts: str = "all", checkpoints: bool = False) -> Manifest:
    """Write a backup; what is in it. `artifacts` is all, none, or ids and names with commas between; the models that
    chosen adapters stand on come with them. Open ranking projects always come: people are in the middle of them.

    Raises UserError for rows that are not in SQLite, for a target that exists or lies in the home, for an artifact that
    is not there, and for a disk too full.
    """
    if database.dialect.name != "sqlite":
        message = "the rows are in {server}: save them with its own tools (pg_dump), then copy artifacts, runs and uploads of {home}"
        raise UserError(message, server=database.dialect.name, home=home.root)
    target = target.expanduser().resolve()
    _check_place(target, home)
    with TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as aside:
        snapshot = Path(aside) / DATABASE
        _take_snapshot(Path(database.url.database or ""), snapshot)
        contents = _look(snapshot, home, artifacts, checkpoints)
        _refuse_unless_room(target.parent, snapshot.stat().st_size + _size(home, contents))
        whole = Path(aside) / "whole"
        with tarfile.open(whole, "x", format=tarfile.PAX_FORMAT) as tar:
            manifest = _fill(tar, database, home, snapshot, contents)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.rename(target)
    return manifest


def _check_place(target: Path, home: Home) -> None:
    if target.exists():
        raise UserError("{target} exists already, and nothing is overwritten: choose another name", target=target)
    if target.is_relative_to(home.root):
        raise UserError("{target} lies in the home that is to be backed up: choose a place outside {home}", target=target, home=home.root)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError("nothing can be written to {folder}: make that folder first, or choose another place", folder=target.parent)


def _take_snapshot(source: Path, snapshot: Path) -> None:
    """The rows of one moment. The copy is one step, so nobody who writes has to wait, and no half transaction is in it."""
    with closing(sqlite3.connect(source)) as live:
        (pages,), (size,) = live.execute("PRAGMA page_count").fetchone(), live.execute("PRAGMA page_size").fetchone()
        _refuse_unless_room(snapshot.parent, 2 * pages * size)
        with closing(sqlite3.connect(snapshot)) as copy:
            live.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file
            copy.execute("PRAGMA secure_delete=ON")
            for table in OF_THIS_MACHINE:
                copy.execute(f"DELETE FROM {table}")  # noqa: S608  (names of our own)
            copy.commit()
            (sound,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise UserError("the database is damaged ({what}): restore an earlier backup", what=sound)


def _look(snapshot: Path, home: Home, wanted: str, checkpoints: bool) -> Contents:
    """Which runs and artifacts there are, and which of them are wanted."""
    with Session(create_engine(f"sqlite:///{snapshot}", poolclass=NullPool)) as session:
        (revision,) = session.connection().exec_driver_sql("SELECT version_num FROM alembic_version").one()
        runs = [run for run in session.exec(select(Run.id).order_by(col(Run.id))) if run]
        there = {artifact.id or 0: artifact for artifact in queries.artifacts(session)}
        chosen = _chosen(session, there, wanted) | {project.id or 0: project for project in labels.open_projects(session)}
        left_out = [_named(session, artifact) for id, artifact in there.items() if id not in chosen]
    saved = [(run, step) for run in runs for step in library.checkpoints(home, run)]
    if saved and not checkpoints:
        left_out.append(f"checkpoints of runs {', '.join(str(run) for run in dict(saved))}: --checkpoints keeps them")
    return Contents(revision, runs, list(chosen.values()), saved if checkpoints else [], [*left_out, NEVER_KEPT])


def _chosen(session: Session, there: dict[int, Artifact], wanted: str) -> dict[int, Artifact]:
    if wanted in ("all", "none"):
        return there if wanted == "all" else {}
    chosen = {}
    for word in (part.strip() for part in wanted.split(",")):
        named = [artifact.id for artifact in queries.artifacts_named(session, word)]
        id = next(iter(named), int(word) if word.isdecimal() else 0)
        if id not in there:
            hint = did_you_mean(word, [artifact.name for artifact in there.values()])
            raise UserError("there is no artifact {name} to keep; {hint}", field="--artifacts", name=repr(word), hint=hint)
        while id in there:
            chosen[id] = there[id]
            id = there[id].summary.get("base")
    return chosen


def _named(session: Session, artifact: Artifact) -> str:
    needed = library.needed_by(session, artifact.id or 0)
    return f"{artifact.kind} {artifact.name}" + (f", needed by {', '.join(needed)}" if needed else "")


def _fill(tar: tarfile.TarFile, database: Engine, home: Home, snapshot: Path, contents: Contents) -> Manifest:
    artifacts, left_out = [], list(contents.left_out)
    files = _add_loose(tar, snapshot.parent, [snapshot])
    for artifact in contents.artifacts:
        added = _add_folder(tar, home, home.root / artifact.folder, partial(_stands, database, artifact.id or 0))
        if added is None:
            left_out.append(f"{artifact.kind} {artifact.name}: deleted while the backup was made")
        else:
            files += added
            artifacts.append(artifact.id or 0)
    for run, step in contents.checkpoints:
        folder = _checkpoint(home, run, step)
        files += _add_folder(tar, home, folder, partial(_is_whole, home, run, step)) or []
    files += _add_loose(tar, home.root, _loose(home, contents.runs))
    manifest = Manifest(
        version=code_version(), revision=contents.revision, made_at=queries.utc_now(), runs=len(contents.runs),
        artifacts=artifacts, left_out=left_out, files=files,
    )  # fmt: skip
    _add(tar, MANIFEST, BytesIO(manifest.model_dump_json(indent=1).encode()))
    return manifest


def _add_folder(tar: tarfile.TarFile, home: Home, folder: Path, stands: Callable[[], bool]) -> list[File] | None:
    """Add every file of a folder that nobody writes to any more, or nothing at all when it was deleted meanwhile."""
    with ExitStack() as opened:
        try:
            parts = [(path, opened.enter_context(path.open("rb"))) for path in _files(folder)]
        except FileNotFoundError:
            return None
        if not folder.is_dir() or not stands():
            return None
        return [_add(tar, path.relative_to(home.root).as_posix(), file) for path, file in parts]


def _add_loose(tar: tarfile.TarFile, root: Path, paths: list[Path]) -> list[File]:
    files = []
    for path in paths:
        with path.open("rb") as file:
            files.append(_add(tar, path.relative_to(root).as_posix(), file))
    return files


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> File:
    """Add as much of a file as there is now: a log goes on growing."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = file.seek(0, os.SEEK_END), int(time.time())
    file.seek(0)
    hashed = _Hashed(file)
    tar.addfile(info, hashed)
    return File(path=name, size=info.size, sha256=hashed.digest.hexdigest())


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data


def _size(home: Home, contents: Contents) -> int:
    folders = [home.root / artifact.folder for artifact in contents.artifacts]
    total = 0
    for folder in folders + [_checkpoint(home, run, step) for run, step in contents.checkpoints]:
        with suppress(FileNotFoundError):  # deleted this moment
            total += sum(path.stat().st_size for path in _files(folder))
    return total + sum(path.stat().st_size for path in _loose(home, contents.runs))


def _checkpoint(home: Home, run: int, step: int) -> Path:
    return home.run_folder(run) / "checkpoints" / f"checkpoint-{step}"


def _stands(database: Engine, artifact: int) -> bool:
    with Session(database) as session:
        return session.get_one(Artifact, artifact).deleted_at is None


def _is_whole(home: Home, run: int, step: int) -> bool:
    return step in library.checkpoints(home, run)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _loose(home: Home, runs: list[int]) -> list[Path]:
    """Logs of runs, and what people uploaded."""
    logs = [home.run_folder(run) / "log.txt" for run in runs]
    return [path for path in logs if path.is_file()] + _files(home.uploads)


def _refuse_unless_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = "the backup takes {needed:.1f} GB and {folder} has {free:.1f} GB left: keep fewer artifacts, or choose another place"
        raise UserError(message, needed=needed / 1e9, free=free / 1e9, folder=folder)
