"""Who is compared: the columns with their names and looks, the baseline first, and the prompts they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from app.pages import Place, model_look
from engine import comparison
from engine.comparison import Figure, Measure
from storage import answers, listings
from storage.answers import Column, Line
from storage.tables import Artifact


@dataclass(frozen=True)
class Side:
    """A column as it is shown: its key in the address, its name, its look, and the model if it is one of this home."""

    key: str
    column: Column
    name: str
    look: str
    model: Artifact | None


@dataclass(frozen=True)
class Shown:
    """All that the trees of the page need. `lines` are the sides' indexes, `shared` the prompts that can be compared."""

    place: Place
    session: Session
    known: dict[str, Any]
    sides: Sequence[Side]
    lines: Sequence[Mapping[str, Line]]
    shared: Sequence[str]
    measures: Sequence[Measure]

    @property
    def judge(self) -> Measure | None:
        """The first measure that says right or wrong."""
        return next((one for one in self.measures if one.is_rate), None)

    def figure(self, side: Side, measure: Measure, keys: Sequence[str]) -> Figure:
        """A measure of one side over some prompts."""
        return comparison.figure(self.place.database, side.column, measure, keys, self.known["sample"])

    def values(self, side: Side, measure: Measure) -> Mapping[str, float]:
        """A measure of every answer of one side, by prompt key."""
        return comparison.values(self.place.database, side.column, measure, self.known["sample"])


def look(place: Place, session: Session, known: dict[str, Any], columns: Sequence[Column], measures: Sequence[Measure]) -> Shown:
    """What is to be shown of these columns."""
    sides = _sides(session, known["base"], columns)
    lines = [comparison.index(place.database, side.column, known["sample"]) for side in sides]
    folder = session.get_one(Artifact, sides[0].column.answers).folder
    given = [key for key in comparison.order(place.home.root / folder / "responses.jsonl") if key in lines[0]]
    shared = [key for key in given or lines[0] if len(sides) == 1 or any(key in other for other in lines[1:])]
    return Shown(place, session, known, sides, lines, shared, measures)


def _sides(session: Session, base: str, columns: Sequence[Column]) -> list[Side]:
    """The baseline first: the chosen one, else the root of the lineage."""
    sets = {column.answers: session.get_one(Artifact, column.answers) for column in columns}
    sides = []
    for place, column in enumerate(columns):
        model = None if column.source else session.get(Artifact, column.model)
        name = column.source or (model.name if model else str(column.model))
        sides.append(Side(answers.key_of(column, sets[column.answers]), column, name, model_look(column.model if model else place), model))
    if len({side.name for side in sides}) < len(sides):  # one model's answers under other settings: told apart by their set
        sides = [replace(side, name=f"{side.name} · {sets[side.column.answers].name}") for side in sides]
    depth = {side.key: len(listings.ancestors(session, side.column.model)) if side.model else 99 for side in sides}
    first = next((side for side in sides if side.key == base), min(sides, key=lambda side: depth[side.key]))
    return [replace(first, look="base"), *[side for side in sides if side is not first]]
