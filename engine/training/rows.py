"""Rows of a dataset as a model will read them.

No torch here: the estimate beside the form, the run itself and the tests count with the same few functions, so that
what is said before Start is what happens after it.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from engine.chat import Chat, Encoded, prompt_key
from engine.settings import TrainingSettings

LossOn = Literal["response", "everything"]
SAMPLE = 5_000  # rows read for an estimate; more would keep a person waiting


@dataclass(frozen=True)
class Count:
    """What encoding a dataset's rows comes to. `sampled` rows were read when there were too many to read all."""

    rows: int  # that carry loss
    tokens: int  # in these
    cut: int  # rows that lost tokens to the max length, and with them their stop token
    dropped: int  # rows left without any token to learn from
    longest: int = 0  # tokens of the longest row
    sampled: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A question to a model: messages, the key that joins its answers, and what its row says about right answers."""

    messages: list[dict[str, Any]]
    key: str
    extra: dict[str, Any]


def read_rows(folder: Path, *splits: Literal["train", "heldout"]) -> list[dict[str, Any]]:
    """The rows of a dataset's splits, in order."""
    return [json.loads(line) for split in splits for line in lines(folder / f"{split}.jsonl")]


def encode_rows(chat: Chat, rows: Iterable[dict[str, Any]], loss_on: LossOn, max_length: int) -> tuple[list[Encoded], Count]:
    """Token ids and labels of every conversation; rows that carry no loss within `max_length` are left out."""
    encoded = [chat.encode(row["messages"], loss=loss_on, max_length=max_length) for row in rows]
    learnt = [row for row in encoded if any(label != -100 for label in row.labels[1:])]  # nothing predicts the first token
    tokens, cut = sum(len(row.ids) for row in learnt), sum(row.cut for row in encoded)
    return learnt, Count(len(learnt), tokens, cut, len(encoded) - len(learnt), max((len(row.ids) for row in learnt), default=0))


@lru_cache(maxsize=32)
def count_rows(model: Path, data: Path, loss_on: LossOn, max_length: int) -> Count:
    """What `encode_rows` will make of a dataset's training rows. Artifacts never change, so it is counted once."""
    written = list(lines(data / "train.jsonl"))
    every = math.ceil(len(written) / SAMPLE) or 1
    read = [json.loads(line) for line in written[::every]]
    found = encode_rows(Chat.open(model), read, loss_on, max_length)[1]
    if every == 1:
        return found
    scale = len(written) / len(read)
    rows, tokens, cut, dropped = (round(n * scale) for n in (found.rows, found.tokens, found.cut, found.dropped))
    return Count(rows, tokens, cut, dropped, found.longest, sampled=len(read))


def prompts_of(rows: Iterable[dict[str, Any]]) -> list[Prompt]:
    """What a model is asked by rows of prompts or of conversations: each different prompt once, in order.

    Of a conversation the turns before the last assistant turn are the prompt, and that turn is the reference answer, unless
    the row itself says what is right.
    """
    prompts: dict[str, Prompt] = {}
    for row in rows:
        messages, extra = _ask(row)
        if messages:
            key = prompt_key(messages)
            prompts.setdefault(key, Prompt(messages, key, extra))
    return list(prompts.values())


def total_steps(training: TrainingSettings, rows: int) -> int:
    """Optimizer steps that the settings make of this many rows."""
    in_one_epoch = math.ceil(rows / (training.batch_size * training.accumulation))
    return training.steps or max(1, math.ceil(training.epochs * in_one_epoch))


def _ask(row: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    told = {name: row[name] for name in ("answer", "accept", "tags") if name in row}
    if "prompt" in row:
        return row["prompt"], told
    turns = row["messages"]
    last = next((i for i in reversed(range(len(turns))) if turns[i]["role"] == "assistant"), None)
    return (turns, told) if last is None else (turns[:last], {"answer": turns[last]["content"]} | told)


def lines(path: Path) -> Iterator[str]:
    """The lines of a file that say something; none where there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
