"""The part of the `dianjing` command that looks after a machine, its people and what is kept: merged into the command itself."""

import json
from pathlib import Path
from typing import Annotated

import typer

from engine import backup as backups
from engine.options import HomeOption, JsonOption, home_at, open_home
from engine.people_command import user
from engine.restore import restore as restored

MARKS = {"ok": "✓", "note": "·", "problem": "✕"}
administration = typer.Typer(add_completion=False)
administration.add_typer(user, name="user")


@administration.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    artifacts: Annotated[str, typer.Option(help="all, none, or ids and names with commas between.")] = "all",
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Keep the checkpoints of runs too.")] = False,
    home: HomeOption = None,
) -> None:
    """Write everything that was made here into one file; runs may go on meanwhile."""
    place, database = open_home(home)
    kept = backups.back_up(database, place, target, artifacts, checkpoints)
    size = sum(file.size for file in kept.files)
    typer.echo(f"wrote {target}: {kept.runs} runs, {len(kept.artifacts)} artifacts, {len(kept.files)} files, {size / 1e6:,.1f} MB")
    for left_out in kept.left_out:
        typer.echo(f"left out: {left_out}")


@administration.command()
def restore(file: Annotated[Path, typer.Argument(help="A file that `dianjing backup` wrote.")], home: HomeOption = None) -> None:
    """Make a new home out of a backup. Nothing is ever overwritten."""
    place = home_at(home)
    kept = restored(file, place)
    typer.echo(f"restored {kept.runs} runs and {len(kept.artifacts)} artifacts of {kept.made_at:%Y-%m-%d %H:%M} UTC into {place.root}")
    for left_out in kept.left_out:
        typer.echo(f"not in the backup: {left_out}")


@administration.command()
def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine can do and what is wrong; exit status 1 if something is."""
    from engine import doctor as doctors

    found = doctors.judge(doctors.look(home_at(home)))
    if as_json:
        typer.echo(json.dumps([vars(one) for one in found]))
    else:
        for one in found:
            typer.echo(f"{MARKS[one.level]} {one.about:<14} {one.text}")
    raise typer.Exit(any(one.level == "problem" for one in found))
