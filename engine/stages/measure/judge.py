"""Labels written by a rule or a model, on the items that people rank and in the same table.

A scorer or a reward model gives each answer a number. A chat model is asked for a digit of each, or for the better of
each two in both orders, and its log-probabilities are read, or its words where an endpoint gives none. Each item is
stored as soon as it is judged, so a stopped, killed or failed run goes on with what is missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import comb
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from engine.catalogue import did_you_mean, scorers
from engine.errors import UserError
from engine.judging import (
    INSTRUCTION,
    as_judged,
    as_said,
    consistency,
    facts,
    is_validated,
    questions,
    standing,
    to_judge,
    truths,
    validation,
)
from engine.rankings import OVERALL, Asked, Choice
from engine.stage import AnsweringModel, Estimate, Input, Kind, Preview, PreviewRow, Rankings, RewardModel, Stage
from engine.stages.data._formats import prompt_of
from engine.stages.data.import_dataset import is_heldout
from engine.stages.measure import _judges

if TYPE_CHECKING:
    from engine.judging import Judged
    from engine.rankings import Rankings as Project
    from engine.rankings import Said
    from engine.work import Work

TOKENS = 400  # of a question, guessed


class Judge(Stage):
    """Let a scorer, a reward model or a chat model rank the answers of a ranking project, and say how far to trust it."""

    outputs = {"rankings": Kind.RANKINGS}

    rankings: Rankings = Field(title="Answers to judge", description="A ranking project. With 0 raters per item it waits for nobody.")
    by: Literal["scorer", "reward model", "chat model"] = Field("scorer", title="Judge", description="What kind of judge it is.")
    scorer: str = Field("exact_match", title="Scorer", description="For a scorer: which one. Equal scores are ties.")
    reference: list[str] = Field([], title="Reference", description="What a scorer compares with. Empty: each prompt's own answers.")
    reward_model: RewardModel | None = Field(None, title="Reward model", description="For a reward model: which one.")
    model: AnsweringModel | None = Field(None, title="Chat model", description="For a chat model: which one, an endpoint too.")
    how: Literal["score", "compare"] = Field(
        "compare", title="How a chat model judges", description="score: a digit for each answer. compare: each two, in both orders."
    )
    criterion: str = Field("", title="Criterion", description="One that the project ranks by. Empty: its first.")
    instruction: str = Field(
        INSTRUCTION, title="Instruction", description="What a chat model is told before the question.", json_schema_extra={"lines": 4}
    )
    tie_below: float = Field(
        0.0, ge=0, title="Equal below", description="Scores that differ by less are a tie; of compare they differ in log-odds."
    )
    validate_on: Rankings | None = Field(
        None, title="Validate on", description="Another project that people ranked, judged too. Empty: people's labels on these answers."
    )
    batch_size: int = Field(16, ge=1, le=1024, title="Batch size", description="Questions at once, of models on this machine.")

    @model_validator(mode="after")
    def _settings_fit(self) -> "Judge":
        for kind, name in (("reward model", "reward_model"), ("chat model", "model")):
            given = getattr(self, name) is not None
            if self.by == kind and not given:
                raise ValueError(f"by is {kind} and {name} is empty: choose a {kind}, or set by to another judge")
            if given and self.by != kind:
                raise ValueError(f"{name} is given and by is {self.by}: empty {name}, or set by to {kind}")
        if self.reference and self.by != "scorer":
            raise ValueError(f"reference is given and by is {self.by}: only a scorer compares with one; empty reference")
        if self.validate_on == self.rankings:
            raise ValueError("validate_on names the same project as rankings: leave validate_on empty, people's labels there count anyway")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Who judged what."""
        return f"{self._name(inputs)} judging {inputs[self.rankings].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse an unknown scorer, a reference it cannot read, and a criterion that the project does not rank by."""
        if self.by == "scorer":
            if self.scorer not in scorers():
                hint = did_you_mean(self.scorer, scorers())
                raise UserError("there is no scorer named {name}; {hint}", field="scorer", name=repr(self.scorer), hint=hint)
            if self.reference:
                scorers()[self.scorer].score([], "", self.reference)
        known = _settings(inputs[self.rankings]).get("criteria")
        if known and self.criterion and self.criterion not in known:
            raise UserError("the project ranks by {criteria}, not by {given}", "criterion", criteria=", ".join(known), given=self.criterion)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Questions, and their time if one has 400 tokens."""
        if self.by == "scorer":
            return None
        from engine.training.cost import training_speed

        judge, asked = inputs[self._judge_id()], 0
        for project in filter(None, (inputs[self.rankings], inputs.get(self.validate_on or 0))):
            told = _settings(project)
            answers = 2 if told.get("mode") == "pairs" else told.get("answers", 2)
            pairs = self.by == "chat model" and self.how == "compare"
            asked += project.summary.get("items", 0) * (2 * comb(answers, 2) if pairs else answers)
        if judge.summary.get("format") == "endpoint":
            return Estimate(notes=(f"Questions to the endpoint: at most {asked:,}, at its speed and its price",))
        speed = tokens_per_second or 3 * training_speed(judge.summary.get("parameters", 0))
        return Estimate(asked * TOKENS / speed, notes=(f"Passes through the judge: at most {asked:,}",))

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """What a chat model is asked."""
        if self.by != "chat model":
            return None
        prompt = [{"role": "user", "content": "(the question)"}]
        example = Asked(0, "normal", "", prompt, tuple(Choice(name, f"({name})", "") for name in ("one answer", "another")))
        first = questions(self.how, self.instruction, self.criterion or OVERALL, example)[0]
        return Preview("What the judge is asked", (PreviewRow(((first[0]["content"], False),)),))

    def run(self, work: "Work") -> None:
        """Judge what is missing, then say how good the judge is."""
        given = work.rankings(self.rankings)
        people = work.rankings(work.rankings(self.validate_on or self.rankings).project)
        criterion = self.criterion or given.criteria[0]
        for name, project in (("rankings", given), ("validate_on", people)):
            if criterion not in project.criteria:
                message = "the project in {where} ranks by {known}, not by {criterion}: name another criterion, or another project"
                raise UserError(message, "criterion", where=name, known=", ".join(project.criteria), criterion=criterion)
        unseen = self._unseen(work, people)
        if unseen is not None:
            settled = {id: one for id, one in people.settled.items() if id in unseen}
            people = replace(people, said=[one for one in people.said if one.item in unseen], settled=settled)
        known = {item for told in truths(people, criterion).values() for item in told}
        here = {item.id: item for item in to_judge(given)}
        items = here | {item.id: item for item in to_judge(people) if item.id in known}
        judge = self._name({id: work.artifact(id) for id in [self.rankings, *filter(None, [self._judge_id()])]})
        stored = {one.item: one for one in work.labelled("rankings")}

        def keep(found: "Sequence[tuple[Asked, Judged]]") -> None:
            said = [as_said(item.id, judge, criterion, one, self.tie_below) for item, one in found]
            work.label("rankings", said)
            stored.update({one.item: one for one in said})
            work.progress(len(stored), len(items))

        if missing := [item for item in items.values() if item.id not in stored]:
            self._way(work)(work, self, missing, criterion, keep)
        work.progress(len(stored), len(items))
        said = [stored[id] for id in here]
        _refuse_nothing(said)
        with (work.output("rankings") / "judged.jsonl").open("w", encoding="utf-8") as file:
            for one in said:
                row = {"item": one.item, "prompt_key": here[one.item].prompt_key, "tiers": one.tiers, "reason": one.reason}
                file.write(json.dumps(row | json.loads(one.comment), ensure_ascii=False) + "\n")
        summary = self._summary(judge, criterion, given.project, here, said)
        of = work.input("validate_on").name if self.validate_on else ""
        agreement = validation(list(stored.values()), people, criterion, of)
        agreement["held_out"] = None if unseen is None else len({people.items[id].prompt_key for id in unseen})
        self._tell(work, summary | {"agreement": agreement})

    def _unseen(self, work: "Work", people: "Project") -> set[int] | None:
        """The items whose labels by people a judge has not learned from, where it has learned from some of their project."""
        found = [one for one in work.lineage(self._judge_id()) if one.stage == "collect_preferences"] if self._judge_id() else []
        learned = [one.summary for one in found if one.inputs["rankings"] == people.project]
        if not learned:
            return None
        answer = {"role": "assistant", "content": ""}
        prompts = {
            item.id: {"messages": prompt_of({"messages": [*item.prompt, answer]}), "": prompt_of({"prompt": item.prompt})}
            for item in people.items.values()
            if item.kind == "normal"
        }
        return {
            id
            for id, keys in prompts.items()
            if all(is_heldout(keys.get(one["format"], keys[""]), one["heldout_share"], one["seed"]) for one in learned)
        }

    def _summary(self, judge: str, criterion: str, project: int, items: "Mapping[int, Asked]", said: "list[Said]") -> dict[str, Any]:
        from engine.agreement import length_bias, tie_rate
        from engine.counting import Ranking, tabulate

        behind = [as_judged(one) for one in said]
        masses = [one.mass for one in behind if one.mass is not None]
        lengths = {one.item: {choice.key: len(choice.text) for choice in items[one.item].choices} for one in said}
        table = tabulate([Ranking(one.item, judge, one.tiers[criterion], (), lengths[one.item]) for one in said if one.tiers])
        return {
            "format": "judge", "project": project, "judge": judge, "judge_kind": self.by, "criterion": criterion,
            "how": self.how if self.by == "chat model" else "", "items": sum(bool(one.tiers) for one in said),
            "skipped": sum(not one.tiers for one in said), "by_text": sum(one.by_text for one in behind),
            "unreadable": sum(one.unreadable for one in behind), "mass": fmean(masses) if masses else None,
            "consistency": consistency(said), "length_bias": asdict(length_bias(table)), "ties": asdict(tie_rate(table)),
        }  # fmt: skip

    def _tell(self, work: "Work", summary: dict[str, Any]) -> None:
        summary["validated"] = is_validated(summary["agreement"])
        work.describe("rankings", **summary)
        if summary["skipped"]:
            work.warn(f"{summary['skipped']:,} items could not be judged and are skipped")
        (work.say if summary["validated"] else work.warn)(f"{summary['judge']}: {standing(summary)}")
        for fact in facts(summary):
            work.say(fact)

    def _name(self, inputs: Mapping[int, Input]) -> str:
        """What its labels say who gave them."""
        id = self._judge_id()
        return inputs[id].name if id else self.scorer

    def _way(self, work: "Work") -> _judges.Way:
        if self.by != "chat model":
            return _judges.score if self.by == "scorer" else _judges.reward
        return _judges.ask if work.input("model").summary.get("format") == "endpoint" else _judges.weigh

    def _judge_id(self) -> int:
        return {"scorer": None, "reward model": self.reward_model, "chat model": self.model}[self.by] or 0


def _settings(project: Input) -> dict[str, Any]:
    """What a project was made with, as far as it is written there."""
    file = project.folder / "project.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _refuse_nothing(said: "list[Said]") -> None:
    if not any(one.tiers for one in said):
        why = ", ".join(sorted({as_judged(one).why or "what it says cannot be read" for one in said})) or "there are no items"
        raise UserError("nothing could be judged ({why}): take another judge, or other answers", field="by", why=why)
