"""All labels of a project, or a judge's, for other programs; nothing is split, weighed or decided.

The result is a dataset of tiers, one ranking a row, from which import_rankings makes the same rankings again; beside it lies
the same as Parquet, or as a file that Argilla or Label Studio reads, without a word of who gave which answer. What an owner
settled is a row with the act "settle"; those two programs have no place for it, nor for flags, acceptable lines and strengths.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.errors import UserError
from engine.rankings import Said
from engine.stage import Input, Kind, Rankings, Stage
from engine.stages.data import _argilla, _label_studio
from engine.stages.data.import_dataset import write_parquet, write_rows

if TYPE_CHECKING:
    from engine.work import Work

KEPT = ("normal", "gold")
NAMES = {"parquet": "train.parquet", "argilla": "argilla.json", "label_studio": "label_studio.json"}


class ExportRankings(Stage):
    """Take rankings to another program: JSON lines, Parquet, Argilla or Label Studio."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False

    rankings: Rankings = Field(title="Rankings", description="A project that is closed or complete, or what a judge made of one.")
    file: Literal["jsonl", "parquet", "argilla", "label_studio"] = Field(
        "jsonl", title="File", description="JSON lines are always written; this is what lies beside them. "
        "Files for Argilla and Label Studio lack settlements, flags, acceptable lines and strengths.",
    )

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose, exported."""
        return f"{inputs[self.rankings].name}, exported"

    def run(self, work: "Work") -> None:
        """Write every ranking, and say what was left out."""
        from engine.collecting import tiers_row

        source, given = work.input("rankings"), work.rankings(self.rankings)
        left_out, rows = Counter[str](), []
        said: dict[int, list[Said]] = {id: [] for id in given.items}
        for one in given.said:
            said[one.item].append(one)
        for id, labels in said.items():
            asked = given.items[id]
            if asked.kind not in KEPT:
                left_out[f"labels of {asked.kind} items"] += len(labels)
                continue
            for one in labels:
                left_out["skips"] += not one.tiers
                rows += [tiers_row(given, asked, one.rater, name, order, one) for name, order in one.tiers.items() if order]
            if last := given.settled.get(id):
                rows += [tiers_row(given, asked, last.rater, name, order, last) | {"act": last.act} for name, order in last.tiers.items()]
        if not rows:
            raise UserError("nobody has ranked anything in {name}: rank on the Label page, or let a judge do it", name=source.name)
        folder = work.output("dataset")
        write_rows(folder / "train.jsonl", rows)
        write_rows(folder / "heldout.jsonl", [])
        if self.file == "parquet":
            write_parquet(folder / NAMES["parquet"], rows)
        elif self.file != "jsonl":
            writer = _argilla.write if self.file == "argilla" else _label_studio.write
            normal = [(given.items[id], labels) for id, labels in said.items() if given.items[id].kind == "normal" and labels]
            left_out["labels of gold items, in the file for others"] += sum(
                len(labels) for id, labels in said.items() if given.items[id].kind == "gold"
            )
            told = [one for _, labels in normal for one in labels]
            left_out["settlements, in the file for others"] += len(given.settled)
            left_out["labels with flags, in the file for others"] += sum(bool(one.flags) for one in told)
            left_out["acceptable lines, in the file for others"] += sum(one.accepted_above is not None for one in told)
            left_out["strengths, in the file for others"] += sum(one.strength is not None for one in told)
            records = [writer(asked, labels, given.criteria) for asked, labels in normal]
            (folder / NAMES[self.file]).write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
            sizes = {len(asked.choices) for asked, _ in normal}
            if self.file == "label_studio":
                (folder / "label_studio.xml").write_text(_label_studio.config(given.criteria, max(sizes, default=2)), encoding="utf-8")
            elif len(sizes) > 1:
                work.warn("items have different numbers of answers, and Argilla asks the same number in all records of a dataset")
        summary = {
            "format": "tiers", "rows": len(rows), "heldout": 0, "source": source.name, "columns": sorted(set().union(*rows)),
            "file": NAMES.get(self.file, "train.jsonl"), "left_out": dict(+left_out),
        }  # fmt: skip
        work.describe("dataset", **summary)
        work.say(f"{len(rows):,} rankings of {len({row['item'] for row in rows}):,} items")
        for reason, count in (+left_out).items():
            work.say(f"left out: {count:,} {reason}")
