"""A probe: one ability and how it is measured.

One file under engine/probes/ is one probe. Its docstring says "Title: what it shows."; its constants and functions say
the rest:

- `HOW`: "answers" (the model answers `item.prompt`, `score(item, reply)` judges), "chooses" (the log-probability of
  each of `item.choices` as the answer; right if that of `item.references[0]` is the highest) or "loss" (nats per token
  of `item.text`, or of the answer `item.references[0]` to `item.prompt`);
- `GROUP`: knowledge, instruction, safety or fluency; `FLOOR`: the rate of guessing, None where nothing is guessed;
- `items(n, seed)`: at most `n` items, the same for the same seed; written ones in a fixed order that a seed shuffles.

Nothing here imports torch: `engine.training.measuring` asks models here, `engine.stages.measure.evaluate` endpoints too.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isnan
from types import ModuleType
from typing import Literal

from engine.chat import Messages

How = Literal["answers", "chooses", "loss"]
GROUPS = ("task", "knowledge", "instruction", "safety", "fluency")


@dataclass(frozen=True)
class Item:
    """One question of a probe. `key` joins its measurements; `cluster` names what several items share, such as a passage."""

    key: str
    prompt: Messages
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    text: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class Reply:
    """What a model said to an item: its answer without reasoning, and whether it stopped by itself."""

    text: str
    stopped: bool


@dataclass(frozen=True)
class Probe:
    """An ability with its items' maker and judge. `score` gives 1 for right, 0 for wrong (0.5: in part), nan for unreadable."""

    name: str
    title: str
    summary: str
    how: How
    group: str
    items: Callable[[int, int], Sequence[Item]]
    score: Callable[[Item, Reply], float] | None = None
    floor: float | None = None
    max_new_tokens: int = 64
    version: str = ""  # of what judges: another one gives other scores

    @property
    def rate(self) -> bool:
        """Whether it says right or wrong, rather than how much."""
        return self.how != "loss"

    def judge(self, item: Item, reply: Reply) -> float | None:
        """The value of an answer; None for one that cannot be read."""
        assert self.score
        value = self.score(item, reply)
        return None if isnan(value) else value


@dataclass(frozen=True)
class Part:
    """A probe with the items it asks. `hash`: 16 hex digits of all that its scores depend on besides the model, so that
    scores with different ones never meet."""

    probe: Probe
    items: tuple[Item, ...]

    @cached_property
    def hash(self) -> str:
        """See the class."""
        probe = self.probe
        told = [probe.name, probe.how, probe.max_new_tokens, probe.version, [asdict(item) for item in self.items]]
        return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


Suite = Sequence[Part]  # what is measured together


def ask(text: str) -> Messages:
    """A question as the one turn of a user."""
    return [{"role": "user", "content": text}]


def source_version(module: ModuleType) -> str:
    """16 hex digits of the source of a module and of all that it uses of this project to judge."""
    seen: dict[str, str] = {}
    open_ = [module]
    while open_:
        one = open_.pop()
        if one.__name__ in seen:
            continue
        seen[one.__name__] = inspect.getsource(one)
        for value in vars(one).values():
            home = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
            if home and home.__name__.startswith(("engine.probes.", "engine.scorers.")):
                open_.append(home)
    return hashlib.sha256("".join(seen[name] for name in sorted(seen)).encode()).hexdigest()[:16]
