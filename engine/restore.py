"""A home out of a backup. Nothing in the file is trusted: names, kinds, sizes and checksums are compared with the manifest,
and everything is written aside and takes its place at the end, the database last.

Afterwards the rows say what is true in the new home: artifacts whose files were left out count as deleted, and runs that
were going on have failed, so that they can be resumed or retried.
"""

import hashlib
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path, PurePosixPath

from pydantic import ValidationError
from sqlmodel import col, select

from engine.backup import DATABASE, MANIFEST, File, Manifest
from engine.errors import UserError
from storage import queries
from storage.database import HEAD, open_database, transaction
from storage.files import Home, fresh
from storage.tables import FAILED, QUEUED, RUNNING, SKIPPED, Artifact, Run

PLACES = ("artifacts", "runs", "uploads")
MANIFEST_LIMIT = 256 * 2**20  # bytes; a million files
LEFT_OUT = "its files are not in the backup that this home was restored from"
INTERRUPTED = "interrupted: this home was restored from a backup made while it ran; resume goes on from a checkpoint, if one was kept"


def restore(source: Path, home: Home) -> Manifest:
    """Make a home, which must be missing or empty, out of a backup; what was in it.

    Raises UserError, and leaves nothing behind, for a file that is no whole backup, that was changed, that was made by a
    newer version, or that would write outside the home.
    """
    if home.database_url != f"sqlite:///{home.root / DATABASE}":
        raise UserError("DIANJING_DATABASE names another database, and a backup holds its own: unset it to restore")
    made = not home.root.exists()
    if not made and (not home.root.is_dir() or any(home.root.iterdir())):
        raise UserError("{home} is not empty, and nothing is overwritten: name a folder that is", home=home.root)
    aside = Home(fresh(home.root / ".restoring"))
    try:
        with _opened(source) as tar:
            manifest = _manifest(tar, source)
            _refuse_what_cannot_be_restored(manifest, home)
            _extract(tar, manifest, aside.root)
        _tell_the_rows(aside, manifest)
        for part in (*PLACES, DATABASE):
            if (aside.root / part).exists():
                (aside.root / part).rename(home.root / part)
    except (tarfile.TarError, OSError) as error:
        raise UserError("{source} cannot be restored: {why}", source=source, why=error) from None
    finally:
        shutil.rmtree(aside.root, ignore_errors=True)
        if not (home.root / DATABASE).exists():
            _leave_nothing(home, made)
    return manifest


def _leave_nothing(home: Home, made: bool) -> None:
    for part in PLACES:
        shutil.rmtree(home.root / part, ignore_errors=True)
    if made:
        home.root.rmdir()


def _opened(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source, "r:")
    except OSError as error:
        raise UserError("{source} cannot be read: {why}", source=source, why=error.strerror) from None
    except tarfile.TarError:
        raise UserError("{source} is no backup of Dianjing", source=source) from None


def _manifest(tar: tarfile.TarFile, source: Path) -> Manifest:
    members = tar.getmembers()
    last = members[-1] if members else None
    if last is None or last.name != MANIFEST or last.type not in tarfile.REGULAR_TYPES or last.size > MANIFEST_LIMIT:
        raise UserError("{source} is no whole backup: its last part, the manifest, is missing", source=source)
    file = tar.extractfile(last)
    assert file
    try:
        return Manifest.model_validate_json(file.read())
    except ValidationError as error:
        raise UserError("the manifest of {source} cannot be read: {why}", source=source, why=error.errors()[0]["msg"]) from None


def _refuse_what_cannot_be_restored(manifest: Manifest, home: Home) -> None:
    if manifest.revision > HEAD:
        message = "the backup was made by a newer version ({version}, rows {revision}; here rows {known}): install that version first"
        raise UserError(message, version=manifest.version, revision=manifest.revision, known=HEAD)
    needed, free = sum(file.size for file in manifest.files), shutil.disk_usage(home.root).free
    if needed > free:
        message = "the backup holds {needed:.1f} GB and {home} has {free:.1f} GB left: choose another place"
        raise UserError(message, needed=needed / 1e9, free=free / 1e9, home=home.root)


def _extract(tar: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    expected = {file.path: file for file in manifest.files}
    members = tar.getmembers()[:-1]
    if DATABASE not in expected or sorted(member.name for member in members) != sorted(file.path for file in manifest.files):
        raise UserError("the backup was changed: it does not hold what its manifest says")
    for member in members:
        _check_member(member, expected[member.name])
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(tar, member, target, expected[member.name])
    for artifact in manifest.artifacts:  # one without files has a folder too
        Home(folder).artifact_folder(artifact).mkdir(parents=True, exist_ok=True)


def _check_member(member: tarfile.TarInfo, expected: File) -> None:
    """Only plain files, and only where a home has files."""
    path = PurePosixPath(member.name)
    inside = member.name == DATABASE or (len(path.parts) > 1 and path.parts[0] in PLACES)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and str(path) == member.name
    if not inside or not plain or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise UserError("the backup holds {name}, which does not belong into a home: nothing was restored", name=repr(member.name))
    if member.size != expected.size:
        raise UserError("{name} in the backup is not what was saved: its size is wrong", name=member.name)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, expected: File) -> None:
    source, digest = tar.extractfile(member), hashlib.sha256()
    assert source
    with target.open("xb") as file:
        while chunk := source.read(2**20):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != expected.sha256:
        raise UserError("{name} in the backup is not what was saved: its checksum is wrong", name=member.name)


def _tell_the_rows(home: Home, manifest: Manifest) -> None:
    """Migrate rows of an older version, and make them say what is true here."""
    try:
        with closing(sqlite3.connect(home.root / DATABASE)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.DatabaseError, TypeError):
        raise UserError("the database in the backup is damaged") from None
    if revision != manifest.revision:
        raise UserError("the backup was changed: its rows are of revision {found}, not {told}", found=revision, told=manifest.revision)
    database, now = open_database(home), queries.utc_now()
    with transaction(database) as session:
        for artifact in session.exec(select(Artifact)):
            if artifact.folder not in ("", f"artifacts/{artifact.id}"):  # it would be deleted by that path one day
                message = "artifact {id} of the backup would lie in {folder}, outside its place: nothing was restored"
                raise UserError(message, id=artifact.id, folder=artifact.folder)
            if artifact.ready_at and not artifact.deleted_at and artifact.id not in manifest.artifacts:
                artifact.deleted_at, artifact.note = now, f"{artifact.note}; {LEFT_OUT}".removeprefix("; ")
        session.flush()
        for run in session.exec(select(Run).where(Run.status == RUNNING)).all():
            queries.settle(session, run.id or 0, FAILED, now, INTERRUPTED)
        for run in session.exec(select(Run).where(Run.status == QUEUED).order_by(col(Run.id))).all():
            lost = [artifact.name for _, artifact in queries.consumed_by(session, run.id or 0) if artifact.deleted_at]
            if lost:
                queries.settle(session, run.id or 0, SKIPPED, now, f"{', '.join(lost)}: {LEFT_OUT}")
    database.dispose()
