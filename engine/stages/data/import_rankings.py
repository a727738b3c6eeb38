"""Bring in rankings that people gave elsewhere, as a closed project: agreement, judges and datasets then work on them.

Read are our own tiers, records of Argilla, tasks of Label Studio, and preference pairs, each of which becomes an item of two
answers. Rows of one prompt with the same answers meet in one item. Rows that cannot be used are listed with line and reason.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from engine.errors import UserError
from engine.rankings import OVERALL, Asked, Said
from engine.stage import Input, Kind, Stage
from engine.stages.data import _argilla, _label_studio, _ranked_rows
from engine.stages.data._formats import BadRow, Row
from engine.stages.data._ranked_rows import SETTLE, Ranked
from engine.stages.data._read import SUFFIXES, Line, read, readable, refuse_too_many, whole_path

if TYPE_CHECKING:
    from engine.work import Work

HEAD = 200  # rows that say what the file is
FORMATS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], Ranked | None]]] = {
    "Label Studio": (_label_studio.recognised, _label_studio.read),
    "tiers": (lambda row: {"responses", "tiers"} <= set(row), _ranked_rows.ours),
    "pairs": (lambda row: {"chosen", "rejected"} <= set(row), _ranked_rows.pair),
    "Argilla": (_argilla.recognised, _argilla.read),
}


@dataclass
class Gathered:
    """Items with the labels on each, as rows bring them."""

    items: dict[tuple[str, frozenset[str]], Asked] = field(default_factory=dict)
    labels: dict[tuple[tuple[str, frozenset[str]], str], Said] = field(default_factory=dict)
    settled: dict[tuple[str, frozenset[str]], Said] = field(default_factory=dict)
    criteria: dict[str, None] = field(default_factory=dict)
    again: int = 0  # labels that somebody gave twice, of which the first is kept

    def add(self, ranked: Ranked) -> None:
        """Take in what a row says; another criterion of a label that is there already joins it."""
        asked, labels = ranked
        key = asked.prompt_key, frozenset(choice.key for choice in asked.choices)
        self.items[key] = asked if asked.gold else self.items.get(key, asked)
        for one in labels:
            self.criteria |= dict.fromkeys(one.tiers)
            if one.act == SETTLE:
                self.settled[key] = replace(one, tiers={**(self.settled[key].tiers if key in self.settled else {}), **one.tiers})
                continue
            before = self.labels.setdefault((key, one.rater), one)
            if before is one:
                continue
            if not one.tiers or set(one.tiers) & set(before.tiers):
                self.again += 1
                continue
            above = one.accepted_above if before.accepted_above is None else before.accepted_above
            self.labels[key, one.rater] = replace(before, act=one.act, tiers={**before.tiers, **one.tiers}, accepted_above=above)


class ImportRankings(Stage):
    """Bring in rankings from a file: ours, Argilla's, Label Studio's, or preference pairs."""

    outputs = {"rankings": Kind.RANKINGS}
    heavy = False

    file: str = Field(
        title="File",
        description="JSONL, JSON or Parquet: tiers, records of Argilla, tasks of Label Studio, or pairs of chosen and rejected.",
        json_schema_extra={"upload": [suffix for suffix in SUFFIXES if suffix != ".txt"]},
    )
    max_rejected: float = Field(0.05, ge=0, le=1, title="Bad rows allowed", description="A larger share of bad rows refuses the import.")

    @field_validator("file")
    @classmethod
    def _path_is_whole(cls, file: str) -> str:
        return whole_path(file.strip()) if file.strip() else ""

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The file's name."""
        return Path(self.file).stem or "rankings"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The file is there, can be read and holds rankings."""
        if not self.file:
            raise UserError("there is no file yet: choose one, or type a path", field="file")
        self._format(list(islice(self._lines(), HEAD)))

    def run(self, work: "Work") -> None:
        """Read, gather, open a closed project, and write its labels."""
        lines = self._lines()
        head = list(islice(lines, HEAD))
        name = self._format(head)
        found, rejected, unranked = Gathered(), list[tuple[int, str]](), 0
        count = 0
        for number, row in chain(head, lines):
            count += 1
            try:
                if isinstance(row, str):
                    raise BadRow(row)
                ranked = FORMATS[name][1](row)
            except BadRow as reason:
                rejected.append((number, str(reason)))
                continue
            unranked += ranked is None
            if ranked:
                found.add(ranked)
        refuse_too_many(work, rejected, count, self.max_rejected)
        if not (found.labels or found.settled):
            raise UserError("nobody has ranked anything in {file}: choose another file", field="file", file=Path(self.file).name)
        criteria = list(found.criteria)
        settings = {
            "mode": "pairs" if any(one.strength for one in found.labels.values()) else "rank",
            "answers": max(len(one.choices) for one in found.items.values()),
            "criteria": [] if criteria in ([], [OVERALL]) else criteria, "ties": True, "raters": 0, "imported_from": Path(self.file).name,
        }  # fmt: skip
        work.open_project("rankings", settings, "", list(found.items.values()))
        ids = dict(zip(found.items, work.rankings(work.output_id("rankings")).items, strict=True))
        said = [(key, one) for (key, _), one in found.labels.items()] + list(found.settled.items())
        work.label("rankings", [replace(one, item=ids[key]) for key, one in said])
        raters = sorted({one.rater for one in found.labels.values()})
        by = sorted({choice.by for one in found.items.values() for choice in one.choices})
        work.describe(
            "rankings", format="project", items=len(found.items), labels=len(found.labels), settled=len(found.settled), rated_by=raters,
            by=by, raters=0, source=Path(self.file).name, recognised_as=name, rejected=len(rejected), duplicates=found.again,
            unranked=unranked,
        )  # fmt: skip
        counted = f"{len(found.labels):,} labels of {len(found.items):,} items, raters: {len(raters):,}, settled: {len(found.settled):,}"
        work.say(f"{counted}; read as {name}")
        work.say(f"left out: {len(rejected):,} bad rows, {found.again:,} labels given twice, {unranked:,} rows that nobody ranked")

    def _format(self, head: list[Line]) -> str:
        """What the rows are: the first form that one of the first rows has. Raises UserError."""
        rows = [row for _, row in head if isinstance(row, dict)]
        found = next((name for row in rows for name, (recognised, _) in FORMATS.items() if recognised(row)), None)
        if found is None:
            columns = ", ".join(sorted({name for row in rows for name in row})) or "none"
            message = "{file} holds no rankings that are known here ({known}); its columns are {columns}"
            raise UserError(message, field="file", file=Path(self.file).name, known=", ".join(FORMATS), columns=columns[:300])
        return found

    def _lines(self) -> Iterator[Line]:
        try:
            yield from read(readable(Path(self.file), "file"))
        except UserError as refused:  # the reader does not know what the field is called here
            raise UserError(refused.message, field="file", **refused.values) from None
