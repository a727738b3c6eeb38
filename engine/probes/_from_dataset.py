"""From dataset: how likely a model finds the answers or texts of any dataset, and how often it gives them itself."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.catalogue import scorers
from engine.chat import prompt_key
from engine.errors import UserError
from engine.probe import Item, Probe, Reply, source_version

if TYPE_CHECKING:
    from engine.training.rows import Prompt

MAX_NEW_TOKENS = 128


def probes(name: str, rows: Sequence[dict[str, Any]], scorer: str) -> list[Probe]:
    """The loss on a dataset's rows and, with a scorer, how often the model's own answers are right.

    Raises UserError where no row has a reference, and for a scorer that says how much rather than right or wrong.
    """
    from engine.training.rows import prompts_of

    texts = [Item(prompt_key([{"role": "text", "content": row["text"]}]), [], text=row["text"]) for row in rows if "text" in row]
    asked = prompts_of([row for row in rows if "text" not in row])
    items = texts + [Item(one.key, one.messages, (answer,)) for one in asked if (answer := answer_of(one))]
    if not items:
        raise UserError("{name} has no texts and no answers to measure by: choose another dataset", field="data", name=name)
    made = [Probe(f"{name}: loss", f"{name}: loss", "nats per token", "loss", "task", partial(_some, items))]
    if scorer:
        judge = scorers()[scorer]
        if not judge.rate:
            message = "{scorer} says how much, and this needs right or wrong: choose exact_match or contains"
            raise UserError(message, field="scorer", scorer=scorer)
        answered = [Item(one.key, one.messages, known) for one in asked if (known := references(one))]
        if not answered:
            raise UserError("{name} holds texts, and a scorer needs prompts: leave the scorer empty", field="scorer", name=name)

        def score(item: Item, reply: Reply) -> float:
            return judge.score(item.prompt, reply.text, item.references)

        title, version = f"{name}: {judge.title.lower()}", source_version(sys.modules[judge.score.__module__])
        drawn = partial(_some, answered)
        made.append(Probe(f"{name}: {scorer}", title, judge.summary, "answers", "task", drawn, score, None, MAX_NEW_TOKENS, version))
    return made


def answer_of(prompt: "Prompt") -> str:
    """The answer that stands in the row, or else the first that counts as right: what a model's loss is taken on."""
    return str(prompt.extra.get("answer") or next(iter(references(prompt)), ""))


def references(prompt: "Prompt") -> tuple[str, ...]:
    """What counts as right for a prompt: as its row says, else the answer that stands there."""
    accepted = prompt.extra.get("accept") or [prompt.extra.get("answer", "")]
    return tuple(text for text in accepted if text)


def _some(items: Sequence[Item], n: int, _seed: int) -> Sequence[Item]:
    return items[:n]
