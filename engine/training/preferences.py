"""Preference rows as models will read them: pairs for DPO, one row a prompt for a reward model.

No torch here: the estimate beside the form, the run itself and the tests count with the same few functions. Rows that
are too long are left out rather than cut: a cut answer has lost its stop token, and what comes last is what a reward
model looks at.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from math import comb
from pathlib import Path
from typing import Any

from engine.chat import NO_LOSS, Chat, Encoded, prompt_key
from engine.training.rows import SAMPLE, LossOn, lines

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Conversation:
    """A prompt with one answer. `row` is the whole conversation, of which the answer alone carries loss: it stands at
    `begin` up to `end`, after its stop token."""

    row: Encoded
    begin: int
    end: int

    @property
    def length(self) -> int:
        """Tokens of the answer."""
        return self.end - self.begin


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. `weight` is what the pair counts in its prompt, `margin` how much better one is."""

    key: str
    chosen: Conversation
    rejected: Conversation
    weight: float
    margin: float

    @property
    def length(self) -> int:
        """Tokens of both conversations."""
        return len(self.chosen.row.ids) + len(self.rejected.row.ids)


@dataclass(frozen=True)
class Better:
    """One pair among a prompt's answers, by their places."""

    winner: int
    loser: int
    weight: float
    margin: float


@dataclass(frozen=True)
class Ranked:
    """One prompt with its different answers and what is known of their order."""

    key: str
    answers: list[Conversation]
    pairs: list[Better]


@dataclass(frozen=True)
class Count:
    """What reading a dataset's preference rows comes to. `sampled` rows were read when there were too many to read all."""

    pairs: int
    prompts: int
    answers: int
    pair_tokens: int  # of both conversations of every pair
    answer_tokens: int  # of every different conversation, once
    longest: int  # tokens of the longest conversation
    most: int  # answers to one prompt
    too_long: int  # rows left out
    equal: int  # rows left out: chosen and rejected are the same, one of them says nothing, or the pair weighs nothing
    sampled: int | None = None

    def in_words(self, length: int) -> str:
        """A sentence for before the training."""
        text = f"Pairs: {self.pairs:,}, prompts: {self.prompts:,}, answers: {self.answers:,}, tokens: {self.answer_tokens:,}"
        if self.too_long:
            text += f"; {self.too_long:,} pairs hold a conversation of more than {length:,} tokens and are left out"
        if self.equal:
            text += f"; {self.equal:,} pairs have equal answers, no answer or no weight, and are left out"
        return text + (f"; estimated from {self.sampled:,} rows" if self.sampled else "")


def whole(chat: Chat, prompt: Messages, answer: Messages, max_length: int | None, loss: LossOn = "response") -> Encoded:
    """A prompt with its answer as a reward model reads it, in training as in scoring: the whole conversation as the chat
    template writes it, with its stop token. TRL reads it alike."""
    return chat.encode([*prompt, *answer], loss=loss, max_length=max_length)


def encode_answer(chat: Chat, prompt: Messages, answer: Messages, max_length: int | None = None) -> Conversation | None:
    """The same, and where the answer stands in it. None where the answer is empty, or cut at `max_length`."""
    row = whole(chat, prompt, answer, max_length)
    asked = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(chat.prompt_ids(prompt), row.ids, strict=False)))
    learned = [place for place, label in enumerate(row.labels) if label != NO_LOSS and place >= asked]
    if row.cut or not learned:
        return None
    begin, end = learned[0], learned[-1] + 1
    return Conversation(replace(row, labels=[NO_LOSS] * begin + row.labels[begin:]), begin, end)


def encode_pairs(chat: Chat, rows: Sequence[dict[str, Any]], max_length: int) -> tuple[list[Pair], Count]:
    """Every pair that can be learned from, and what was left out. A row without a weight has 1/C(K,2), where K is how
    many different answers the rows hold to its prompt; one without a margin has 0."""
    seen: dict[tuple[str, str], Conversation | None] = {}
    different: dict[str, set[str]] = {}
    named = []
    for row in rows:
        key, chosen, rejected = (prompt_key(row[name]) for name in ("prompt", "chosen", "rejected"))
        different.setdefault(key, set()).update((chosen, rejected))
        named.append((key, chosen, rejected))
    pairs, too_long, equal, longest = [], 0, 0, 0
    for row, (key, *answers) in zip(rows, named, strict=True):
        weight = row.get("weight")
        counts = weight is None or float(weight) > 0
        if answers[0] == answers[1] or not counts or not all(_speaks(row[name]) for name in ("chosen", "rejected")):
            equal += 1
            continue
        for name, answer in zip(("chosen", "rejected"), answers, strict=True):
            if (key, answer) not in seen:
                seen[key, answer] = encode_answer(chat, row["prompt"], row[name], max_length)
        one, other = (seen[key, answer] for answer in answers)
        if one is None or other is None:
            too_long += 1
            continue
        default = 1 / comb(len(different[key]), 2)
        pairs.append(Pair(key, one, other, default if weight is None else float(weight), float(row.get("margin") or 0)))
        longest = max(longest, len(one.row.ids), len(other.row.ids))
    kept = by_prompt(pairs)
    tokens = sum(len(answer.row.ids) for one in kept for answer in one.answers)
    most, answers_kept = max((len(one.answers) for one in kept), default=0), sum(len(one.answers) for one in kept)
    both = sum(pair.length for pair in pairs)
    return pairs, Count(len(pairs), len(kept), answers_kept, both, tokens, longest, most, too_long, equal)


def by_prompt(pairs: Iterable[Pair]) -> list[Ranked]:
    """The pairs of each prompt together, each of its answers once, in the order in which they come."""
    found: dict[str, Ranked] = {}
    places: dict[tuple[str, int], int] = {}
    for pair in pairs:
        ranked = found.setdefault(pair.key, Ranked(pair.key, [], []))
        for answer in (pair.chosen, pair.rejected):
            if (pair.key, id(answer)) not in places:
                places[pair.key, id(answer)] = len(ranked.answers)
                ranked.answers.append(answer)
        winner, loser = (places[pair.key, id(answer)] for answer in (pair.chosen, pair.rejected))
        ranked.pairs.append(Better(winner, loser, pair.weight, pair.margin))
    return list(found.values())


@lru_cache(maxsize=32)
def count_pairs(model: Path, data: Path, max_length: int) -> Count:
    """What `encode_pairs` will make of a dataset's training rows. Artifacts never change, so it is counted once."""
    written = list(lines(data / "train.jsonl"))
    every = math.ceil(len(written) / SAMPLE) or 1
    read = [json.loads(line) for line in written[::every]]
    found = encode_pairs(Chat.open(model), read, max_length)[1]
    if every == 1:
        return found
    scale = len(written) / len(read)
    grown = {
        name: round(getattr(found, name) * scale)
        for name in ("pairs", "prompts", "answers", "pair_tokens", "answer_tokens", "too_long", "equal")
    }
    return replace(found, **grown, sampled=len(read))


def _speaks(answer: Messages) -> bool:
    return any(message["role"] == "assistant" and str(message["content"]).strip() for message in answer)
