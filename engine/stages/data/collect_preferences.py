"""Freeze the labels of a ranking project, or a judge's, into a dataset that trains.

What people say later changes nothing in it: the card names the newest label it knows. The held-out share is drawn by a
seeded hash of the prompt, so all rows of one prompt lie on one side, whatever kind of rows they are.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.errors import UserError
from engine.stage import Input, Kind, Rankings, Stage
from engine.stages.data._formats import prompt_of
from engine.stages.data.import_dataset import is_heldout, write_parquet, write_rows

if TYPE_CHECKING:
    from engine.collecting import Collected
    from engine.rankings import Rankings as Given
    from engine.work import Work

FORMATS = {"pairs": "preference", "unpaired": "unpaired", "tiers": "tiers", "demonstrations": "messages"}
NOTHING = {
    "pairs": "no rater of {name}, or no majority, prefers one answer to another without a circle: ask more people, or settle items",
    "unpaired": "no label of {name} has an acceptable line that decides: let raters draw it, or collect pairs",
    "tiers": "{name} has no rankings to collect: ask more people, or settle the items of which no order is the majority's",
    "demonstrations": "nobody wrote a better answer in {name}: collect pairs",
}


class CollectPreferences(Stage):
    """Make a dataset of what people or a judge ranked: for a reward model, DPO, KTO or fine-tuning."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False

    rankings: Rankings = Field(title="Rankings", description="A project that is closed or complete, or what a judge made of one.")
    rows: Literal["pairs", "unpaired", "tiers", "demonstrations"] = Field(
        "pairs",
        title="Rows",
        description="pairs: for reward models and DPO. unpaired: good or bad, by the acceptable line. "
        "tiers: whole rankings. demonstrations: what people wrote instead, to fine-tune on.",
    )
    labels: Literal["each rater", "majority", "settled"] = Field(
        "each rater", title="Whose word", description="settled: the owner's where there is one, else the majority's."
    )
    pairs: Literal["all", "best_worst", "adjacent"] = Field(
        "all", title="Pairs", description="Of a ranking: every two answers, the best against the worst, or neighbours."
    )
    better_as_chosen: bool = Field(
        False, title="Better answers are chosen", description="What a rater wrote is chosen over every answer it was written beside."
    )
    criterion: str = Field("", title="Criterion", description="Of a project that ranks by several. Empty: the first one.")
    heldout: float = Field(0.1, ge=0, le=0.9, title="Held-out share", description="Kept away from training, to measure on. By prompt.")
    parquet: bool = Field(False, title="Parquet too", description="The same rows as Parquet files beside the JSON lines.")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws the held-out prompts.")

    @model_validator(mode="after")
    def _settings_fit(self) -> "CollectPreferences":
        if self.better_as_chosen and self.rows != "pairs":
            raise ValueError(f"better_as_chosen is on and rows is {self.rows}: it adds pairs; switch it off, or collect pairs")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """What of whose."""
        return f"{inputs[self.rankings].name}, {self.rows}"

    def run(self, work: "Work") -> None:
        """Collect, split, write, and say what was left out."""
        from engine.collecting import criterion_of
        from engine.judging import standing
        from engine.stages.data._preference_card import card, facts

        source, given = work.input("rankings"), work.rankings(self.rankings)
        criterion = criterion_of(given, self.criterion)
        if not given.ranked(criterion) and not given.settled:
            raise UserError("nobody has ranked anything in {name}: rank on the Label page, or let a judge do it", name=source.name)
        made = self._collected(given, criterion)
        rows = [row | {"rankings": source.id} for row in made.rows]
        if not rows:
            raise UserError(NOTHING[self.rows], field="rows", name=source.name)
        apart = [is_heldout(prompt_of(row), self.heldout, self.seed) for row in rows]
        if all(apart):
            raise UserError("all {n} rows fell into the held-out share: lower it", field="heldout", n=len(rows))
        folder = work.output("dataset")
        for split, heldout in (("train", False), ("heldout", True)):
            some = [row for row, out in zip(rows, apart, strict=True) if out is heldout]
            write_rows(folder / f"{split}.jsonl", some)
            if self.parquet and some:
                write_parquet(folder / f"{split}.parquet", some)
        told = {
            "format": FORMATS[self.rows], "rows": len(rows) - sum(apart), "heldout": sum(apart), "heldout_share": self.heldout,
            "seed": self.seed, "source": source.name, "columns": sorted(set().union(*rows)), "labels_of": self.labels,
        }  # fmt: skip
        trusted = standing(source.summary)
        judge = f"{source.summary.get('judge', source.name)}: {trusted}" if trusted else ""
        told |= facts(given, criterion, rows, made.left_out, judge)
        (folder / "card.md").write_text(card(f"{source.name}, {self.rows}", source.name, told), encoding="utf-8", errors="backslashreplace")
        (folder / "card.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
        work.describe("dataset", **told)
        work.say(f"{told['rows']:,} rows and {told['heldout']:,} held out, of {told['items']:,} items, raters: {told['raters']:,}")
        for reason, count in made.left_out.items():
            work.say(f"left out: {count:,} {reason}")
        if told["judge"]:
            work.say(f"the labels are a judge's, {told['judge']}")
        if self.heldout and not any(apart):
            work.warn("no prompt fell into the held-out share: with so few rows, try another seed or a larger share")

    def _collected(self, given: "Given", criterion: str) -> "Collected":
        from engine import collecting

        if self.rows == "pairs":
            return collecting.pairs(given, self.labels, criterion, self.pairs, self.better_as_chosen)
        if self.rows == "unpaired":
            return collecting.unpaired(given, self.labels, criterion)
        if self.rows == "tiers":
            return collecting.tiers(given, self.labels, criterion)
        return collecting.demonstrations(given)
