"""The `dianjing` command: thin words over the same core the dashboard uses.

With --json the last line printed is one JSON object. Exit status: 0 succeeded (or queued), 1 failed, 2 wrong settings.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from sqlmodel import Session, col, select

from engine import catalogue, dispatcher, library, submit
from engine.administration import administration
from engine.errors import UserError
from engine.following import follow, people_wanted, report_of
from engine.measuring_command import measuring
from engine.options import HomeOption, JsonOption, home_at, open_home
from engine.processes import identity
from engine.stage import Stage
from storage import curves, queries
from storage.database import NewerDatabase
from storage.tables import FINAL, QUEUED, SUCCEEDED, Artifact, Run, Score

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(administration)
app.add_typer(measuring)


def main() -> None:
    """Entry of the console script: errors a person can fix end with status 2 and no traceback."""
    try:
        app()
    except (UserError, ValidationError, NewerDatabase) as error:
        _fail(error)


@app.command()
def ui(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; one others can reach needs a user: `dianjing user`.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    quickstart: Annotated[bool, typer.Option("--quickstart", help="On an empty home, queue the quickstart.")] = False,
    spare: Annotated[bool, typer.Option(help="Keep a process warm while New run is open, so that Start is felt at once.")] = True,
) -> None:
    """Open the dashboard in the browser; training goes on when it is closed."""
    from app.dashboard import serve

    place, database = open_home(home)
    with Session(database) as session:
        empty = not queries.runs(session, limit=1)
    if quickstart and empty:
        submit.submit(database, place, catalogue.find("quickstart")())
    serve(database, place, host, port, keep_spare=spare)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:  # noqa: ARG001  (every command takes --home)
    """List the stages and recipes there are."""
    rows = [
        {"name": form.name(), "kind": kind, "title": form.title(), "summary": form.summary(), "settings": form.model_json_schema()}
        for kind, forms in (("stage", catalogue.stages()), ("recipe", catalogue.recipes()))
        for form in forms.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['kind']:<7} {row['name']:<18} {row['summary']}")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A stage or recipe: see `dianjing list`.")],
    settings: Annotated[Path | None, typer.Argument(help="Its settings, a JSON file, or - for standard input.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a stage or recipe in the foreground. Ctrl-C saves and stops it. What waits for people to rank answers stays queued."""
    form = catalogue.find(name)
    place, database = open_home(home)
    ready = submit.parse(database, form, _settings(settings))
    submitted = submit.submit(database, place, ready)
    status = follow(database, place, submitted.runs, quiet=as_json)
    with Session(database) as session:
        rows = [session.get_one(Run, id) for id in submitted.runs]
        wanted = people_wanted(session, submitted.runs, submitted.outputs.values())
        made = {name: id for name, id in submitted.outputs.items() if session.get_one(Artifact, id).ready_at or id in wanted}
        errors = [f"run {row.id} ({row.stage}): {row.error}" for row in rows if row.error]
        if isinstance(ready, Stage):
            result: dict[str, Any] = {"run": rows[0].id, "status": status, "outputs": made, "error": rows[0].error}
        else:
            told = [{"run": row.id, "stage": row.stage, "status": row.status, "error": row.error} for row in rows]
            report = report_of(place, session, made.get("report"))
            result = {"plan": submitted.plan, "status": status, "runs": told, "report": report}
        if wanted:
            result["waits_for_people"] = [{"project": project, "address": address} for project, address in wanted.items()]
    if as_json:
        typer.echo(json.dumps(result))
    else:
        for error in errors:
            typer.echo(error, err=True)
        sentence = (result.get("report") or {}).get("sentence")
        typer.echo(sentence or f"{status}: {', '.join(f'{n} = artifact {i}' for n, i in made.items()) or 'nothing made yet'}")
        for address in wanted.values():
            typer.echo(f"waiting for people: start `dianjing ui` and rank at {address}")
    raise typer.Exit(0 if status in (SUCCEEDED, QUEUED) else 1)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="run or artifact")], id: int, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show one run or artifact, with what it was made from and what uses it."""
    _, database = open_home(home)
    with Session(database) as session:
        if what == "run":
            row = _existing_run(session, id).model_dump(mode="json")
            row["inputs"] = {field: artifact.id for field, artifact in queries.consumed_by(session, id)}
            row["outputs"] = {name: artifact.id for name, artifact in queries.outputs_of(session, id).items()}
        elif what == "artifact":
            artifact = session.get(Artifact, id)
            if artifact is None:
                raise UserError("there is no artifact {id}", id=id)
            row = artifact.model_dump(mode="json") | {"used_by": [r.id for r in queries.users_of(session, id)]}
        else:
            raise UserError("show takes run or artifact, and was given {what}", what=repr(what))
    if as_json:
        typer.echo(json.dumps(row))
        return
    for name, value in row.items():
        typer.echo(f"{name:<16} {value}")


@app.command()
def metrics(run: int, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print a run's metrics: every row with --json, else the last value of each."""
    _, database = open_home(home)
    with Session(database) as session:
        _existing_run(session, run)
        told = curves.read(session, run, points=sys.maxsize)
    if as_json:
        typer.echo(json.dumps({"run": run, "metrics": told.series}))
        return
    for name, points in told.series.items():
        typer.echo(f"{name:<24} {points[-1][1]} at step {points[-1][0]} ({len(points)} points)")


@app.command()
def scores(model: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print what was measured of a model (its id or name), by probe and step."""
    _, database = open_home(home)
    with Session(database) as session:
        found = queries.artifacts_named(session, model)
        id = found[0].id if found else (int(model) if model.isdigit() else None)
        if id is None or session.get(Artifact, id) is None:
            raise UserError("there is no model {model}; {hint}", model=repr(model), hint=catalogue.did_you_mean(model, _names(session)))
        order = (col(Score.suite_hash), col(Score.probe), col(Score.step))
        rows = session.exec(select(Score).where(Score.artifact == id).order_by(*order)).all()
    if as_json:
        typer.echo(json.dumps({"model": id, "scores": [row.model_dump(mode="json") for row in rows]}))
        return
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row.suite_hash, row.probe, row.step), []).extend([] if row.value is None else [row.value])
    for (suite, probe, step), values in groups.items():
        mean = f"{sum(values) / len(values):.3f}" if values else "no values"
        typer.echo(f"{probe:<24} step {step:<8} {mean} (n = {len(values)}, suite {suite[:8]})")
    if not groups:
        typer.echo("nothing was measured of it yet")


@app.command()
def export(artifact: str, path: Path, home: HomeOption = None) -> None:
    """Copy an artifact (its id or name) out of the home into a new folder."""
    place, database = open_home(home)
    with Session(database) as session:
        found = queries.artifacts_named(session, artifact)
        if not found and not artifact.isdigit():
            hint = catalogue.did_you_mean(artifact, _names(session))
            raise UserError("there is no artifact {name}; {hint}", name=repr(artifact), hint=hint)
        id = (found[0].id or 0) if found else int(artifact)
    library.export(database, place, id, path)
    typer.echo(f"copied to {path}")


@app.command()
def dispatch(
    home: HomeOption = None,
    spare: Annotated[bool, typer.Option(help="Keep a process warm when something heavy is about to start.")] = True,
    leave_with: Annotated[int | None, typer.Option(help="Leave once this process is gone and nothing is left to do.")] = None,
) -> None:
    """Start queued runs and settle dead ones, until interrupted."""
    place, database = open_home(home)
    companion = identity(leave_with) if leave_with else None

    def lonely() -> bool:
        if leave_with is None or identity(leave_with) == companion is not None:
            return False
        with Session(database) as session:
            return not set(queries.count_by_status(session)) - set(FINAL)


    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    dispatcher.Dispatcher(database, place, keep_spare=spare).run(until=lonely)


@app.command()
def stop(run: int, home: HomeOption = None) -> None:
    """Ask a run to save and stop."""
    dispatcher.stop(open_home(home)[1], run)
    typer.echo(f"run {run} saves and stops")


@app.command()
def resume(run: int, home: HomeOption = None) -> None:
    """Queue a failed or cancelled run again, from its last whole checkpoint, and follow it."""
    place, database = open_home(home)
    dispatcher.resume(database, run)
    raise typer.Exit(0 if follow(database, place, [run], quiet=False) == SUCCEEDED else 1)


@app.command()
def promote(run: int, step: Annotated[int, typer.Option(help="Which checkpoint.")], home: HomeOption = None) -> None:
    """Make a checkpoint of a run a model of its own."""
    place, database = open_home(home)
    typer.echo(f"artifact {library.promote(database, place, run, step)}")


@app.command(hidden=True)
def work(run: int, home: HomeOption = None, device: str = "cpu") -> None:
    """Do one queued run in this process."""
    from engine import worker

    raise typer.Exit(worker.main(home_at(home), run, device))


@app.command(hidden=True)
def spare(home: HomeOption = None) -> None:
    """Import the heavy libraries and wait for a run."""
    from engine import worker

    raise typer.Exit(worker.spare(home_at(home)))


@app.command(hidden=True)
def infer(
    home: HomeOption = None,
    device: str = "cpu",
    idle: Annotated[float, typer.Option(help="Seconds without a question until it leaves.")] = 600,
) -> None:
    """Answer live on one device."""
    from engine import answering

    answering.main(home_at(home), device, idle)


def _settings(path: Path | None) -> dict[str, Any]:
    try:
        given = json.loads("{}" if path is None else sys.stdin.read() if str(path) == "-" else path.read_text())
    except OSError as error:
        raise UserError("the settings {path} cannot be read: {why}", path=path, why=error.strerror) from None
    except ValueError as error:
        raise UserError("the settings {path} are not JSON: {why}", path=path, why=error) from None
    if not isinstance(given, dict):
        raise UserError("settings are one JSON object, and {path} holds a {given}", path=path, given=type(given).__name__)
    return given


def _names(session: Session) -> list[str]:
    return [a.name for a in queries.artifacts(session)]


def _existing_run(session: Session, run: int) -> Run:
    row = session.get(Run, run)
    if row is None:
        raise UserError("there is no run {run}", run=run)
    return row


def _fail(error: UserError | ValidationError | NewerDatabase) -> NoReturn:
    if isinstance(error, ValidationError):
        for problem in error.errors():
            place = ".".join(map(str, problem["loc"])) or "settings"
            typer.echo(f"{place}: {problem['msg']} (given: {str(problem.get('input'))[:80]})", err=True)
    else:
        field = getattr(error, "field", None)
        typer.echo(f"{field}: {error}" if field else str(error), err=True)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
