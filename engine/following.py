"""A command that waits for its runs: it dispatches them itself where nobody else does, draws a line, and hears Ctrl-C."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

import typer
from sqlalchemy import Engine
from sqlmodel import Session

from engine import dispatcher
from engine.errors import UserError
from storage import labels, queries
from storage.files import Home
from storage.tables import CANCELLED, FAILED, FINAL, QUEUED, SKIPPED, SUCCEEDED, Artifact, Run


def follow(database: Engine, home: Home, runs: list[int], quiet: bool) -> str:
    """Wait for runs, dispatching here if nobody else does. Ctrl-C asks them to stop. Returns the status of the whole.

    Runs that only wait for people stay queued: so does the whole then, if the others succeeded.
    """
    draw = _progress_line(database, runs) if not quiet and sys.stdout.isatty() else lambda: None
    pressed = False

    def press(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed  # noted, not raised: an exception out of nowhere can be swallowed by whatever runs just then
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def ended() -> bool:
        nonlocal pressed
        draw()
        if pressed:
            pressed = False
            typer.echo("\nsaving and stopping (Ctrl-C again leaves it to go on in the background)", err=True)
            for run in runs:
                with suppress(UserError):  # it has ended by now
                    dispatcher.stop(database, run)
        with Session(database) as session:
            return all(session.get_one(Run, run).status in FINAL or queries.people_awaited(session, run) for run in runs)

    before = signal.signal(signal.SIGINT, press)
    try:
        while not ended():
            try:
                dispatcher.Dispatcher(database, home, keep_spare=False).run(until=ended)
            except UserError:  # somebody else dispatches this home
                time.sleep(0.2)
    finally:
        signal.signal(signal.SIGINT, before)
    statuses = _statuses(database, runs)
    return next((s for s in (FAILED, CANCELLED, SKIPPED, QUEUED) if s in statuses), SUCCEEDED)


def people_wanted(session: Session, runs: list[int], outputs: Iterable[int]) -> dict[int, str]:
    """The open projects that these runs wait for or made, and where people rank in them once `dianjing ui` is started."""
    awaited = [project for run in runs for project in queries.people_awaited(session, run)]
    made = [id for id in outputs if labels.is_open(session, id)]
    return {project: f"http://127.0.0.1:7860/label/?project={project}" for project in sorted({*awaited, *made})}


def _progress_line(database: Engine, runs: list[int]) -> Callable[[], None]:
    def draw() -> None:
        with Session(database) as session:
            rows = [session.get_one(Run, run) for run in runs]
        now = next((row for row in rows if row.status not in FINAL), rows[-1])
        done = sum(row.status in FINAL for row in rows)
        bar = "▓" * (20 * now.step // max(1, now.total))
        typer.echo(f"\r{done}/{len(rows)} runs · {now.stage} {now.status} {bar:░<20} {now.step}/{now.total}   ", nl=False, err=True)

    return draw


def _statuses(database: Engine, runs: list[int]) -> list[str]:
    with Session(database) as session:
        return [session.get_one(Run, run).status for run in runs]


def report_of(home: Home, session: Session, report: int | None) -> dict[str, Any] | None:
    """What a report says, for whoever reads it as JSON."""
    if report is None:
        return None
    folder = home.root / session.get_one(Artifact, report).folder
    told = json.loads((folder / "report.json").read_text())
    return {"artifact": report, "html": str(folder / "report.html"), **{k: told[k] for k in ("sentence", "verdicts") if k in told}}
