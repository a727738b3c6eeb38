"""What people, or a judge, prefer: two sets of answers to the same unseen prompts, compared blind, and what it cost.

A prompt is one draw: what all raters say of it stands or falls together, and the interval is over prompts. "Better" and
"worse" are said only where the whole interval of the preference rate, ties counted half, lies on one side of a half.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine.errors import UserError
from engine.stage import Input, Kind, Preferences, Rankings, Report, Responses, Stage
from engine.stages.measure import _report
from engine.stages.measure.compare_answers import lengths, read_answers, refuse_several, tokens

if TYPE_CHECKING:
    from engine.rankings import Asked
    from engine.statistics import Figure
    from engine.work import Work

BETTER, WORSE, TIED = "better", "worse", "tied"


class PreferenceReport(Stage):
    """Say which of two sets of answers is preferred, by how much, and what it cost: the end of a round of alignment."""

    outputs = {"report": Kind.REPORT}
    heavy = False

    rankings: Rankings = Field(title="Comparison", description="Both sets ranked blind, by people or by a judge.")
    before: Responses = Field(title="Answers before", description="Of the model as it was.")
    after: Responses = Field(title="Answers after", description="Of the new model, to the same prompts.")
    data: Preferences | None = Field(None, title="Learned from", description="The preferences behind the new model. Empty: not told.")
    receipt: Report | None = Field(None, title="Receipt", description="What training cost, measured in full. Empty: not told.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Which answers were compared."""
        return f"Preference for {inputs[self.after].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Both sets hold one model's answers, and are two."""
        if self.before == self.after:
            raise UserError("before and after are the same set, {name}: choose two", field="after", name=inputs[self.after].name)
        for field in ("before", "after"):
            refuse_several(inputs[getattr(self, field)], field)

    def run(self, work: "Work") -> None:
        """Count, say, write report.json and report.html."""
        from engine.agreement import length_bias, pair_agreement
        from engine.judging import standing
        from engine.statistics import clustered_rate

        sides = [read_answers(work.input(field).folder) for field in ("before", "after")]
        names = [str(next(iter(side.values()))["model"]) for side in sides]
        if names[0] == names[1]:
            raise UserError("both sets of answers are by {name}: compare two models", field="after", name=names[0])
        given, told = work.rankings(self.rankings), work.input("rankings").summary
        rows = {id: item for id, item in given.items.items() if item.kind == "normal" and {c.by for c in item.choices} == set(names)}
        ranked = [one for one in given.ranked(kinds=("normal",)) if one.item in rows]
        verdicts = {id: [_said(rows[id], names[1], one.tiers) for one in ranked if one.item == id] for id in rows}
        judged = {id: said for id, said in verdicts.items() if said}
        won, lost, tied = ([said.count(word) for said in judged.values()] for word in (BETTER, WORSE, TIED))
        preferred = clustered_rate([w + t / 2 for w, t in zip(won, tied, strict=True)], [len(said) for said in judged.values()])
        decided = clustered_rate(won, [w + n for w, n in zip(won, lost, strict=True)])
        people = len({one.rater for one in ranked})
        who = _judge(told) if told.get("format") == "judge" else "One person" if people == 1 else f"{people} people"
        receipt = json.loads((work.input("receipt").folder / "report.json").read_text()) if self.receipt else {}
        keys = [rows[id].prompt_key for id in judged]
        agreement = pair_agreement(ranked)
        report = {
            "sentence": " ".join([_sentence(who, names, preferred), *filter(None, [receipt.get("sentence")])]),
            "verdicts": receipt.get("verdicts", []),
            "models": [{"id": _model(work.input(field)), "name": name} for field, name in zip(("before", "after"), names, strict=True)],
            "facts": [
                ["Preferred, ties half", _share(1 - preferred.value) if preferred.value is not None else "", _figure(preferred)],
                ["Preferred, ties left out", _share(1 - decided.value) if decided.value is not None else "", _figure(decided)],
                ["Better, worse, tied", "", f"{sum(won)}, {sum(lost)}, {sum(tied)}"],
                ["Prompts with the same answer from both, not asked", "", str(work.artifact(given.project).summary.get("alike", 0))],
                ["The longer answer won", "", _figure(length_bias(ranked).share)],
                ["Raters agree on pairs", "", _figure(agreement)],
                *lengths([sides[0][key] for key in keys], [sides[1][key] for key in keys]),
                *self._learned_from(work),
            ],
            "answers": [_row(rows[id], names, sides, said) for id, said in judged.items()],
            "notes": [
                "Answers were shown in an order drawn for each rater and prompt, without names.",
                "Better or worse is said only where the whole 95 % interval over prompts lies on one side of a half.",
                "One training run, one seed: a sentence about these two models, not about the method.",
                *([f"The judge {standing(told)}."] if told.get("format") == "judge" else []),
                *receipt.get("notes", []),
            ],
        }
        folder = work.output("report")
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
        (folder / "report.html").write_text(_report.page(report))
        rate = {"preferred": preferred.value, "interval": preferred.interval, "n": preferred.n_items}
        work.describe("report", sentence=report["sentence"], models=[model["id"] for model in report["models"]], **rate)
        work.say(report["sentence"])

    def _learned_from(self, work: "Work") -> list[list[str]]:
        if self.data is None:
            return []
        data = work.input("data")
        return [["Learned from", "", f"{data.summary.get('rows', 0):,} pairs, {data.summary.get('heldout', 0):,} held out ({data.name})"]]


def _model(answers: Input) -> int:
    """The model that answered; of answers from elsewhere their set."""
    return int(next(iter(answers.summary.get("models", [])), answers.id))


def _said(item: "Asked", new: str, tiers: tuple[tuple[str, ...], ...]) -> str:
    """What a ranking says of the new model's answer against the other."""
    rank = {key: place for place, tier in enumerate(tiers) for key in tier}
    after, before = (min(rank[choice.key] for choice in item.choices if (choice.by == new) == mine) for mine in (True, False))
    return BETTER if after < before else WORSE if after > before else TIED


def _judge(told: Mapping[str, Any]) -> str:
    return f"The judge {told['judge']}" + ("" if told["validated"] else " (not validated)")


def _sentence(who: str, names: list[str], preferred: "Figure") -> str:
    if preferred.value is None or preferred.interval is None:
        why = f"n = {preferred.n_items} prompts: {preferred.why}"
        return f"Not enough labels to say whether {names[1]} or {names[0]} answers better ({why})."
    low, high = preferred.interval
    word = "it answers better" if low > 0.5 else "it answers worse" if high < 0.5 else "not enough evidence that either is better"
    rate = f"{preferred.value:.0%} of {preferred.n_items} unseen prompts ({low:.0%} to {high:.0%}, ties half)"
    return f"{who} preferred {names[1]} to {names[0]} on {rate}: {word}."


def _share(value: float) -> str:
    return f"{value:.0%}"


def _figure(figure: "Figure") -> str:
    if figure.value is None:
        return f"{figure.why} (n = {figure.n})"
    span = f"{figure.interval[0]:.0%} to {figure.interval[1]:.0%}, " if figure.interval else ""
    return f"{figure.value:.0%} ({span}n = {figure.n} of {figure.n_items} prompts)"


def _row(item: "Asked", names: list[str], sides: list[dict[str, dict[str, Any]]], said: list[str]) -> dict[str, Any]:
    told = {names[0]: said.count(WORSE), names[1]: said.count(BETTER)}
    answers = []
    for name, side in zip(names, sides, strict=True):
        row = side[item.prompt_key]
        votes = f"preferred by {told[name]} of {len(said)}" if told[name] else "tied" if not any(told.values()) else ""
        answers.append(
            {"model": row["artifact"], "answer": row["answer"], "finish_reason": row["finish_reason"], "tokens": tokens(row),
             "correct": None, "votes": votes}
        )  # fmt: skip
    tags = sides[0][item.prompt_key]["extra"].get("tags", [])
    return {"prompt_key": item.prompt_key, "prompt": item.prompt, "tags": tags, "reference": None, "answers": answers}
