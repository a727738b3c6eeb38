"""What a person does with artifacts and checkpoints outside a run: promote, delete, rename, copy out."""

import json
import shutil
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session

from engine.errors import UserError
from storage import queries
from storage.database import transaction
from storage.files import Home, fresh, put_in_place
from storage.tables import FINAL, Artifact, Run

TRAINER_STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin", "summary.json")


def checkpoints(home: Home, run: int) -> list[int]:
    """The steps of a run's whole checkpoints, ascending. The trainer writes trainer_state.json last."""
    folders = (home.run_folder(run) / "checkpoints").glob("checkpoint-*")
    return sorted(int(f.name.rsplit("-", 1)[1]) for f in folders if _parses(f / "trainer_state.json") and _parses(f / "summary.json"))


def promote(database: Engine, home: Home, run: int, step: int) -> int:
    """Make a checkpoint a model artifact; returns its id. Raises UserError that names the checkpoints there are."""
    steps = checkpoints(home, run)
    if step not in steps:
        there = ", ".join(map(str, steps)) or "none"
        raise UserError("run {run} has no whole checkpoint at step {step}; there are: {there}", run=run, step=step, there=there)
    folder = home.run_folder(run) / "checkpoints" / f"checkpoint-{step}"
    with transaction(database) as session:
        row = session.get_one(Run, run)
        planned = queries.outputs_of(session, run).get("model")
        name = f"{planned.name if planned else row.stage} at step {step}"
        if earlier := [a for a in queries.artifacts(session) if a.made_by == run and a.name == name]:
            return earlier[0].id or 0
        artifact = Artifact(kind="model", name=name, folder="", made_by=run, created_at=queries.utc_now())
        session.add(artifact)
        session.flush()
        assert artifact.id is not None
        id, place = artifact.id, home.artifact_folder(artifact.id)
        artifact.folder = str(place.relative_to(home.root))
    aside = fresh(home.aside(id))  # between two transactions: a trainer must not wait for gigabytes to be copied
    for path in folder.iterdir():
        if path.is_file() and path.name not in TRAINER_STATE:
            shutil.copy2(path, aside / path.name)
    summary, size = json.loads((folder / "summary.json").read_text()) | {"step": step}, put_in_place(aside, place)
    with transaction(database) as session:
        artifact = session.get_one(Artifact, id)
        artifact.summary, artifact.size, artifact.ready_at = summary, size, queries.utc_now()
    return id


def discard_unfinished(session: Session, home: Home, run: int) -> None:
    """Remove what a run that ends without success wrote of its outputs; resumed, it writes them anew."""
    for output in queries.outputs_of(session, run).values():
        shutil.rmtree(home.aside(output.id or 0), ignore_errors=True)


def needed_by(session: Session, artifact: int) -> list[str]:
    """What would break without an artifact, by name: adapters that stand on it, runs that have not ended."""
    adapters = [f"model {a.name}" for a in queries.artifacts(session, "model") if a.summary.get("base") == artifact]
    waiting = [f"run {r.id} ({r.stage}, {r.status})" for r in queries.users_of(session, artifact) if r.status not in FINAL]
    return adapters + waiting


def delete(database: Engine, home: Home, artifact: int) -> None:
    """Delete an artifact's folder; its row stays, so that lineage can still say what it was.

    Raises UserError that names what needs it.
    """
    with transaction(database) as session:
        row = existing(session, artifact)
        if needed := needed_by(session, artifact):
            message = "{name} is needed by {needed}: delete or stop those first"
            raise UserError(message, name=row.name, needed=", ".join(needed))
        maker = session.get(Run, row.made_by) if row.made_by else None
        if row.ready_at is None and maker and maker.status not in FINAL:
            raise UserError("{name} is being made by run {run}: stop that run first", name=row.name, run=maker.id)
        row.deleted_at = queries.utc_now()
        folder = home.root / row.folder
    shutil.rmtree(folder, ignore_errors=True)


def rename(database: Engine, artifact: int, name: str, note: str) -> None:
    """Give an artifact another name and note. Raises UserError if the name is empty or taken."""
    with transaction(database) as session:
        row = existing(session, artifact)
        if not name.strip():
            raise UserError("a name cannot be empty: type one", field="name")
        if any(a.id != artifact for a in queries.artifacts_named(session, name.strip())):
            raise UserError("there is already an artifact named {name}: choose another name", field="name", name=repr(name.strip()))
        row.name, row.note = name.strip(), note


def export(database: Engine, home: Home, artifact: int, target: Path) -> None:
    """Copy an artifact's folder out. Raises UserError if it is not ready or the target exists."""
    with Session(database) as session:
        row = existing(session, artifact)
    if row.ready_at is None:
        raise UserError("{name} is not ready yet", name=row.name)
    if target.exists():
        raise UserError("{target} exists already: name a folder that does not", target=target)
    shutil.copytree(home.root / row.folder, target)
    adapter = target / "adapter_config.json"
    if adapter.exists():  # so that PEFT finds the base from where the copy lies
        with Session(database) as session:
            base = existing(session, row.summary["base"])
        settings = json.loads(adapter.read_text()) | {"base_model_name_or_path": str(home.root / base.folder)}
        adapter.write_text(json.dumps(settings, indent=2))


def existing(session: Session, artifact: int) -> Artifact:
    """An artifact that has not been deleted. Raises UserError."""
    row = session.get(Artifact, artifact)
    if row is None or row.deleted_at:
        raise UserError("there is no artifact {artifact} {gone}", artifact=artifact, gone="any more" if row else "")
    return row


def _parses(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True
