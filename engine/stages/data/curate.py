"""A dataset with what people changed about its rows, as a new dataset; the old one stays as it is.

A row's split never changes: what was held out stays held out. Of rows that are nearly alike one is kept, a held-out one
where there is one, so that nothing is trained on that stands almost word for word in what is measured.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from engine.curation import SPLITS, Line, described, laid
from engine.duplicates import THRESHOLD, groups
from engine.errors import UserError
from engine.stage import Dataset, Input, Kind, Stage
from engine.stages.data._formats import prompt_of
from engine.stages.data.import_dataset import write_rows

if TYPE_CHECKING:
    from engine.work import Work


class Curate(Stage):
    """Make a new dataset of one with the edits, tags and exclusions people made on its Curate page."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False

    dataset: Dataset = Field(title="Dataset", description="It is not changed. What people said of its rows when this runs is applied.")
    keep_tags: list[str] = Field([], title="Keep only tags", description="Rows with one of these tags, with commas between. Empty: all.")
    drop_tags: list[str] = Field([], title="Drop tags", description="Rows with one of these tags are left out. Empty: none.")
    drop_near_duplicates: bool = Field(False, title="Drop near-duplicates", description="Of rows that are nearly alike one is kept.")
    threshold: float = Field(
        THRESHOLD, ge=0.5, le=1, title="Alike from", description="Share of three-word runs that two rows share. Lower drops more."
    )

    @field_validator("keep_tags", "drop_tags", mode="before")
    @classmethod
    def _numbers_are_tags_too(cls, given: Any) -> Any:
        return [str(one) if isinstance(one, int | float) else one for one in given] if isinstance(given, list) else given

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose rows they are."""
        return f"{inputs[self.dataset].name}, curated"

    def run(self, work: "Work") -> None:
        """Lay the changes over the rows, leave out what is left out, write the rest and what was changed."""
        from engine.training.rows import read_rows

        source, folder = work.input("dataset"), work.output("dataset")
        lines = laid({split: read_rows(source.folder, split) for split in SPLITS}, work.edits(source.id))
        left_out = self._left_out(lines)
        kept = [line for line in lines if line.key not in left_out]
        written = {split: [line.result() for line in kept if line.split == split] for split in SPLITS}
        if not written["train"]:
            raise UserError("no row of {name} is left to train on: exclude fewer rows, or keep more tags", name=source.name)
        for split, some in written.items():
            write_rows(folder / f"{split}.jsonl", some)
        changed = [line for line in lines if line.key in left_out or line.edited or line.tagged]
        write_rows(folder / "changes.jsonl", [_told(line, left_out.get(line.key)) for line in changed])
        told = described(lines, left_out)
        summary = {
            "format": source.summary["format"], "rows": len(written["train"]), "heldout": len(written["heldout"]),
            "columns": sorted({name for some in written.values() for row in some for name in row}),
            "source": source.name, "changes": told, "excluded": dict(Counter(left_out.values())),
        }  # fmt: skip
        (folder / "card.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
        work.describe("dataset", **summary)
        work.say(f"{source.name}: {told}; {len(written['train']):,} rows and {len(written['heldout']):,} held out are left")
        shared = set(map(prompt_of, written["train"])) & set(map(prompt_of, written["heldout"]))
        if shared:
            work.warn(f"{len(shared):,} held-out prompts are trained on too: edit or exclude those rows")

    def _left_out(self, lines: list[Line]) -> dict[str, str]:
        """Why rows are left out, by key; a person's reason goes first."""
        why = {line.key: line.excluded for line in lines if line.excluded is not None}
        for line in lines:
            if self.keep_tags and not set(self.keep_tags) & set(line.tags):
                why.setdefault(line.key, "without " + " or ".join(self.keep_tags))
            elif dropped := [tag for tag in self.drop_tags if tag in line.tags]:
                why.setdefault(line.key, f"tagged {dropped[0]}")
        if self.drop_near_duplicates:
            rest = sorted((line for line in lines if line.key not in why), key=lambda line: line.split != "heldout")
            for group in groups([line.row for line in rest], self.threshold):
                why |= {rest[place].key: "near-duplicate" for place in group[1:]}
        return why


def _told(line: Line, why: str | None) -> dict[str, Any]:
    """What became of a row that was changed."""
    told = {"row_key": line.key, "split": line.split, "excluded": why, "tags": list(line.tags), "before": line.was}
    return told | ({} if why is not None else {"after": line.result()})
