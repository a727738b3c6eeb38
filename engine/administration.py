"""The part of the `dianjing` command that looks after a machine, its people and what is kept: merged into the command itself."""

import typer

administration = typer.Typer(add_completion=False)
