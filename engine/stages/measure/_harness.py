"""What the files of an evaluation harness have in common: tasks, their items, and the hash of what they depend on."""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.stages.data._read import Line, read

LARGEST = sys.float_info.max
DEEP = 5  # folders below the one given in which results are looked for
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function in memory, where its source could not be read


@dataclass(frozen=True)
class Scored:
    """One item: what joins it with the same item of another model, its value, and the answer where there is one. `choices`:
    how many it was chosen from."""

    key: str
    value: float | None
    prompt: str = ""
    answer: str | None = None
    choices: int = 0


@dataclass(frozen=True)
class Task:
    """One task of a file. `average` and `error` are what the harness reports for `metric`; `better`: whether more is better."""

    name: str
    metric: str
    average: float | None
    error: float | None
    suite_hash: str
    better: bool = True
    items: tuple[Scored, ...] = ()

    @property
    def mean(self) -> float | None:
        """Of its items; None without any that could be read."""
        known = [item.value for item in self.items if item.value is not None]
        return sum(known) / len(known) if known else None

    @property
    def rate(self) -> bool:
        """Whether its items are right or wrong, so that verdicts can be given on it."""
        return self.better and {item.value for item in self.items} <= {0, 0.5, 1, None}

    @property
    def floor(self) -> float | None:
        """The rate of guessing; None where nothing is chosen."""
        choices = [item.choices for item in self.items]
        return sum(1 / count for count in choices) / len(choices) if self.rate and choices and min(choices) > 1 else None


@dataclass(frozen=True)
class Results:
    """A results file with what stands beside it. `settings` is what it says of how it was measured."""

    path: Path
    harness: str
    settings: dict[str, Any]
    tasks: list[Task] = field(default_factory=list)


class Reader:
    """What the two kinds of files have in common."""

    harness = ""

    def __init__(self, path: Path, held: dict[str, Any], root: Path | None) -> None:
        self.path, self.held, self.when = path, held, path.stem.removeprefix("results").removeprefix("_")
        self.root = root or path.parent
        self.keys: dict[str, list[Any]] = {}  # what each task's items are, as the suite hash needs it

    def of(self, name: str, *path: str) -> Any:
        """A value of the file by its path, {} or None where there is none."""
        value: Any = self.held.get(name, {})
        for one in path:
            value = value.get(one) if isinstance(value, dict) else None
        return value

    def error(self, key: str) -> str:
        """What the standard error of a metric is called."""
        raise NotImplementedError

    def better(self, task: str, key: str) -> bool:
        """Whether more of a metric is better."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """How it was measured."""
        raise NotImplementedError

    def depends(self, task: str, key: str) -> list[Any]:
        """What a task's scores depend on besides the model."""
        raise NotImplementedError

    def items(self, task: str, key: str) -> list[Scored]:
        """A task's items, none if they are not there. Raises UserError."""
        raise NotImplementedError

    def rows(self, path: Path, made: Callable[[dict[str, Any]], Scored | None]) -> Iterator[Scored]:
        """Each row of a file as `made` reads it, with a number for what stands in it twice. Raises UserError with the line."""
        seen: Counter[str] = Counter()
        for number, row in _lines(path):
            try:
                item = made(row) if isinstance(row, dict) else row
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                item = f"it is no item of a task: {type(error).__name__} {error}"
            if isinstance(item, str):
                message = "{name}, line {number}: {why}. Nothing was imported"
                raise UserError(message, field="path", name=path.name, number=number, why=item)
            if item is None:
                continue
            seen[item.key] += 1
            again = seen[item.key]
            yield item if again == 1 else replace(item, key=f"{item.key}#{again}")


def _lines(path: Path) -> Iterator[Line]:
    try:
        yield from read(path)
    except UserError as refused:
        raise UserError(refused.message, field="path", **refused.values) from None


def is_number(value: Any) -> bool:
    """Whether it is one; a bool is."""
    return isinstance(value, int | float)


def number(value: Any) -> float | None:
    """Its value, None for what is not a finite number."""
    return float(value) if is_number(value) and -LARGEST <= value <= LARGEST else None


def text(value: object) -> str:
    """Its text, without half surrogate pairs, which no database holds."""
    return str(value).encode(errors="replace").decode()


def hashed(told: Any) -> str:
    """16 hex digits of anything, without the addresses of functions in memory."""
    written = ADDRESS.sub("", json.dumps(told, sort_keys=True, ensure_ascii=False, default=str))
    return hashlib.sha256(written.encode(errors="replace")).hexdigest()[:16]


def likeliest(texts: Sequence[str], likely: Sequence[float], by_length: bool) -> str | None:
    """The choice with the highest log-probability, by character if asked for; None for what is no choice among several."""
    if len(texts) != len(likely) or len(texts) < 2:
        return None
    return max(zip(texts, likely, strict=True), key=lambda pair: pair[1] / (max(len(pair[0]), 1) if by_length else 1))[0]
