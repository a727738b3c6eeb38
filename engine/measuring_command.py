"""The part of the `dianjing` command that measures: which probes there are, and the receipt of any two models."""

import json
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine
from sqlmodel import Session

from engine import catalogue, submit
from engine.errors import UserError
from engine.following import follow, report_of
from engine.options import HomeOption, JsonOption, open_home
from engine.stage import Form
from storage import queries
from storage.files import Home
from storage.tables import SUCCEEDED, Run

measuring = typer.Typer(add_completion=False)
VERDICTS = ("learned", "forgot", "kept", "not enough evidence")


@measuring.command()
def probes(
    name: Annotated[str | None, typer.Argument(help="Print the card of this one: what, why, base rates, limits.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the probes there are: the abilities that can be measured."""
    if name is not None:
        typer.echo(catalogue.probe_card(name))
        return
    rows = [{"name": p.name, "title": p.title, "group": p.group, "how": p.how, "floor": p.floor, "summary": p.summary}
            for p in catalogue.probes().values()]  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['group']:<12} {row['name']:<18} {row['summary']}")


@measuring.command()
def audit(
    base: Annotated[str, typer.Argument(help="The model before: an artifact's name or id, a folder, or a hub id.")],
    tuned: Annotated[list[str], typer.Argument(help="The model after, named alike; a folder of checkpoints is a series.")],
    suite: Annotated[str, typer.Option(help="full or watch.")] = "full",
    probe: Annotated[list[str] | None, typer.Option(help="Measure only this probe; may be given again.")] = None,
    data: Annotated[str | None, typer.Option(help="A dataset of the new task, by name or id.")] = None,
    scorer: Annotated[str, typer.Option(help="How answers to it count as right.")] = "",
    fail_on: Annotated[str | None, typer.Option(help="Exit with status 1 if an ability has this verdict: forgot.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the receipt of the last model as one HTML file.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what one model learned, lost and kept against another, trained anywhere. Exit status 1 if --fail-on's verdict was spoken."""
    if fail_on is not None and fail_on not in VERDICTS:
        raise UserError("--fail-on is a verdict ({known}), and was given {given}", known=", ".join(VERDICTS), given=repr(fail_on))
    if html and html.exists():
        raise UserError("{path} exists already: name another file", path=html)
    place, database = open_home(home)
    before = _model(database, place, base, None, as_json)
    after = [_model(database, place, name, before, as_json) for given in tuned for name in _series(given)]
    settings: dict[str, Any] = {"base": before, "tuned": after, "suite": {"size": suite, "probes": probe or []}, "scorer": scorer}
    form = submit.parse(database, catalogue.find("audit"), settings | ({"data": data} if data else {}))
    submitted = _run(database, place, form, as_json)
    with Session(database) as session:
        made = [a for run in submitted.runs for a in queries.outputs_of(session, run).values() if a.kind == "report"]
        reports = [report_of(place, session, artifact.id) or {} for artifact in made]
    if html:
        shutil.copyfile(reports[-1]["html"], html)
    for artifact, report in zip(made, reports, strict=True):
        typer.echo(f"{artifact.name}: {report['sentence']}")
    words = {verdict["verdict"] for report in reports for verdict in report["verdicts"]}
    if as_json:
        typer.echo(json.dumps({"plan": submitted.plan, "status": SUCCEEDED, "reports": reports}))
    raise typer.Exit(int(fail_on in words))


def _series(given: str) -> list[str]:
    """A folder of checkpoints as its checkpoints, in order of their steps; anything else as it is."""
    steps = [path for path in Path(given).expanduser().glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return [str(path) for path in sorted(steps, key=lambda path: int(path.name.rsplit("-", 1)[1]))] or [given]


def _model(database: Engine, home: Home, given: str, base: int | None, quiet: bool) -> int:
    """The artifact that a person means: one that is here, or a folder or hub id that is brought in first."""
    with Session(database) as session:
        named = queries.artifacts_named(session, given)
        known = named[0].id if named else int(given) if given.isdigit() else None
        names = [artifact.name for artifact in queries.artifacts(session, "model")]
    if known is not None:
        return known
    path = Path(given).expanduser()
    if path.exists():
        adapter = (path / "adapter_config.json").exists()
        settings: dict[str, Any] = {"source": "path", "path": str(path), "base": base if adapter else None}
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", given):
        settings = {"source": "hub", "hub_id": given}
    else:
        hint = catalogue.did_you_mean(given, names)
        raise UserError("{given} is no model here, no folder and no hub id; {hint}", given=repr(given), hint=hint)
    submitted = _run(database, home, catalogue.find("import_model").model_validate(settings), quiet)
    return submitted.outputs["model"]


def _run(database: Engine, home: Home, form: Form, quiet: bool) -> submit.Submitted:
    """Queue it and wait for it; where it does not succeed, that is said and the exit status is 2."""
    submitted = submit.submit(database, home, form)
    if follow(database, home, submitted.runs, quiet) != SUCCEEDED:
        with Session(database) as session:
            errors = [row.error for run in submitted.runs if (row := session.get_one(Run, run)).error]
        typer.echo(f"{form.title()} did not succeed: {errors[0] if errors else 'it was stopped'}", err=True)
        raise typer.Exit(2)  # 1 says that the verdict which was to fail was spoken
    return submitted
