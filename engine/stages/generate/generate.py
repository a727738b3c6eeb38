"""Answers of any number of models to one set of prompts: of models here in batches, of endpoints one by one.

The batches and their seeds follow from the prompts and the settings alone. What was answered is stored at once, so a
stopped, killed or failed run goes on with what is missing and, here, gives the answers it would have given.
"""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from engine import responses
from engine.chat import Chat, count_tokens
from engine.endpoint_failures import refuse_unsayable
from engine.errors import UserError
from engine.settings import SamplingSettings
from engine.stage import AnsweringModel, Estimate, Input, Kind, Prompts, Stage

if TYPE_CHECKING:
    from engine.training.rows import Prompt
    from engine.work import Answer, Work

Stored = dict[tuple[int, str, int], "Answer"]  # by model, prompt and sample


class Generate(Stage):
    """Let one or more models answer the same prompts."""

    outputs = {"responses": Kind.RESPONSES}

    models: list[AnsweringModel] = Field(title="Models", description="Each answers every prompt.", min_length=1, max_length=16)
    prompts: Prompts = Field(title="Prompts", description="Of conversations, the turns before the last answer are asked.")
    limit: int | None = Field(None, ge=1, title="Limit", description="Ask only the first of the prompts. Empty: all.")
    samples: int = Field(1, ge=1, le=64, title="Answers per prompt", description="Above 1 needs a temperature above 0.")
    batch_size: int = Field(32, ge=1, le=1024, title="Batch size", description="Prompts at once, of models on this machine.")
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
        """Refuse an empty set of prompts, prompts that a model cannot read, and settings that would reach nothing."""
        models, data = [inputs[id] for id in self.models], inputs[self.prompts]
        for model in filter(_is_endpoint, models):
            refuse_unsayable(model.name, self.sampling)
        if self.sampling.thinking != "default" and not any(map(_may_know_thinking, models)):
            message = "no chat template of {models} can switch reasoning (enable_thinking): set sampling.thinking to default"
            raise UserError(message, field="sampling.thinking", models=", ".join(model.name for model in models))
        if not data.ready:
            return
        asked = self._asked(data.folder)
        if not asked:
            raise UserError("{name} has no prompts: choose another dataset", field="prompts", name=data.name)
        for model in models:
            if model.ready:
                self._refuse_too_long(model, asked)

    def estimate(self, inputs: Mapping[int, Input], tokens_per_second: float | None) -> Estimate | None:
        """Time if every answer were as long as allowed."""
        from engine.training.cost import answering_speed

        models = [inputs[id] for id in self.models]
        sizes = [model.summary.get("parameters", 0) for model in models if not _is_endpoint(model)]
        answers = len(self._asked(inputs[self.prompts].folder)) * self.samples
        seconds = sum(answers * self.sampling.max_new_tokens / (tokens_per_second or answering_speed(size)) for size in sizes)
        notes = [f"Answers: {answers * len(models):,}", *(["The time is an upper bound"] if sizes else [])]
        if asked := len(models) - len(sizes):
            notes.append(f"Questions to endpoints: {answers * asked:,}, at their speed and their price")
        return Estimate(seconds, notes=tuple(notes), warnings=tuple(self._unsure_of_thinking(models)))

    def run(self, work: "Work") -> None:
        """Answer, then write what was stored."""
        data = work.input("prompts")
        asked, models = self._asked(data.folder), work.inputs("models")
        for warning in self._unsure_of_thinking(models):
            work.warn(warning)
        stored: Stored = {(a.artifact, a.prompt_key, a.sample): a for a in work.answers()}
        problems = []
        for place, model in enumerate(models):
            answer = self._ask_endpoint if _is_endpoint(model) else self._answer
            problems += answer(work, model, asked, stored, place * len(asked) * self.samples)
        if problems:
            raise UserError("{problems}. What was answered is kept, and a resumed run asks only for the rest", problems=". ".join(problems))
        answers = [stored[model.id, prompt.key, n] for model in models for prompt in asked for n in range(self.samples)]
        names = {model.id: model.name for model in models}
        responses.write(work.output("responses"), answers, names)
        work.describe("responses", prompts=len(asked), answers=len(answers), **_summary(self.models, answers))

    def _answer(self, work: "Work", model: Input, asked: "list[Prompt]", stored: Stored, before: int) -> list[str]:
        total = len(asked) * self.samples * len(self.models)
        plan = [(prompt, sample) for prompt in asked for sample in range(self.samples)]
        missing = sum((model.id, prompt.key, sample) not in stored for prompt, sample in plan)
        work.progress(before + len(plan) - missing, total)
        if not missing:
            return []
        from time import perf_counter

        from engine.training.answers import as_answer, batched
        from engine.training.models import compute_dtype, load_model

        chat = Chat.open(model.folder)
        self._refuse_too_long(model, asked)
        thinking = self.sampling.thinking
        ids = {prompt.key: chat.prompt_ids(prompt.messages, thinking) for prompt in asked}
        loaded = load_model(model, work.artifact, compute_dtype("auto", work.device), work.device)

        def done(rows: list[int]) -> bool:
            return all((model.id, plan[row][0].key, plan[row][1]) in stored for row in rows)

        began = perf_counter()
        batches = batched(
            loaded, chat, [ids[prompt.key] for prompt, _ in plan], self.sampling, self.batch_size,
            done=done, interrupted=lambda: work.stopping,
        )  # fmt: skip
        for rows, replies in batches:
            answers = [as_answer(chat, *plan[row], reply, model.id, thinking=thinking) for row, reply in zip(rows, replies, strict=True)]
            work.responses(answers)
            stored |= {(a.artifact, a.prompt_key, a.sample): a for a in answers}
            missing -= len(answers)
            speed = sum(len(reply.ids) for reply in replies) / (perf_counter() - began)
            work.metrics(before + len(plan) - missing, tokens_per_second=speed)
            work.progress(before + len(plan) - missing, total)
            began = perf_counter()
        work.progress(before + len(plan) - missing, total)
        return []

    def _ask_endpoint(self, work: "Work", model: Input, asked: "list[Prompt]", stored: Stored, before: int) -> list[str]:
        """Ask for what is missing, store each answer as it comes; why some are still missing, in words."""
        from time import perf_counter

        from engine.endpoints import Endpoint, Question
        from engine.work import Answer

        plan = [(prompt, sample) for prompt in asked for sample in range(self.samples)]
        missing = [(prompt, sample) for prompt, sample in plan if (model.id, prompt.key, sample) not in stored]
        total, done = len(plan) * len(self.models), before + len(plan) - len(missing)
        work.progress(done, total)
        questions = [Question(prompt.messages, self._drawn(prompt, sample)) for prompt, sample in missing]
        began, tokens, reasons = perf_counter(), 0, dict[str, list[UserError]]()
        for number, said in Endpoint.from_summary(model.summary).answers(questions, lambda: work.stopping):
            prompt, sample = missing[number]
            if isinstance(said, UserError):
                if said.message not in reasons:
                    work.warn(str(said))
                reasons.setdefault(said.message, []).append(said)
                continue
            known = {"thought": said.thought, "tokens": said.tokens}
            extra = prompt.extra | {name: value for name, value in known.items() if value}
            answer = Answer(model.id, prompt.key, prompt.messages, said.text, [], said.finish_reason, sample=sample, extra=extra)
            work.responses([answer])
            stored[model.id, prompt.key, sample] = answer
            done, tokens = done + 1, tokens + (said.tokens or 0)
            work.metrics(done, tokens_per_second=tokens / (perf_counter() - began) if tokens else None)
            work.progress(done, total)
        work.progress(done, total)
        if done == before + len(plan):
            return []
        told = "; ".join(f"{some[0]}" + (f" (so for {len(some)} prompts)" if len(some) > 1 else "") for some in reasons.values())
        return [f"{model.name} answered {done - before:,} of {len(plan):,} prompts: {told}"]

    def _drawn(self, prompt: "Prompt", sample: int) -> SamplingSettings:
        """The settings of one question: what is drawn differs from prompt to prompt and from sample to sample."""
        seed = Random(f"{self.sampling.seed}/{prompt.key}/{sample}").getrandbits(31)
        return self.sampling.model_copy(update={"seed": seed})

    def _unsure_of_thinking(self, models: "list[Input]") -> list[str]:
        """What to say of models that may not do as sampling.thinking says."""
        if self.sampling.thinking == "default":
            return []
        said = f"sampling.thinking {self.sampling.thinking} "
        return [
            said + (f"is sent to {model.name}, which may not know it" if _is_endpoint(model) else f"reaches nothing in {model.name}")
            for model in models
            if _is_endpoint(model) or not _may_know_thinking(model)
        ]

    def _asked(self, folder: Path) -> "list[Prompt]":
        from engine.training.rows import prompts_of, read_rows

        return prompts_of(read_rows(folder, "train", "heldout"))[: self.limit]

    def _refuse_too_long(self, model: Input, asked: "list[Prompt]") -> None:
        context = model.summary.get("context_length")
        if not context:
            return
        if _is_endpoint(model):  # its tokenizer is not here, and a word is at least one token
            unit, lengths = "words", [sum(len(str(turn["content"]).split()) for turn in prompt.messages) for prompt in asked]
        else:
            chat = Chat.open(model.folder)
            unit, lengths = "tokens", [len(chat.prompt_ids(prompt.messages, self.sampling.thinking)) for prompt in asked]
        long = sum(length >= context for length in lengths)
        if long:
            message = (
                "{long} of {asked} prompts do not fit the {context} tokens that {model} reads (the longest has {longest} {unit}): "
                "shorten or remove them"
            )
            told = {"long": long, "asked": len(asked), "context": context, "model": model.name, "longest": max(lengths), "unit": unit}
            raise UserError(message, "prompts", **told)


def _is_endpoint(model: Input) -> bool:
    return bool(model.summary.get("format") == "endpoint")


def _may_know_thinking(model: Input) -> bool:
    """Whether switching reasoning may reach a model; what is not ready or not here is not known."""
    return not model.ready or _is_endpoint(model) or Chat.open(model.folder).knows_thinking


def _summary(models: list[int], answers: "list[Answer]") -> dict[str, Any]:
    of = {id: [answer for answer in answers if answer.artifact == id] for id in models}
    counted = {id: [n for a in some if (n := count_tokens(a.token_ids, a.extra)) is not None] for id, some in of.items()}
    return {
        "models": models,
        "stop_rate": {str(id): sum(a.finish_reason == "stop" for a in some) / len(some) for id, some in of.items()},
        "median_tokens": {str(id): median(known) if known else None for id, known in counted.items()},
    }
