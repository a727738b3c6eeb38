"""What every command takes."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from storage.database import open_database
from storage.files import Home, default_home

HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder that holds everything; default DIANJING_HOME or ~/.dianjing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def home_at(home: Path | None) -> Home:
    """The home that --home names."""
    return Home(home.expanduser().resolve()) if home else default_home()


def open_home(home: Path | None) -> tuple[Home, Engine]:
    """The home that --home names, and its database."""
    place = home_at(home)
    return place, open_database(place)
