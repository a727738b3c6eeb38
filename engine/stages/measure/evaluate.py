"""A suite over any number of models, item by item.

Every score is stored at once with the answer it judges, so a stopped, killed or failed run goes on with what is
missing; and what was measured on a model before with the same items is not measured again. An endpoint gives answers
but no log-probabilities: the probes that need them are left out for it, by name.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from engine.errors import UserError
from engine.probe import Part, Reply, Suite
from engine.settings import SamplingSettings, SuiteSettings
from engine.stage import AnsweringModel, Dataset, Estimate, Input, Kind, Stage

if TYPE_CHECKING:
    from engine.work import Work


class Evaluate(Stage):
    """Measure abilities: put a suite of probes to one or more models, and keep every item's score and answer."""

    outputs = {"scores": Kind.SCORES}

    models: list[AnsweringModel] = Field(title="Models", description="Each is asked every item.", min_length=1, max_length=64)
    suite: SuiteSettings = SuiteSettings()
    data: Dataset | None = Field(
        None, title="Data of your own", description="Its held-out rows, or all where none are: their loss, and with a scorer the answers."
    )
    scorer: str = Field("", title="Scorer", description="How answers to your data count as right, such as exact_match. Empty: loss only.")
    batch_size: int = Field(32, ge=1, le=1024, title="Batch size", description="Items at once, of models on this machine.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Whose scores they are."""
        return f"Scores of {', '.join(inputs[id].name for id in self.models)}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse unknown probes and scorers, and data that nothing can be measured by."""
        if self.data is None and self.scorer:
            raise UserError("scorer {scorer} judges data of your own, and none is given: choose data", field="scorer", scorer=self.scorer)
        self.parts(inputs)

    def parts(self, inputs: Mapping[int, Input]) -> Suite:
        """The suite as the settings and the data make it; without the data while that is not ready. Raises UserError."""
        from engine.suites import of_rows, suite
        from engine.training.rows import read_rows

        chosen = suite(self.suite.size, self.suite.probes, self.suite.seed)
        if self.data is None or not (data := inputs[self.data]).ready:
            return chosen
        rows = read_rows(data.folder, "heldout") or read_rows(data.folder, "train")
        return [*chosen, *of_rows(data.name, rows, self.scorer, self.suite.size)]

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Items, and a rough time."""
        from engine.suites import cost
        from engine.training.cost import training_speed

        suite = self.parts(inputs)
        here = [inputs[id].summary.get("parameters", 0) for id in self.models if not _is_endpoint(inputs[id])]
        seconds = sum(cost(suite) / training_speed(parameters) for parameters in here)
        notes = [f"Items: {sum(len(part.items) for part in suite):,} for each of {len(self.models)} models"]
        if asked := len(self.models) - len(here):
            questions = sum(len(part.items) for part in suite if part.probe.how == "answers") * asked
            notes.append(f"Questions to endpoints: {questions:,}, at their speed and their price")
        seen = _nothing_held_out(inputs[self.data]) if self.data else ""
        return Estimate(seconds, notes=tuple(notes), warnings=(seen,) if seen else ())

    def run(self, work: "Work") -> None:
        """Measure what is missing, then write what is stored."""
        given = {self.data: work.input("data")} if self.data else {}
        suite, models = self.parts(given), work.inputs("models")
        total, problems = sum(len(part.items) for part in suite), list[str]()
        for place, model in enumerate(models):
            measure = self._ask_endpoint if _is_endpoint(model) else self._measure
            problems += measure(work, model, suite, place * total, len(models) * total)
        if problems:
            raise UserError("{problems}. What was measured is kept, and a resumed run asks only for the rest", problems=". ".join(problems))
        told = {model.id: {part.probe.name: _summary(part, values(work, model, part)) for part in suite} for model in models}
        for model in filter(_is_endpoint, models):
            told[model.id] = {name: row | {"run": work.run} for name, row in told[model.id].items()}
        with (work.output("scores") / "scores.jsonl").open("w", encoding="utf-8") as file:
            for model in models:
                for part in suite:
                    for key, value in values(work, model, part).items():
                        row = {"model": model.id, "probe": part.probe.name, "suite_hash": part.hash, "item_key": key, "value": value}
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        note = {"note": said} if (said := _nothing_held_out(given.get(self.data or 0))) else {}
        if note:
            work.warn(said)
        work.describe("scores", **note, models=self.models, size=self.suite.size, seed=self.suite.seed, measured=told)

    def _measure(self, work: "Work", model: Input, suite: Suite, before: int, of: int) -> list[str]:
        known = {part.hash: values(work, model, part) for part in suite}
        missing = sum(item.key not in known[part.hash] for part in suite for item in part.items)
        done = before + sum(len(part.items) for part in suite) - missing
        work.progress(done, of)
        if not missing:
            work.say(f"{model.name} was measured with these items before")
            return []
        from engine.chat import Chat
        from engine.training.measuring import measure, measurements
        from engine.training.models import compute_dtype, load_model

        chat, step = Chat.open(model.folder), steps_of(model)
        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)
        left = missing
        stopping = {"known": lambda part: known[part.hash], "interrupted": lambda: work.stopping}
        for found in measure(loaded, chat, suite, self.batch_size, **stopping):
            work.measured(measurements(chat, model.id, step, found))
            left -= len(found)
            work.progress(done + missing - left, of)
        work.progress(done + missing, of)
        if left:
            work.warn(f"{left} items do not fit the context of {model.name} and were left out")
        return []

    def _ask_endpoint(self, work: "Work", model: Input, suite: Suite, before: int, of: int) -> list[str]:
        """Ask what can be asked, store each answer as it comes; why some are missing, in words."""
        from engine.chat import prompt_key
        from engine.endpoints import Endpoint, Question
        from engine.work import Answer, ItemScore

        if silent := [part.probe.title for part in suite if part.probe.how != "answers"]:
            work.warn(f"{model.name} is an endpoint and gives no log-probabilities: not measured are {', '.join(silent)}")
        asked = [(part, item) for part in suite if part.probe.how == "answers" for item in part.items]
        known = {part.hash: values(work, model, part) for part in suite}
        missing = [(part, item) for part, item in asked if item.key not in known[part.hash]]
        done, reasons = before + sum(len(part.items) for part in suite) - len(missing), dict[str, int]()
        questions = [Question(item.prompt, SamplingSettings(max_new_tokens=part.probe.max_new_tokens)) for part, item in missing]
        for number, said in Endpoint.from_summary(model.summary).answers(questions, lambda: work.stopping):
            part, item = missing[number]
            if isinstance(said, UserError):
                reasons[str(said)] = reasons.get(str(said), 0) + 1
                continue
            value = part.probe.judge(item, Reply(said.text, said.finish_reason == "stop"))
            answer = Answer(model.id, prompt_key(item.prompt), item.prompt, said.text, [], said.finish_reason)
            work.measured([(answer, [ItemScore(model.id, part.hash, part.probe.name, item.key, value)])])
            done += 1
            work.progress(done, of)
        work.progress(done, of)
        failed = sum(reasons.values())
        return [f"{model.name} answered {len(missing) - failed:,} of {len(missing):,} items: {'; '.join(reasons)}"] if failed else []


def values(work: "Work", model: Input, part: Part) -> dict[str, float | None]:
    """What is stored of a part on a model. An endpoint may be another model tomorrow: only this run's scores count."""
    return work.values(model.id, steps_of(model), part.hash, own=_is_endpoint(model))


def steps_of(model: Input) -> int:
    """The training step a model is at: 0 unless it was trained here."""
    return int(model.summary.get("step") or model.summary.get("steps") or 0)


def _summary(part: Part, found: Mapping[str, float | None]) -> dict[str, Any]:
    read = [value for value in found.values() if value is not None]
    mean = sum(value == 1 if part.probe.rate else value for value in read) / len(found) if found else None
    told = {"title": part.probe.title, "rate": part.probe.rate, "floor": part.probe.floor, "suite_hash": part.hash}
    return told | {"n": len(found), "value": mean, "unreadable": len(found) - len(read)}


def _nothing_held_out(data: Input | None) -> str:
    """What has to be said of data that keeps no row from training; "" for what does."""
    if data is None or not data.ready or data.summary.get("heldout", 0):
        return ""
    return f"{data.name} holds no rows out: a model that was trained on it is measured on what it has seen."


def _is_endpoint(model: Input) -> bool:
    return bool(model.summary.get("format") == "endpoint")
