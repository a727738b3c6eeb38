"""Compare answers: the receipt of one step, from two sets of answers to the same prompts.

Every prompt is a paired item. Two abilities are judged on all prompts or on those that have a reference answer: does
the model stop by itself, does it answer exactly, does it at least mention the answer. Lengths are described, not
judged. The verdicts come from engine.statistics, the only place that speaks them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine import responses
from engine.chat import count_tokens
from engine.errors import UserError
from engine.scorers import contains, exact_match
from engine.stage import Input, Kind, Responses, Stage
from engine.stages.measure import _report

if TYPE_CHECKING:
    from engine.work import Work

Answered = dict[str, dict[str, Any]]  # prompt key -> one row of responses.jsonl

ABILITIES = {"stops": "stopping by itself", "exact": "exact answers", "mentions": "mentioning the answer"}


class CompareAnswers(Stage):
    """Say what changed between two models' answers to the same prompts: learned, kept, lost, with every item."""

    outputs = {"report": Kind.REPORT}
    heavy = False

    before: Responses = Field(title="Answers before", description="The baseline: one model's answers.")
    after: Responses = Field(title="Answers after", description="The changed model's answers to the same prompts.")
    margin: float = Field(
        0.05, gt=0, le=0.5, title="Margin", description="Kept means: the net loss is smaller than this share, with 95 % confidence."
    )

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Both must hold exactly one model's answers."""
        for field in ("before", "after"):
            refuse_several(inputs[getattr(self, field)], field)

    def run(self, work: "Work") -> None:
        """Pair the answers, score both sides, write report.json and report.html."""
        from engine.statistics import verdicts

        before, after = (read_answers(work.input(field).folder) for field in ("before", "after"))
        keys = [key for key in before if key in after]
        if not keys:
            message = "{before} and {after} share no prompt: generate both from one prompt set"
            raise UserError(message, field="after", before=work.input("before").name, after=work.input("after").name)
        models = [_who_answered(work, work.input(field)) for field in ("before", "after")]
        scored = {key: [judge(side[key]) for side in (before, after)] for key in keys}
        pairs = {
            title: [(bool(left[name]), bool(right[name])) for left, right in scored.values() if name in left and name in right]
            for name, title in ABILITIES.items()
        }
        told = verdicts({title: items for title, items in pairs.items() if items}, self.margin)
        suite = hashlib.sha256(json.dumps([sorted(keys), sorted(ABILITIES)]).encode()).hexdigest()[:16]
        work.scores(_scores(models, scored, suite))
        report = {
            "sentence": _report.sentence(told, self.margin),
            "verdicts": [_report.verdict_row(verdict) for verdict in told],
            "models": [{"id": model.id, "name": model.name} for model in models],
            "facts": lengths([before[key] for key in keys], [after[key] for key in keys]),
            "answers": [_row(key, models, before[key], after[key], scored[key]) for key in keys],
            "notes": [
                f"Kept means a net loss below {self.margin:.0%} with 95 % confidence; forgot and learned: exact McNemar, Holm, p < 0.05.",
                "One training run, one seed: a verdict about these answers, not about the method.",
                f"Prompt set and scorers: {suite}.",
                *sorted({model.summary["note"] for model in models if model.summary.get("note")}),
            ],
        }
        left_out = len(before) + len(after) - 2 * len(keys)
        if left_out:
            report["notes"].append(f"{left_out} answers to prompts that only one side has are left out.")
        folder = work.output("report")
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
        (folder / "report.html").write_text(_report.page(report))
        work.describe("report", sentence=report["sentence"], models=[model.id for model in models], prompts=len(keys))
        work.say(report["sentence"])


def refuse_several(given: Input, field: str) -> None:
    """Raise UserError for a set that holds answers of several models."""
    count = len(given.summary.get("models", [])) + len(given.summary.get("sources", []))
    if given.ready and count != 1:
        message = "{name} holds answers of {count} models, and this compares one with one: take sets that hold one"
        raise UserError(message, field=field, name=given.name, count=count)


def read_answers(folder: Path) -> Answered:
    """A responses artifact's first answer to each prompt, by prompt key."""
    first: Answered = {}
    for row in responses.read(folder):
        first.setdefault(row["prompt_key"], row)
    return first


def judge(row: dict[str, Any]) -> dict[str, float]:
    """What one answer shows, by ability; only those that the prompt has a reference for."""
    ended = row["finish_reason"] in ("stop", "length")  # imported answers may not say
    shown = {"stops": float(row["finish_reason"] == "stop")} if ended else {}
    if accepted := references(row):
        shown["exact"] = exact_match.score(row["prompt"], row["answer"], accepted)
        shown["mentions"] = contains.score(row["prompt"], row["answer"], accepted)
    return shown


def references(row: dict[str, Any]) -> list[str]:
    """The answers that count as right for a row's prompt; empty when nobody said."""
    extra = row["extra"]
    return extra.get("accept") or ([extra["answer"]] if extra.get("answer") else [])


def tokens(row: dict[str, Any]) -> int | None:
    """How many tokens an answer has, if anybody counted."""
    return count_tokens(row["token_ids"], row["extra"])


def lengths(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[list[str]]:
    """The lengths of two sides' answers to the same prompts in words, as far as somebody counted them."""
    from engine.statistics import bootstrap_difference

    pairs = [(tokens(left), tokens(right)) for left, right in zip(before, after, strict=True)]
    counted = [[length for length in side if length is not None] for side in zip(*pairs, strict=True)]
    facts = [["Median length", *(f"{median(known):g} tokens" if known else "not counted" for known in counted)]]
    if both := [(left, right) for left, right in pairs if left is not None and right is not None]:
        change, low, high = bootstrap_difference([left for left, _ in both], [right for _, right in both])
        facts.append(["Change of the mean length", "", f"{change:+.1f} tokens, 95 % interval {low:+.1f} to {high:+.1f}, n = {len(both)}"])
    return facts


def _who_answered(work: "Work", answers: Input) -> Input:
    """The model; for imported answers their set, under the name of their source."""
    models = answers.summary["models"]
    return work.artifact(models[0]) if models else replace(answers, name=answers.summary["sources"][0])


def _scores(models: list[Input], scored: Mapping[str, list[dict[str, float]]], suite: str) -> list[Any]:
    from engine.work import ItemScore

    return [
        ItemScore(artifact=model.id, suite_hash=suite, probe=name, item_key=key, value=value)
        for key, sides in scored.items()
        for model, side in zip(models, sides, strict=True)
        for name, value in side.items()
    ]


def _row(key: str, models: list[Input], before: dict[str, Any], after: dict[str, Any], sides: list[dict[str, float]]) -> dict[str, Any]:
    answers = [
        {
            "model": model.id,
            "answer": row["answer"],
            "finish_reason": row["finish_reason"],
            "tokens": tokens(row),
            "correct": bool(side["exact"]) if "exact" in side else None,
        }
        for model, row, side in zip(models, (before, after), sides, strict=True)
    ]
    told = {"tags": before["extra"].get("tags", []), "reference": next(iter(references(before)), None)}
    return {"prompt_key": key, "prompt": before["prompt"], **told, "answers": answers}
