"""A ranking project: people rank the answers of several models, or several answers of one, without knowing whose they are.

The run only writes the items; what it makes becomes ready when every item has its raters, or when its owner closes it,
and recipes wait for that. Which answers meet in an item, and in which order items come, is drawn from the seed; the
order of the answers on the screen is drawn for each rater anew.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations, zip_longest
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from engine import responses
from engine.chat import prompt_key
from engine.errors import UserError
from engine.masking import masked, names_in
from engine.rankings import FEWEST, MOST, UNNAMED, Asked, Choice, key_of
from engine.stage import Group, Input, Kind, KnownRankings, Responses, Stage

if TYPE_CHECKING:
    from engine.work import Work

GUIDELINE = """Put the answer you would rather have got first.

- Read every answer to its end. Does it do what was asked? Is it true?
- A longer answer is not a better one. An answer that admits not to know is better than a wrong one.
- Set answers equal if you cannot tell them apart.
"""
PRESET = "helpful, harmless, honest"
EARLY = 0.75  # of the items: those that come again are drawn from the first ones, so that there is time left


Row = dict[str, Any]


class CareSettings(Group):
    """How good the labels are is measured on the way."""

    everyone: float = Field(0.1, ge=0, le=1, title="Given to everyone", description="Share of items that every rater gets: agreement.")
    repeats: float = Field(0.05, ge=0, le=0.5, title="Repeated", description="Share of items that come again later: self-consistency.")
    practice: int = Field(0, ge=0, le=50, title="Practice items", description="So many known rankings come first, with feedback.")
    known: float = Field(0.1, ge=0, le=1, title="Known rankings mixed in", description="Share of items, beside practice: how often right.")


class RankAnswers(Stage):
    """Let people rank answers, blind: the raw material of reward models and DPO."""

    outputs = {"rankings": Kind.RANKINGS}
    heavy = False

    responses: list[Responses] = Field(title="Answers", description="To the same prompts; joined by prompt.", min_length=1, max_length=8)
    answers: int = Field(4, ge=FEWEST, le=MOST, title="Answers per item", description="Drawn evenly from those who answered.")
    limit: int | None = Field(None, ge=1, title="Items", description="Ask about so many prompts, drawn at random. Empty: all.")
    mode: Literal["rank", "pairs"] = Field("rank", title="Mode", description="pairs: two answers at a time, and how much better one is.")
    ties: bool = Field(True, title="Ties", description="Answers may share a rank.")
    criteria: list[str] = Field(
        [], title="Criteria", description="A ranking for each. Empty: one overall.", json_schema_extra={"preset": PRESET}
    )
    guideline: str = Field(GUIDELINE, title="Guideline", description="What raters go by, in markdown.", json_schema_extra={"lines": 8})
    raters: int = Field(1, ge=0, le=20, title="Raters per item", description="0: nobody is asked; for a judge.")
    gold: KnownRankings | None = Field(
        None, title="Known rankings", description="Answers whose order is known: for practice, and mixed in. Best with as many answers."
    )
    care: CareSettings = CareSettings()
    self_naming: Literal["mask", "leave out", "keep"] = Field(
        "mask", title="Answers that name their model", description="mask: the name is blacked out. leave out: the answer is not ranked."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws items, answers and orders.")

    @model_validator(mode="after")
    def _settings_fit(self) -> "RankAnswers":
        if len({name.strip().lower() for name in self.criteria}) < len(self.criteria) or not all(name.strip() for name in self.criteria):
            raise ValueError("criteria names one twice or none: name each once")
        if self.care.practice and self.gold is None:
            raise ValueError(f"care.practice is {self.care.practice} and gold is empty: name known rankings, or set practice to 0")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """What is ranked."""
        return f"{UNNAMED}{', '.join(inputs[id].name for id in self.responses)}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse answers of which no two are to one prompt."""
        sets = [inputs[id] for id in self.responses]
        if all(one.ready for one in sets) and not any(len(_texts(answers)) >= FEWEST for answers in _by_prompt(sets).values()):
            message = "no prompt in {names} has two different answers: generate several samples, or name the answers of another model too"
            raise UserError(message, field="responses", names=", ".join(one.name for one in sets))

    def run(self, work: "Work") -> None:
        """Draw the items and put them before people."""
        from engine.training.rows import read_rows

        chance, drawn, counts = Random(self.seed), [], Counter[str]()
        by_prompt = _by_prompt(work.inputs("responses"))
        models = {one["model"] for answers in by_prompt.values() for one in answers}
        for answers in by_prompt.values():
            told = [(one, names_in(one["answer"], models, one["prompt"])) for one in answers]
            counts["named"] += sum(bool(names) for _, names in told)
            fair = [one if not names or self.self_naming == "keep" else _mask(one, names) for one, names in told
                    if not names or self.self_naming != "leave out"]  # fmt: skip
            different = _different(fair, chance)
            if len(different) >= FEWEST:
                drawn.append(_evenly(different, self.answers, chance))
            else:  # what different models answered is the same, unless answers were left out
                counts["alike"] += len({one["model"] for one in answers}) > 1 and len(_texts(answers)) < FEWEST
        chance.shuffle(drawn)
        items = [item for answers in drawn[: self.limit] for item in self._items(answers)]
        if not items:
            raise UserError("no prompt keeps two different answers: take other answers, or keep those that name their model")
        known = [_known(row) for row in read_rows(work.input("gold").folder, "train", "heldout")] if self.gold else []
        settings = self.model_dump(mode="json", exclude={"guideline", "save_as"}) | {"criteria": [name.strip() for name in self.criteria]}
        work.open_project("rankings", settings, self.guideline.strip(), self._with_care(items, known, chance))
        (work.output("rankings") / "project.json").write_text(json.dumps(settings | {"guideline": self.guideline}, ensure_ascii=False))
        by = sorted({choice.by for item in items for choice in item.choices})
        told = {"items": len(items), "raters": self.raters, "naming_themselves": counts["named"], "alike": counts["alike"]}
        work.describe("rankings", format="project", by=by, **told)
        work.say(f"{len(items):,} items; {counts['named']:,} answers give away a model ({self.self_naming})")
        work.say(f"{counts['alike']:,} prompts are left out: what different models answered is the same")

    def _items(self, answers: list[Row]) -> list[Asked]:
        """One item of all these answers to a prompt, or one of each pair."""
        groups = combinations(answers, 2) if self.mode == "pairs" else [answers]
        return [_asked(list(group)) for group in groups]

    def _with_care(self, items: list[Asked], known: list[Asked], chance: Random) -> list[Asked]:
        """The project's items in order: practice first, some known rankings in between, repeats last but given sooner."""
        chance.shuffle(known)
        practice = [replace(one, kind="practice", wanted=0) for one in known[: self.care.practice]]
        most = self.care.practice + ceil(len(items) * self.care.known)
        gold = [replace(one, kind="gold", wanted=0) for one in known[self.care.practice : most]]
        everyone = set(chance.sample(range(len(items)), round(len(items) * self.care.everyone))) if self.raters else set()
        asked = [replace(one, wanted=0 if place in everyone else self.raters) for place, one in enumerate(items)] + gold
        chance.shuffle(asked)
        asked = [*practice, *asked]
        early = [place for place, one in enumerate(asked) if one.kind == "normal"][: ceil(len(items) * EARLY)]
        again = sorted(chance.sample(early, min(len(early), round(len(items) * self.care.repeats)))) if self.raters else []
        return asked + [replace(asked[place], kind="repeat", of=place, wanted=1) for place in again]


def _by_prompt(sets: list[Input]) -> dict[str, list[Row]]:
    """All answers by prompt."""
    found: dict[str, list[Row]] = {}
    for one in sets:
        for row in responses.read(one.folder):
            found.setdefault(row["prompt_key"], []).append(row)
    return found


def _texts(answers: list[Row]) -> set[str]:
    return {one["answer"].strip() for one in answers} - {""}


def _mask(answer: Row, names: list[str]) -> Row:
    return answer | {"answer": masked(answer["answer"], names), "original": answer["answer"]}


def _different(answers: Iterable[Row], chance: Random) -> list[Row]:
    """Each text once; of several who gave it one is drawn, so that no model wins by being named first. Empty ones cannot be judged."""
    same: dict[str, list[Row]] = {}
    for one in answers:
        if one["answer"].strip():
            same.setdefault(one["answer"].strip(), []).append(one)
    return [chance.choice(some) for some in same.values()]


def _evenly(answers: list[Row], count: int, chance: Random) -> list[Row]:
    """Some of the answers, as evenly as can be from those who gave them."""
    by: dict[str, list[Row]] = {}
    for one in chance.sample(answers, len(answers)):
        by.setdefault(one["model"], []).append(one)
    rounds = zip_longest(*by.values())
    return [one for turn in rounds for one in turn if one is not None][:count]


def _asked(answers: list[Row]) -> Asked:
    """An item; its keys are made from the texts, and so say nothing of who answered."""
    first = answers[0]
    choices = [Choice(key_of(one["answer"]), one["answer"], one["model"], one.get("original", "")) for one in answers]
    return Asked(0, "normal", first["prompt_key"], first["prompt"], _by_key(choices))


def _known(row: Row) -> Asked:
    """A known ranking as an item."""
    texts = row.get("responses") or [row[side][-1]["content"] for side in ("chosen", "rejected")]
    tiers = tuple(tuple(key_of(texts[place]) for place in tier) for tier in row.get("tiers") or [[0], [1]])
    choices = [Choice(key_of(text), text, "known") for text in texts]
    return Asked(0, "gold", prompt_key(row["prompt"]), row["prompt"], _by_key(choices), 0, tiers)


def _by_key(choices: list[Choice]) -> tuple[Choice, ...]:
    return tuple(sorted(choices, key=lambda one: one.key))
