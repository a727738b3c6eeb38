"""Answers of any number of models to one set of prompts, in batches of like length.

The batches and their seeds follow from the prompts and the settings alone. Each batch is stored as it is finished, so
a stopped or killed run goes on with the first batch that is missing and gives the answers it would have given.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from engine.chat import Chat
from engine.errors import UserError
from engine.settings import SamplingSettings
from engine.stage import Estimate, Input, Kind, Model, Prompts, Stage

if TYPE_CHECKING:
    from engine.training.rows import Prompt
    from engine.work import Answer, Work


class Generate(Stage):
    """Let one or more models answer the same prompts."""

    outputs = {"responses": Kind.RESPONSES}

    models: list[Model] = Field(title="Models", description="Each answers every prompt.", min_length=1, max_length=16)
    prompts: Prompts = Field(title="Prompts", description="Of conversations, the turns before the last answer are asked.")
    limit: int | None = Field(None, ge=1, title="Limit", description="Ask only the first of the prompts. Empty: all.")
    samples: int = Field(1, ge=1, le=64, title="Answers per prompt", description="Above 1 needs a temperature above 0.")
    batch_size: int = Field(32, ge=1, le=1024, title="Batch size", description="Prompts at once. More is faster and needs more memory.")
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _greedy_answers_are_all_the_same(self) -> "Generate":
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError("samples above 1 are all the same at sampling.temperature 0: set samples to 1, or a temperature")
        if len(set(self.models)) < len(self.models):
            raise ValueError("models names the same model twice: name each once")
        return self

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """Who answers what."""
        return f"{', '.join(inputs[id].name for id in self.models)} on {inputs[self.prompts].name}"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse an empty set of prompts, and prompts that a model cannot read."""
        data = inputs[self.prompts]
        if not data.ready:
            return
        asked = self._asked(data.folder)
        if not asked:
            raise UserError("{name} has no prompts: choose another dataset", field="prompts", name=data.name)
        for model in (inputs[id] for id in self.models):
            if model.ready:
                _refuse_too_long(model, asked)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Time if every answer were as long as allowed."""
        from engine.training.cost import answering_speed

        sizes = [inputs[id].summary.get("parameters", 0) for id in self.models]
        longest = len(self._asked(inputs[self.prompts].folder)) * self.samples * self.sampling.max_new_tokens
        seconds = sum(longest / (tokens_per_second or answering_speed(size)) for size in sizes)
        return Estimate(seconds, notes=(f"Answers: {longest // self.sampling.max_new_tokens * len(sizes):,}", "The time is an upper bound"))

    def run(self, work: "Work") -> None:
        """Answer, then write what was stored."""
        data = work.input("prompts")
        asked, models = self._asked(data.folder), work.inputs("models")
        stored = {(a.artifact, a.prompt_key, a.sample): a for a in work.answers()}
        for place, model in enumerate(models):
            self._answer(work, model, asked, stored, place * len(asked) * self.samples)
        answers = [stored[model.id, prompt.key, n] for model in models for prompt in asked for n in range(self.samples)]
        names = {model.id: model.name for model in models}
        with (work.output("responses") / "responses.jsonl").open("w", encoding="utf-8") as file:
            for answer in answers:
                file.write(json.dumps(vars(answer) | {"model": names[answer.artifact]}, ensure_ascii=False) + "\n")
        work.describe("responses", prompts=len(asked), answers=len(answers), **_summary(self.models, answers))

    def _answer(self, work: "Work", model: Input, asked: "list[Prompt]", stored: "dict[tuple[int, str, int], Answer]", before: int) -> None:
        total = len(asked) * self.samples * len(self.models)
        plan = [(prompt, sample) for prompt in asked for sample in range(self.samples)]
        missing = sum((model.id, prompt.key, sample) not in stored for prompt, sample in plan)
        work.progress(before + len(plan) - missing, total)
        if not missing:
            return
        from time import perf_counter

        from engine.training.answers import as_answer, batched
        from engine.training.models import compute_dtype, load_model

        chat = Chat.open(model.folder)
        _refuse_too_long(model, asked)
        ids = {prompt.key: chat.prompt_ids(prompt.messages) for prompt in asked}
        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)

        def done(rows: list[int]) -> bool:
            return all((model.id, plan[row][0].key, plan[row][1]) in stored for row in rows)

        began = perf_counter()
        batches = batched(
            loaded, chat, [ids[prompt.key] for prompt, _ in plan], self.sampling, self.batch_size,
            done=done, interrupted=lambda: work.stopping,
        )  # fmt: skip
        for rows, replies in batches:
            answers = [as_answer(chat, *plan[row], reply, model.id) for row, reply in zip(rows, replies, strict=True)]
            work.responses(answers)
            stored |= {(a.artifact, a.prompt_key, a.sample): a for a in answers}
            missing -= len(answers)
            speed = sum(len(reply.ids) for reply in replies) / (perf_counter() - began)
            work.metrics(before + len(plan) - missing, tokens_per_second=speed)
            work.progress(before + len(plan) - missing, total)
            began = perf_counter()
        work.progress(before + len(plan) - missing, total)

    def _asked(self, folder: Path) -> "list[Prompt]":
        from engine.training.rows import prompts_of, read_rows

        return prompts_of(read_rows(folder, "train", "heldout"))[: self.limit]


def _refuse_too_long(model: Input, asked: "list[Prompt]") -> None:
    context = model.summary.get("context_length")
    if not context:
        return
    chat = Chat.open(model.folder)
    lengths = [len(chat.prompt_ids(prompt.messages)) for prompt in asked]
    long = sum(length >= context for length in lengths)
    if long:
        message = (
            "{long} of {asked} prompts do not fit the {context} tokens that {model} reads (the longest has {longest}): "
            "shorten or remove them"
        )
        raise UserError(message, field="prompts", long=long, asked=len(asked), context=context, model=model.name, longest=max(lengths))


def _summary(models: list[int], answers: "list[Answer]") -> dict[str, Any]:
    of = {id: [answer for answer in answers if answer.artifact == id] for id in models}
    return {
        "models": models,
        "stop_rate": {str(id): sum(a.finish_reason == "stop" for a in some) / len(some) for id, some in of.items()},
        "median_tokens": {str(id): median(len(a.token_ids) for a in some) for id, some in of.items()},
    }
