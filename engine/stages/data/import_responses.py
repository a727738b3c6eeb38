"""Answers from elsewhere, to be read, measured and compared like those given here: a prompt, an answer, and who answered.

The same prompt asked here and there joins by its key. LLM Comparator's JSON is read too: two models' answers in one file.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from engine.chat import count_tokens, prompt_key
from engine.errors import UserError
from engine.stage import Input, Kind, Preview, PreviewRow, Stage
from engine.stages.data._formats import BadRow, convert
from engine.stages.data._read import SUFFIXES, Line, read

if TYPE_CHECKING:
    from engine.work import Work

# Names that a column may have, the likeliest first.
PROMPTS = ("prompt", "messages", "instruction", "question", "input", "input_text", "query")
ANSWERS = ("answer", "response", "output", "completion", "generation", "text")
SOURCES = ("source", "model", "model_name", "generator")
REFERENCES = ("reference", "accept", "expected", "target")
PREVIEWED, LISTED, BATCH = 5, 20, 500


class ImportResponses(Stage):
    """Bring in answers that other models or people gave elsewhere, to compare them with those given here."""

    outputs = {"responses": Kind.RESPONSES}
    heavy = False

    file: str = Field(
        title="File",
        description="JSONL, JSON, CSV or Parquet with a prompt and an answer in each row; or LLM Comparator's JSON.",
        json_schema_extra={"upload": [suffix for suffix in SUFFIXES if suffix != ".txt"]},
    )
    source: str = Field("", title="Who answered", description="Of rows that do not say it in a column. Empty: the file's name.")
    prompt_column: str = Field("", title="Prompt column", description="Empty: recognised, such as prompt or question.")
    answer_column: str = Field("", title="Answer column", description="Empty: recognised, such as answer or response.")
    source_column: str = Field("", title="Source column", description="Empty: recognised, such as source or model.")
    reference_column: str = Field("", title="Reference column", description="The right answers, for scoring. Empty: recognised.")
    max_rejected: float = Field(0.05, ge=0, le=1, title="Bad rows allowed", description="A larger share of bad rows refuses the import.")

    @field_validator("file")
    @classmethod
    def _path_is_whole(cls, file: str) -> str:
        """The run works in a folder of its own, so a path must not depend on where we stand."""
        return str(Path(file.strip()).expanduser().absolute()) if file.strip() else ""

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The file's name."""
        return Path(self.file).stem or "answers"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The file is there, can be read, and has a prompt and an answer."""
        self._columns(self._head())

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first answers as they will be stored."""
        try:
            head = self._head()
            columns = self._columns(head)
        except UserError:  # `check` says it, beside the field
            return None
        shown = []
        for _, row in head[:PREVIEWED]:
            try:
                made = self._made(row, columns)
                text = "\n".join(str(turn["content"]) for turn in made["prompt"])
                shown.append(PreviewRow(((f"{text}\n", False), (made["answer"], True)), problem=made["source"]))
            except BadRow as reason:
                shown.append(PreviewRow(((str(row), False),), problem=str(reason)))
        names = ", ".join(f"{what}: {name}" for what, name in columns.items() if name)
        return Preview(f"{Path(self.file).name}: read as {names}", tuple(shown), columns=tuple(sorted(_names(head))))

    def run(self, work: "Work") -> None:
        """Read, check, store, and say what was left out."""
        from engine.work import Answer

        columns, asked = self._columns(self._head()), work.answers()
        rejected: list[tuple[int, str]] = []
        seen: Counter[tuple[str, str]] = Counter()
        answers: list[Answer] = []
        for number, row in _lines(Path(self.file)):
            try:
                made = self._made(row, columns)
            except BadRow as reason:
                rejected.append((number, str(reason)))
                continue
            key = prompt_key(made["prompt"])
            who = key, made["source"]
            answers.append(Answer(artifact=work.output_id("responses"), prompt_key=key, sample=seen[who], token_ids=[], **made))
            seen[who] += 1
        self._report(work, rejected, len(rejected) + len(answers))
        for start in range(len(asked), len(answers), BATCH):  # what a killed run had stored is the beginning of the same list
            work.responses(answers[start : start + BATCH])
            work.progress(min(start + BATCH, len(answers)), len(answers))
        with (work.output("responses") / "responses.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as file:
            for answer in answers:
                file.write(json.dumps(vars(answer) | {"model": answer.source}, ensure_ascii=False) + "\n")
        by = {source: [one for one in answers if one.source == source] for source in dict.fromkeys(one.source for one in answers)}
        lengths = {source: [n for one in some if (n := count_tokens([], one.extra)) is not None] for source, some in by.items()}
        middles = {source: median(known) for source, known in lengths.items() if known}
        prompts = len({one.prompt_key for one in answers})
        work.describe("responses", prompts=prompts, answers=len(answers), models=[], sources=list(by), median_tokens=middles)
        work.say(f"{len(answers):,} answers to {prompts:,} prompts by {', '.join(by)}; {len(rejected):,} bad rows left out")

    def _head(self) -> list[Line]:
        if not self.file:
            raise UserError("there is no file yet: choose one, or type a path", field="file")
        path = Path(self.file)
        if not path.is_file():
            raise UserError("there is no file {path}: check the path, or choose a file", field="file", path=path)
        head = list(islice(_lines(path), 50))
        if not head:
            raise UserError("{path} has no rows: choose another file", field="file", path=path)
        return head

    def _columns(self, head: list[Line]) -> dict[str, str]:
        """Which column holds what; "" for what no column holds. Raises UserError."""
        there = _names(head)
        found = {}
        for what, given, known in (
            ("prompt", self.prompt_column, PROMPTS),
            ("answer", self.answer_column, ANSWERS),
            ("source", self.source_column, SOURCES),
            ("reference", self.reference_column, REFERENCES),
        ):
            if given.strip() and given.strip() not in there:
                message = "there is no column {given}; there are: {columns}"
                raise UserError(message, field=f"{what}_column", given=repr(given.strip()), columns=", ".join(sorted(there)) or "none")
            taken = set(found.values())
            found[what] = given.strip() or next((name for name in known if name in there and name not in taken), "")
        for what in ("prompt", "answer"):
            if not found[what]:
                message = "no column looks like the {what}; there are: {columns}. Name it"
                raise UserError(message, field=f"{what}_column", what=what, columns=", ".join(sorted(there)) or "none")
        return found

    def _made(self, row: dict[str, Any] | str, columns: dict[str, str]) -> dict[str, Any]:
        """What is stored of a row. Raises BadRow with the reason."""
        if isinstance(row, str):
            raise BadRow(row)
        asked = row.get(columns["prompt"])
        prompt = convert("prompts", {"prompt": asked})["prompt"]
        answer = row.get(columns["answer"])
        if not isinstance(answer, str):
            raise BadRow(f"the answer is {type(answer).__name__}, not text" if answer is not None else "there is no answer")
        who = str(row.get(columns["source"]) or self.source.strip() or Path(self.file).stem)
        extra: dict[str, Any] = {}
        if tags := row.get("tags"):
            extra["tags"] = [str(tag) for tag in tags] if isinstance(tags, list) else [tag for tag in str(tags).split(",") if tag]
        if wanted := row.get(columns["reference"]):
            extra["accept"] = [str(one) for one in wanted] if isinstance(wanted, list) else [str(wanted)]
        if isinstance(row.get("tokens"), int):
            extra["tokens"] = row["tokens"]
        return {"prompt": prompt, "answer": answer, "source": who, "finish_reason": str(row.get("finish_reason") or ""), "extra": extra}

    def _report(self, work: "Work", rejected: list[tuple[int, str]], rows: int) -> None:
        for number, reason in rejected[:LISTED]:
            work.warn(f"line {number}: {reason}", line=number)
        if rejected and len(rejected) >= rows * self.max_rejected:
            message = "{bad} of {rows} rows cannot be used (line {line}: {reason}): mend the file, or allow more bad rows"
            number, reason = rejected[0]
            raise UserError(message, field="max_rejected", bad=len(rejected), rows=rows, line=number, reason=reason)


def _lines(path: Path) -> Iterator[Line]:
    """The rows of a file; of LLM Comparator's JSON one for each model."""
    lines = read(path)
    first = next(lines, None)
    if first is None:
        return
    held = first[1]
    if isinstance(held, dict) and isinstance(held.get("examples"), list) and isinstance(held.get("models"), list):
        names = [str(model.get("name", side)) for model, side in zip(held["models"], "ab", strict=False)]
        for number, one in enumerate(held["examples"], 1):
            for name, side in zip(names, "ab", strict=False):
                yield (
                    number,
                    {"prompt": one.get("input_text"), "answer": one.get(f"output_text_{side}"), "source": name, "tags": one.get("tags")},
                )
        return
    yield first
    yield from lines


def _names(head: list[Line]) -> set[str]:
    return {name for _, row in head if isinstance(row, dict) for name in row}
