"""The file of a set of answers, one line each: written by whatever makes such a set, read by whatever works on one."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.work import Answer

NAME = "responses.jsonl"


def write(folder: Path, answers: "Iterable[Answer]", names: Mapping[int, str] | None = None) -> None:
    """Write a set of answers; `names` of the models by id, where models of this home answered, else each answer's source counts."""
    with (folder / NAME).open("w", encoding="utf-8", errors="backslashreplace") as file:
        for answer in answers:
            who = {"model": answer.source or (names or {}).get(answer.artifact, "")}
            file.write(json.dumps(vars(answer) | who, ensure_ascii=False) + "\n")


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a set: the fields of `engine.work.Answer` and "model", the name of who answered."""
    with (folder / NAME).open(encoding="utf-8") as file:
        for line in file:  # a line ends at \n alone: answers may hold other line ends
            if line.strip():
                yield json.loads(line)
