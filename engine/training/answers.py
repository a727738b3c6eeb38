"""Answers of a model to prompts: batched, left-padded, without leaving a trace in a training run.

transformers generates; what is added here is the padding (so that no tokenizer is changed for it), the seed of each
batch, the finish reason, and `as_finished`, which lets a model answer in the middle of its training.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from peft.tuners.lora import LoraLayer
from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor, StoppingCriteriaList

from engine.chat import Chat, Thinking
from engine.settings import SamplingSettings
from engine.training.batches import by_length
from engine.training.rows import Prompt
from engine.work import Answer, Work


@dataclass(frozen=True)
class Reply:
    """What a model wrote: token ids with the stop token and without padding."""

    ids: list[int]
    finish_reason: str  # "stop", "length"


def generate(
    model: Any,
    chat: Chat,
    prompts: Sequence[list[int]],
    sampling: SamplingSettings,
    *,
    seed: int,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[Reply] | None:
    """Answer one batch of tokenised prompts; None when interrupted. Global random state is seeded, see `undisturbed`."""
    width = max(map(len, prompts))
    padded = torch.tensor([[chat.pad_id] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    # The penalty looks at the answer alone: the prompt's share would depend on padding, and would punish the stop
    # tokens of earlier turns.
    penalty = sampling.repetition_penalty
    penalties = [] if penalty == 1 else [RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=width)]

    def leave(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(ids),), interrupted(), device=ids.device)

    torch.manual_seed(seed)
    out = model.generate(
        input_ids=padded,
        attention_mask=mask,
        generation_config=_config(chat, sampling, room=context(model) - width),
        logits_processor=LogitsProcessorList(penalties),
        stopping_criteria=StoppingCriteriaList([leave]),
    )
    return None if interrupted() else [_reply(ids, chat.stop_ids) for ids in out[:, width:].tolist()]


def batched(
    model: Any,
    chat: Chat,
    prompts: Sequence[list[int]],
    sampling: SamplingSettings,
    batch_size: int,
    *,
    done: Callable[[list[int]], bool] = lambda rows: False,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[list[int], list[Reply]]]:
    """Answer all prompts, batch by batch: (row numbers, replies).

    The batches and their seeds follow from the prompts and the settings alone, so that a run which skips the batches
    already `done` gives the same answers as one that was never interrupted.
    """
    for number, rows in enumerate(by_length([len(ids) for ids in prompts], batch_size)):
        if done(rows):
            continue
        seed = random.Random(f"{sampling.seed}/{number}").getrandbits(62)
        replies = generate(model, chat, [prompts[row] for row in rows], sampling, seed=seed, interrupted=interrupted)
        if replies is None:
            return
        yield rows, replies


def as_answer(
    chat: Chat, prompt: Prompt, sample: int, reply: Reply, artifact: int, step: int = 0, thinking: Thinking = "default"
) -> Answer:
    """A reply as it is stored, its reasoning apart from the answer."""
    thought, text = chat.split_thought(reply.ids, chat.opens_thought(prompt.messages, thinking))
    extra = prompt.extra | ({"thought": thought} if thought else {})
    return Answer(artifact, prompt.key, prompt.messages, text, reply.ids, reply.finish_reason, step, sample, extra)


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Use a model in the middle of its training: in eval mode, every random state and the mode kept."""
    training, python, numbers = model.training, random.getstate(), numpy.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            random.setstate(python)
            numpy.random.set_state(numbers)


@contextmanager
def as_finished(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Use a model that trains as it will be used: undisturbed, computing in `dtype`, its adapter in its weights.

    Through an adapter a look takes two thirds longer. The copy of the weights that this needs is affordable on a CPU only;
    the weights themselves come back untouched."""
    # Master weights are float32, and generating leaves the trainer's autocast: W7 of the checked facts.
    halved = torch.autocast(model.device.type, dtype, enabled=dtype == torch.bfloat16)
    layers = [part for part in model.modules() if isinstance(part, LoraLayer)] if model.device.type == "cpu" else []
    weights = [(layer.get_base_layer().weight, layer) for layer in layers]
    kept = [weight.data for weight, _ in weights]
    with undisturbed(model), halved, model.disable_adapter() if layers else nullcontext():
        try:
            for weight, layer in weights:
                weight.data = (weight.data + sum(layer.get_delta_weight(name) for name in layer.active_adapters)).to(dtype)
            yield
        finally:
            for (weight, _), data in zip(weights, kept, strict=True):
                weight.data = data


class Panel:
    """The few fixed prompts that a model answers before, during and after its training."""

    def __init__(self, work: Work, chat: Chat, model: int, prompts: list[Prompt], sampling: SamplingSettings, dtype: torch.dtype) -> None:
        self.work, self.chat, self.artifact, self.prompts = work, chat, model, prompts
        self.sampling, self.dtype = sampling, dtype
        self.answered = {answer.step for answer in work.answers()}  # of this run before it was resumed

    def answer(self, model: Any, step: int) -> None:
        """Store the answers of this step, unless they are there or the run is stopping."""
        if step in self.answered or not self.prompts:
            return
        ids = [self.chat.prompt_ids(prompt.messages) for prompt in self.prompts]
        with as_finished(model, self.dtype):
            batches = batched(model, self.chat, ids, self.sampling, len(ids), interrupted=lambda: self.work.stopping)
            for rows, replies in batches:
                asked = zip(rows, replies, strict=True)
                self.work.responses(as_answer(self.chat, self.prompts[row], 0, reply, self.artifact, step) for row, reply in asked)
                self.answered.add(step)


def _config(chat: Chat, sampling: SamplingSettings, room: int) -> GenerationConfig:
    # Every choice is given: what is left out would come from the model's own generation_config.json.
    choice: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        choice = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
    return GenerationConfig(
        max_new_tokens=max(1, min(sampling.max_new_tokens, room)),
        eos_token_id=sorted(chat.stop_ids),
        pad_token_id=chat.pad_id,
        repetition_penalty=1.0,
        num_beams=1,
        use_cache=True,
        **choice,
    )


def context(model: Any) -> int:
    """Tokens that a model can read."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31)


def _reply(ids: list[int], stops: frozenset[int]) -> Reply:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    return Reply(ids, "length") if end is None else Reply(ids[: end + 1], "stop")
