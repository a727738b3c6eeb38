"""A suite put to a model in memory: log-probabilities in one pass over a batch, answers in batches.

The choices of an item share its prompt: it is read once, and only the choices are read for each. A choice is the one
with the highest mean log-probability per byte (acc_norm of lm-evaluation-harness), since choices differ in length.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import log_softmax

from engine.chat import Chat, Encoded, prompt_key
from engine.probe import Item, Part, Suite
from engine.probe import Reply as Heard
from engine.settings import SamplingSettings
from engine.training.answers import Reply, as_answer, batched, context
from engine.training.batches import by_length
from engine.training.rows import Prompt
from engine.work import Answer, ItemScore, Measurement

LOGITS = 2**26  # numbers that the logits of one pass may be: a quarter of a gigabyte
GREEDY = SamplingSettings()


@dataclass(frozen=True)
class Measured:
    """One item's value: None for an answer that cannot be read. `reply` is the same object for all items it answers;
    `chosen` is the likeliest of an item's choices."""

    part: Part
    item: Item
    value: float | None
    reply: Reply | None = None
    chosen: str = ""


def measure(
    model: Any,
    chat: Chat,
    suite: Suite,
    batch_size: int,
    *,
    known: Callable[[Part], Collection[str]] = lambda part: (),
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[list[Measured]]:
    """Measure what is not `known`, batch by batch. Items that do not fit the model's context are left out."""
    missing = [replace(part, items=tuple(item for item in part.items if item.key not in known(part))) for part in suite]
    asked = [(whole, item) for whole, part in zip(suite, missing, strict=True) for item in part.items]
    for how, ways in (("chooses", _choose), ("loss", _lose), ("answers", _answer)):
        rows = [(part, item) for part, item in asked if part.probe.how == how]
        if rows:
            yield from ways(model, chat, rows, batch_size, interrupted)


def measurements(chat: Chat, artifact: int, step: int, found: Iterable[Measured]) -> list[Measurement]:
    """What was measured as rows: one answer with all the scores that judge it."""
    told: dict[int, tuple[Answer | None, list[ItemScore]]] = {}
    for place, one in enumerate(found):
        score = ItemScore(artifact, one.part.hash, one.part.probe.name, one.item.key, one.value, step)
        told.setdefault(id(one.reply) if one.reply else -place - 1, (_said(chat, one, artifact, step), []))[1].append(score)
    return list(told.values())


def _said(chat: Chat, one: Measured, artifact: int, step: int) -> Answer | None:
    prompt = Prompt(one.item.prompt, prompt_key(one.item.prompt), {})
    if one.reply:
        return as_answer(chat, prompt, 0, one.reply, artifact, step)
    return Answer(artifact, prompt.key, prompt.messages, one.chosen, [], "chosen", step) if one.chosen else None


Rows = Sequence[tuple[Part, Item]]


def _choose(model: Any, chat: Chat, rows: Rows, batch_size: int, interrupted: Callable[[], bool]) -> Iterator[list[Measured]]:
    prompts = [chat.prompt_ids(item.prompt) for _, item in rows]
    choices = [[chat.tokenizer.encode(text, add_special_tokens=False).ids for text in item.choices] for _, item in rows]
    room = context(model)
    fitting = [n for n, ids in enumerate(prompts) if len(ids) + max(map(len, choices[n])) <= room]
    longest = max((len(ids) for n in fitting for ids in choices[n]), default=1)
    most = max((len(choices[n]) for n in fitting), default=1)
    size = max(1, min(batch_size, _positions(model) // (most * longest)))
    for batch in by_length([len(ids) for ids in prompts], size, fitting):
        if interrupted():
            return
        sums = log_probabilities(model, chat.pad_id, [prompts[n] for n in batch], [choices[n] for n in batch])
        yield [_chosen(*rows[n], found) for n, found in zip(batch, sums, strict=True)]


def _chosen(part: Part, item: Item, sums: Sequence[float]) -> Measured:
    means = [total / max(len(text.encode()), 1) for total, text in zip(sums, item.choices, strict=True)]
    chosen = item.choices[max(range(len(means)), key=means.__getitem__)]
    return Measured(part, item, float(chosen == item.references[0]), chosen=chosen)


@torch.no_grad()
def log_probabilities(model: Any, pad: int, prompts: Sequence[list[int]], choices: Sequence[Sequence[list[int]]]) -> list[list[float]]:
    """Summed log-probability (nats, float32) of each choice's tokens after its prompt, prompts read once. All choices non-empty."""
    width, device = max(map(len, prompts)), model.device
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    owner = torch.tensor([place for place, some in enumerate(choices) for _ in some], device=device)
    flat = [choice for some in choices for choice in some]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    firsts = torch.tensor([choice[0] for choice in flat], device=device)
    total = log_softmax(read.logits[:, -1].float(), -1)[owner, firsts]
    longest = max(map(len, flat))
    if longest > 1:
        inner = torch.tensor([choice[:-1] + [pad] * (longest - len(choice)) for choice in flat], device=device)
        targets = torch.tensor([choice[1:] + [-100] * (longest - len(choice)) for choice in flat], device=device)
        read.past_key_values.batch_select_indices(owner)
        seen = torch.tensor([[1] * (len(choice) - 1) + [0] * (longest - len(choice)) for choice in flat], device=device)
        lengths = mask.sum(1)[owner]
        logits = model(
            input_ids=inner,
            attention_mask=torch.cat([mask[owner], seen], 1),
            position_ids=lengths[:, None] + torch.arange(longest - 1, device=device),
            past_key_values=read.past_key_values,
            use_cache=True,
        ).logits
        told = log_softmax(logits.float(), -1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
        total = total + (told * (targets >= 0)).sum(1)
    sums = iter(total.tolist())
    return [[next(sums) for _ in some] for some in choices]


def _lose(model: Any, chat: Chat, rows: Rows, batch_size: int, interrupted: Callable[[], bool]) -> Iterator[list[Measured]]:
    encoded = [
        chat.encode([*item.prompt, {"role": "assistant", "content": item.references[0]}]) if item.prompt else chat.encode_text(item.text)
        for _, item in rows
    ]
    for batch in losses(model, chat.pad_id, encoded, batch_size, interrupted):
        yield [Measured(*rows[n], value=loss) for n, loss in batch]


@torch.no_grad()
def losses(
    model: Any, pad: int, encoded: Sequence[Encoded], batch_size: int, interrupted: Callable[[], bool] = lambda: False
) -> Iterator[list[tuple[int, float]]]:
    """(place, mean loss in nats a token, float32) of the rows that carry loss and fit the model's context, batch by batch."""
    room = context(model)
    fitting = [n for n, row in enumerate(encoded) if len(row.ids) <= room and any(label != -100 for label in row.labels[1:])]
    longest = max((len(encoded[n].ids) for n in fitting), default=1)
    for batch in by_length([len(row.ids) for row in encoded], max(1, min(batch_size, _positions(model) // longest)), fitting):
        if interrupted():
            return
        width = max(len(encoded[n].ids) for n in batch)
        ids = torch.tensor([encoded[n].ids + [pad] * (width - len(encoded[n].ids)) for n in batch], device=model.device)
        mask = torch.tensor([[1] * len(encoded[n].ids) + [0] * (width - len(encoded[n].ids)) for n in batch], device=model.device)
        labels = torch.tensor([encoded[n].labels[1:] + [-100] * (width - len(encoded[n].ids)) for n in batch], device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        told = log_softmax(logits.float(), -1).gather(2, labels.clamp(min=0)[..., None])[..., 0] * (labels >= 0)
        found = (-told.sum(1) / (labels >= 0).sum(1)).tolist()
        yield list(zip(batch, found, strict=True))


def _answer(model: Any, chat: Chat, rows: Rows, batch_size: int, interrupted: Callable[[], bool]) -> Iterator[list[Measured]]:
    room = context(model)
    for limit in sorted({part.probe.max_new_tokens for part, _ in rows}):
        asked: dict[str, list[tuple[Part, Item]]] = {}
        for part, item in rows:
            if part.probe.max_new_tokens == limit:
                asked.setdefault(prompt_key(item.prompt), []).append((part, item))
        prompts = {key: chat.prompt_ids(some[0][1].prompt) for key, some in asked.items()}
        keys = [key for key, ids in prompts.items() if len(ids) < room]
        sampling = GREEDY.model_copy(update={"max_new_tokens": limit})
        for batch, replies in batched(model, chat, [prompts[key] for key in keys], sampling, batch_size, interrupted=interrupted):
            yield [
                Measured(part, item, part.probe.judge(item, _heard(chat, item, reply)), reply)
                for n, reply in zip(batch, replies, strict=True)
                for part, item in asked[keys[n]]
            ]


def _heard(chat: Chat, item: Item, reply: Reply) -> Heard:
    _, text = chat.split_thought(reply.ids, chat.opens_thought(item.prompt))
    return Heard(text, reply.finish_reason == "stop")


def _positions(model: Any) -> int:
    return int(LOGITS // model.config.get_text_config().vocab_size)
