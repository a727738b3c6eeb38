"""From settings to queued runs: resolve names, validate, check the inputs, reserve the outputs. All or nothing."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import psutil
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from engine.catalogue import did_you_mean, find, stages
from engine.devices import devices
from engine.errors import UserError
from engine.stage import Estimate, Form, Input, Kind, Preview, Recipe, Reference, Stage, artifact_kind
from engine.work import as_input
from storage import queries
from storage.database import transaction
from storage.files import Home
from storage.tables import SUCCEEDED, Artifact, Consumed, Metric, Plan, Run

F = TypeVar("F", bound=Form)


@dataclass(frozen=True)
class Submitted:
    """What pressing Start wrote: the runs, and the ids reserved for what the last of them makes."""

    runs: list[int]
    outputs: dict[str, int] = field(default_factory=dict)
    plan: int | None = None


def parse(database: Engine, form: type[F], raw: Mapping[str, Any]) -> F:
    """Settings as a person writes them, artifacts by name or id, made into a form.

    Raises pydantic.ValidationError, or UserError for an unknown field or artifact name.
    """
    with Session(database) as session:
        return form.model_validate(_resolve(session, form, dict(raw), ""))


def submit(database: Engine, home: Home, form: Form, now: datetime | None = None) -> Submitted:
    """Queue a stage, or every stage of a recipe, in one transaction. Raises UserError with the field and the fix."""
    now = now or queries.utc_now()
    with transaction(database) as session:
        if isinstance(form, Stage):
            run, outputs = _queue(session, home, form, now, None)
            return Submitted([run], outputs)
        assert isinstance(form, Recipe)
        plan = Plan(recipe=form.name(), settings=form.model_dump(mode="json"), created_at=now)
        session.add(plan)
        session.flush()
        submitted = Submitted([], plan=plan.id)

        def queue(stage: Stage) -> dict[str, int]:
            run, outputs = _queue(session, home, stage, now, plan.id)
            submitted.runs.append(run)
            submitted.outputs.clear()
            submitted.outputs.update(outputs)
            return outputs

        form.plan(queue)
        return submitted


def retry(database: Engine, home: Home, run: int) -> Submitted:
    """Queue a new run with an old one's settings. Raises UserError if they are not valid any more."""
    with Session(database) as session:
        row = session.get(Run, run)
        if row is None:
            raise UserError("there is no run {run}", run=run)
    try:
        form = find(row.stage).model_validate(row.settings)
    except ValidationError as error:
        raise UserError(
            "the settings of run {run} are not valid any more ({why}): start a new one", run=run, why=error.errors()[0]["msg"]
        ) from None
    return submit(database, home, form)


def look(session: Session, home: Home, form: Form) -> dict[int, Input]:
    """The artifacts a form names, by id, with the bases that adapters stand on. Raises UserError for what is not there."""
    seen: dict[int, Input] = {}
    for reference in form.references():
        row = session.get(Artifact, reference.id)
        if row is None or queries.is_lost(session, row):
            gone = "is not there any more" if row else "does not exist"
            message = "artifact {id} {gone}: choose another {kind}"
            raise UserError(message, field=reference.field, id=reference.id, gone=gone, kind=reference.kind.value)
        seen[reference.id] = as_input(home, row)
        while (base := row.summary.get("base")) and (row := session.get(Artifact, base)):
            seen[base] = as_input(home, row)
    return seen


def check(form: Form, inputs: Mapping[int, Input]) -> None:
    """Kind and layout of every input, then the stage's own check."""
    for reference in form.references():
        _check_fits(reference, inputs[reference.id])
    if isinstance(form, Stage):
        form.check(inputs)


def estimate(database: Engine, home: Home, stage: Stage) -> Estimate | None:
    """What a run will take, from what this machine did before."""
    with Session(database) as session:
        inputs = look(session, home, stage)
        return stage.estimate(inputs, _speed(session, stage)) if all(i.ready for i in inputs.values()) else None


def memory_needed(database: Engine, home: Home, run: Run) -> int:
    """Bytes that a queued run will take on each of its devices; 0 where nobody can say."""
    try:
        told = estimate(database, home, stages()[run.stage].model_validate(run.settings))
    except (KeyError, ValidationError, UserError):  # the child says what is wrong
        return 0
    return told.memory if told else 0


def preview(database: Engine, home: Home, stage: Stage) -> Preview | None:
    """The first rows as the model will see them, once everything it needs is ready."""
    with Session(database) as session:
        inputs = look(session, home, stage)
    return stage.preview(inputs) if all(i.ready for i in inputs.values()) else None


@cache
def code_version() -> str:
    """The version that made a run."""
    try:
        return version("dianjing")
    except PackageNotFoundError:
        return "source"


def _queue(session: Session, home: Home, stage: Stage, now: datetime, plan: int | None) -> tuple[int, dict[str, int]]:
    inputs = look(session, home, stage)
    check(stage, inputs)
    _check_devices(stage)
    _check_room(session, home, stage, inputs)
    settings = stage.model_dump(mode="json")
    seed = settings.get("seed", settings.get("training", settings.get("sampling", {})).get("seed", 0))
    run = Run(stage=stage.name(), settings=settings, heavy=stage.heavy, plan=plan, seed=seed, code_version=code_version(), queued_at=now)
    session.add(run)
    session.flush()
    assert run.id is not None
    for reference in {(r.id, r.field): r for r in stage.references()}.values():
        session.add(Consumed(run=run.id, artifact=reference.id, field=reference.field))
    outputs = {}
    wanted = stage.save_as.strip() or stage.result_name(inputs)
    for name, kind in stage.outputs.items():
        title = wanted if len(stage.outputs) == 1 else f"{wanted} {name}"
        artifact = Artifact(kind=kind.value, name=_unused(session, title), folder="", made_by=run.id, field=name, created_at=now)
        session.add(artifact)
        session.flush()
        assert artifact.id is not None
        artifact.folder = str(home.artifact_folder(artifact.id).relative_to(home.root))
        outputs[name] = artifact.id
    session.flush()
    return run.id, outputs


def _unused(session: Session, name: str) -> str:
    taken = {a.name for a in queries.artifacts(session, ready=False)}
    return next(n for n in (name if i == 1 else f"{name} ({i})" for i in range(1, len(taken) + 2)) if n not in taken)


def _check_fits(reference: Reference, given: Input) -> None:
    if given.kind != reference.kind:
        message = "{name} is a {given}, and this needs a {wanted}: choose a {wanted}"
        raise UserError(message, field=reference.field, name=given.name, given=given.kind.value, wanted=reference.kind.value)
    layout = given.summary.get("format")
    if given.kind == Kind.MODEL:
        if layout == "endpoint" and layout not in reference.formats:
            message = "{name} is an endpoint: it can answer, but its weights are not here; choose a model with weights"
            raise UserError(message, field=reference.field, name=given.name)
        if layout == "outside":
            message = "{name} was trained by a script of its own, and its weights are not here: import the model it saved"
            raise UserError(message, field=reference.field, name=given.name)
        if layout == "reward" and layout not in reference.formats:
            message = "{name} is a reward model: it scores answers and writes none; choose a language model"
            raise UserError(message, field=reference.field, name=given.name)
        if given.ready and layout != "reward" and reference.formats == ("reward",):
            message = "{name} is a language model: it writes answers and scores none; choose a reward model, or train one with reward_model"
            raise UserError(message, field=reference.field, name=given.name)
    elif given.ready and reference.formats and layout not in reference.formats:
        message = (
            "{name} holds {layout} rows (columns {columns}), and this reads {wanted}: choose another dataset, or import it with a mapping"
        )
        columns, wanted = ", ".join(given.summary.get("columns", [])) or "unknown", " or ".join(reference.formats)
        raise UserError(message, field=reference.field, name=given.name, layout=layout, columns=columns, wanted=wanted)


def _check_devices(stage: Stage) -> None:
    there, wanted = devices(), stage.processes()
    if wanted > len(there) and there != ["cpu"]:
        message = "this run wants {wanted} GPUs and the machine has {there}: ask for fewer"
        raise UserError(message, field="training.processes", wanted=wanted, there=len(there))


def _check_room(session: Session, home: Home, stage: Stage, inputs: Mapping[int, Input]) -> None:
    told = stage.estimate(inputs, _speed(session, stage)) if all(i.ready for i in inputs.values()) else None
    if told is None:
        return
    free, memory = shutil.disk_usage(home.root).free, psutil.virtual_memory().total
    if told.disk > free:
        message = "this run writes about {needed:.1f} GB and the disk has {free:.1f} GB left: delete artifacts or keep fewer checkpoints"
        raise UserError(message, needed=told.disk / 1e9, free=free / 1e9)
    if told.memory > memory and not devices()[0].startswith("cuda"):
        message = (
            "this run needs about {needed:.1f} GB of memory and the machine has {has:.1f} GB: lower batch size or max length, or use LoRA"
        )
        raise UserError(message, needed=told.memory / 1e9, has=memory / 1e9)


def _speed(session: Session, stage: Stage) -> float | None:
    models = [r.id for r in stage.references() if r.field in ("model", "models.0")]
    query = (
        select(Metric.value)
        .join(Run, col(Run.id) == Metric.run)
        .join(Consumed, col(Consumed.run) == col(Run.id))
        .where(Run.stage == stage.name(), Run.status == SUCCEEDED, col(Consumed.artifact).in_(models))
        .where(Metric.name == "tokens_per_second", col(Metric.value).is_not(None))
    )
    return session.exec(query.order_by(col(Metric.id).desc()).limit(1)).first()


def _resolve(session: Session, form: type[BaseModel], raw: dict[str, Any], prefix: str) -> dict[str, Any]:
    for name in raw:
        if name not in form.model_fields:
            message = "there is no setting {name}; {hint}"
            raise UserError(message, field=prefix + name, name=repr(prefix + name), hint=did_you_mean(name, form.model_fields))
    for name, info in form.model_fields.items():
        value, kind = raw.get(name), artifact_kind(info)
        if kind and isinstance(value, str):
            raw[name] = _named(session, value, prefix + name)
        elif kind and isinstance(value, list):
            raw[name] = [_named(session, v, prefix + name) if isinstance(v, str) else v for v in value]
        elif isinstance(value, dict) and isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            raw[name] = _resolve(session, info.annotation, dict(value), f"{prefix}{name}.")
    return raw


def _named(session: Session, name: str, path: str) -> int:
    found = queries.artifacts_named(session, name)
    if found:
        return found[0].id or 0
    if name.isdigit():
        return int(name)
    known = [a.name for a in queries.artifacts(session)]
    raise UserError("there is no artifact named {name}; {hint}", field=path, name=repr(name), hint=did_you_mean(name, known))
