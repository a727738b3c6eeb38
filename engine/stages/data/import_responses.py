"""Answers from elsewhere, to be read, measured and compared like those given here: a prompt, an answer, and who answered.

The same prompt asked here and there joins by its key. LLM Comparator's JSON is read too: two models' answers in one file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from engine import responses
from engine.chat import Messages, count_tokens, prompt_key, split_thought
from engine.errors import UserError
from engine.stage import Input, Kind, Preview, PreviewRow, Stage
from engine.stages.data._formats import BadRow, convert
from engine.stages.data._read import SUFFIXES, Line, read, readable, refuse_too_many, whole_path

if TYPE_CHECKING:
    from engine.work import Work

# Names that a column may have, the likeliest first.
PROMPTS = ("prompt", "messages", "instruction", "question", "input", "input_text", "query")
ANSWERS = ("answer", "response", "output", "completion", "generation", "text")
SOURCES = ("source", "model", "model_name", "generator")
REFERENCES = ("reference", "accept", "expected", "target")
# How others say that an answer ended by itself, or was cut.
ENDS = dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence"), "stop") | {"max_tokens": "length", "max_output_tokens": "length"}
OF_MODEL = ("finish_reason", "tokens")  # what our own export to LLM Comparator says of each model
PREVIEWED, BATCH = 5, 500
HEAD = 200  # rows that say what the columns are
MOST = 50  # who answered, beyond which it is another column


class ImportResponses(Stage):
    """Bring in answers that other models or people gave elsewhere, to compare them with those given here."""

    outputs = {"responses": Kind.RESPONSES}
    heavy = False

    file: str = Field(
        title="File",
        description="JSONL, JSON, CSV or Parquet with a prompt and an answer in each row; or LLM Comparator's JSON.",
        json_schema_extra={"upload": [suffix for suffix in SUFFIXES if suffix != ".txt"]},
    )
    source: str = Field("", title="Who answered", description="Empty: a column such as source or model says it, or the file's name does.")
    prompt_column: str = Field("", title="Prompt column", description="Empty: recognised, such as prompt or question.")
    answer_column: str = Field("", title="Answer column", description="Empty: recognised, such as answer or response.")
    source_column: str = Field("", title="Source column", description="Which of several answered each row. Empty: recognised.")
    reference_column: str = Field("", title="Reference column", description="The right answers, for scoring. Empty: recognised.")
    max_rejected: float = Field(0.05, ge=0, le=1, title="Bad rows allowed", description="A larger share of bad rows refuses the import.")

    @field_validator("file")
    @classmethod
    def _path_is_whole(cls, file: str) -> str:
        return whole_path(file.strip()) if file.strip() else ""

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The file's name."""
        return Path(self.file).stem or "answers"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The file is there, can be read, and has a prompt and an answer."""
        if not self.file:
            raise UserError("there is no file yet: choose one, or type a path", field="file")
        self._columns(self._head())

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first answers as they will be stored."""
        try:
            head = self._head() if self.file else []
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
        for number, row in self._lines():
            try:
                made = self._made(row, columns)
            except BadRow as reason:
                rejected.append((number, str(reason)))
                continue
            key = prompt_key(made["prompt"])
            who = key, made["source"]
            answers.append(Answer(artifact=work.output_id("responses"), prompt_key=key, sample=seen[who], token_ids=[], **made))
            seen[who] += 1
        by = {source: [one for one in answers if one.source == source] for source in dict.fromkeys(one.source for one in answers)}
        refuse_too_many(work, rejected, len(rejected) + len(answers), self.max_rejected)
        if len(by) > MOST:
            message = "the column {column} names {count} who answered, such as {some}: name another column, or say who answered"
            some = ", ".join(list(by)[:3])
            raise UserError(message, field="source_column", column=columns["source"], count=len(by), some=some[:200])
        for start in range(len(asked), len(answers), BATCH):  # what a killed run had stored is the beginning of the same list
            work.responses(answers[start : start + BATCH])
            work.progress(min(start + BATCH, len(answers)), len(answers))
        responses.write(work.output("responses"), answers)
        lengths = {source: [n for one in some if (n := count_tokens([], one.extra)) is not None] for source, some in by.items()}
        middles = {source: median(known) for source, known in lengths.items() if known}
        prompts = len({one.prompt_key for one in answers})
        counted = {"prompts": prompts, "answers": len(answers), "rejected": len(rejected)}
        work.describe("responses", **counted, models=[], sources=list(by), median_tokens=middles)
        work.say(f"{len(answers):,} answers to {prompts:,} prompts by {', '.join(by)}; {len(rejected):,} bad rows left out")

    def _head(self) -> list[Line]:
        head = list(islice(self._lines(), HEAD))
        if not head:
            raise UserError("{path} has no rows: choose another file", field="file", path=self.file)
        if not _names(head):
            number, reason = head[0]
            message = "no row of {path} can be read (line {number}: {reason}): choose another file"
            raise UserError(message, field="file", path=self.file, number=number, reason=reason)
        return head

    def _lines(self) -> Iterator[Line]:
        try:
            yield from _rows(readable(Path(self.file), "file"))
        except UserError as refused:  # the reader does not know what the field is called here
            raise UserError(refused.message, field="file", **refused.values) from None

    def _columns(self, head: list[Line]) -> dict[str, str]:
        """Which column holds what; "" for what no column holds. Raises UserError."""
        there = _names(head)
        found = {}
        for what, given, known in (
            ("prompt", self.prompt_column, PROMPTS),
            ("answer", self.answer_column, ANSWERS),
            ("source", self.source_column, () if self.source.strip() else SOURCES),
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
        prompt = _asked(row, columns["prompt"])
        answer = row.get(columns["answer"])
        if answer is None and columns["answer"] in row and Path(self.file).suffix.lower() in (".csv", ".tsv"):
            answer = ""  # there, nothing is what an empty answer looks like
        if not isinstance(answer, str):
            raise BadRow(f"the answer is {type(answer).__name__}, not text" if answer is not None else "there is no answer")
        if _text(answer) != answer:
            raise BadRow("the answer is not UTF-8 text")
        thought, answer = split_thought(answer)
        named, wanted = (row.get(columns[what]) if columns[what] else None for what in ("source", "reference"))
        who = _text(named or self.source.strip() or Path(self.file).stem)
        ended = _text(row.get("finish_reason") or "").lower()
        tags, tokens = row.get("tags"), str(row.get("tokens") or "")
        extra = {
            "thought": thought,
            "tags": _texts(tags.split(",") if isinstance(tags, str) else tags),
            "accept": _texts(wanted),
            "tokens": int(tokens) if tokens.isdecimal() and len(tokens) < 10 else None,
        }
        known = {name: value for name, value in extra.items() if value}
        return {"prompt": prompt, "answer": answer, "source": who, "finish_reason": ENDS.get(ended, ended), "extra": known}


def _asked(row: dict[str, Any], column: str) -> Messages:
    """A row's prompt, as the same row would be asked if it came by import_dataset. Raises BadRow."""
    if column == "instruction":
        return list(convert("alpaca", row | {"output": "-"})["messages"][:-1])
    return list(convert("prompts", {"prompt": row.get(column)})["prompt"])


def _text(value: object) -> str:
    """Its text, without half surrogate pairs, which no database holds."""
    return str(value).encode(errors="replace").decode()


def _texts(value: object) -> list[str]:
    """One value or a list of them as texts, without what is empty."""
    return [told for one in (value if isinstance(value, list) else [value]) if one is not None and (told := _text(one).strip())]


def _rows(path: Path) -> Iterator[Line]:
    """The rows of a file; of LLM Comparator's JSON one for each model."""
    lines = read(path)
    first = next(lines, None)
    if first is None:
        return
    held = first[1]
    if isinstance(held, dict) and isinstance(held.get("examples"), list) and isinstance(held.get("models"), list):
        for number, one in enumerate(held["examples"], 1):
            for place, model in enumerate(held["models"][:2]):
                yield number, _one_side(one, model, place)
        return
    yield first
    yield from lines


def _one_side(example: Any, model: Any, place: int) -> dict[str, Any] | str:
    """One model's answer in an example of LLM Comparator; what our own export says besides comes back too."""
    if not isinstance(example, dict):
        return f"the example is a {type(example).__name__}, not an object"
    side, fields = "ab"[place], example.get("custom_fields")
    fields = fields if isinstance(fields, dict) else {}
    name, wanted = model.get("name") if isinstance(model, dict) else None, fields.get("expected")
    ended, tokens = (values[place] if isinstance(values := fields.get(of), list) and len(values) == 2 else None for of in OF_MODEL)
    return {
        "prompt": example.get("input_text"),
        "answer": example.get(f"output_text_{side}"),
        "source": name or side.upper(),
        "tags": example.get("tags"),
        "accept": wanted.split(" | ") if isinstance(wanted, str) else None,
        "finish_reason": ended,
        "tokens": tokens,
    }


def _names(head: list[Line]) -> set[str]:
    return {name for _, row in head if isinstance(row, dict) for name in row}
