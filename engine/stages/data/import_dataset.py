"""Bring rows in from a file or the hub, each checked, none silently dropped.

What TRL, Alpaca and ShareGPT call a row is recognised by its columns; anything else is mapped in the form. Rows that
cannot be used are listed with line and reason, and too many of them refuse the import. Duplicates are counted and left
out. The held-out share is drawn by a seeded hash of the prompt, so all rows of one prompt lie on one side, and stay
there when the dataset grows.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from engine.chat import Chat
from engine.errors import UserError
from engine.hub import require_hub
from engine.stage import Group, Input, Kind, Model, Preview, PreviewRow, Stage
from engine.stages.data._formats import LAYOUTS, BadRow, Row, convert, identity, layout_format, prompt_of, recognise
from engine.stages.data._read import SUFFIXES, Line, read, readable, whole_path

if TYPE_CHECKING:
    from engine.work import Work

PREVIEWED, LISTED = 5, 20
HEAD = 200  # rows that say what the columns are


class Columns(Group):
    """Which column holds what, for layouts that are not recognised. Empty: recognised by the columns' names."""

    layout: Literal["recognise", "prompt/completion", "messages", "preference", "unpaired", "prompts", "text"] = Field(
        "recognise", title="Layout", description="What a row is, if its columns do not tell."
    )
    prompt: str = Field("", title="Prompt column", description="What the user says.")
    completion: str = Field("", title="Answer column", description="What the assistant says.")
    messages: str = Field("", title="Messages column", description="A list of messages with role and content.")
    chosen: str = Field("", title="Chosen column", description="The better answer of a pair.")
    rejected: str = Field("", title="Rejected column", description="The worse answer of a pair.")
    label: str = Field("", title="Label column", description="True for a good answer, false for a bad one.")
    text: str = Field("", title="Text column", description="Plain text to continue.")
    answer: str = Field("", title="Reference column", description="The right answer to a prompt, for scoring; never trained on.")

    def wanted(self) -> dict[str, str]:
        """The column to read each field from, where the person named one."""
        names = ("prompt", "completion", "messages", "chosen", "rejected", "label", "text", "answer")
        return {name: column for name in names if (column := getattr(self, name).strip())}


class ImportDataset(Stage):
    """Bring in conversations, preference pairs, prompts or text from a file or the hub."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False
    online = True

    source: str = Field(
        title="File or hub id",
        description="A JSONL, JSON, CSV, Parquet or text file (each paragraph a row), or a hub id such as org/name.",
        json_schema_extra={"upload": list(SUFFIXES)},
    )
    split: str = Field("train", title="Hub split", description="Which split of a hub dataset.")
    columns: Columns = Columns()
    heldout: float = Field(0.1, ge=0, le=0.9, title="Held-out share", description="Kept away from training, to measure on. By prompt.")
    max_rejected: float = Field(0.05, ge=0, le=1, title="Bad rows allowed", description="A larger share of bad rows refuses the import.")
    preview_with: Model | None = Field(None, title="Preview with", description="Shows the rows as this model will read them.")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Draws the held-out prompts.")

    @field_validator("source")
    @classmethod
    def _path_is_whole(cls, source: str) -> str:
        source = source.strip()
        return source if not source or _is_hub_id(source) else whole_path(source)

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The file's name."""
        return Path(self.source).stem or "dataset"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The file is there, can be read and says what its rows are."""
        if not self.source:
            raise UserError("there is no file yet: choose one, or type a path or a hub id", field="source")
        path = self._file()
        if path is None:
            return
        head = list(islice(read(path), HEAD))
        if not head:
            raise UserError("{path} has no rows: choose another file", field="source", path=path)
        if columns := _columns(head):
            self._layout(columns)

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first rows, rendered by the chosen model if there is one."""
        try:
            path = self._file() if self.source else None
            head = list(islice(read(path), HEAD)) if path else []
        except UserError:  # `check` says it, beside the field
            return None
        if path is None or not head:
            return None
        columns = _columns(head)
        try:
            layout = self._layout(columns)
        except UserError as error:
            return Preview(str(error), columns=tuple(sorted(columns)))
        chat = Chat.open(inputs[self.preview_with].folder) if self.preview_with else None
        shown = tuple(_shown(row if isinstance(row, str) else self._renamed(row), number, layout, chat) for number, row in head[:PREVIEWED])
        paragraphs = ("Each paragraph of the file is a row: blank lines stand between them.",) if path.suffix.lower() == ".txt" else ()
        title = f"{path.name}: read as {layout}, stored as {layout_format(layout)}"
        return Preview(title, shown, notes=paragraphs, columns=tuple(sorted(columns)))

    def run(self, work: "Work") -> None:
        """Read, check, deduplicate, split, write."""
        lines, source = self._lines(work)
        head = list(islice(lines, HEAD))
        columns = _columns(head)
        layout = self._layout(columns) if columns else ""
        kept: dict[str, Row] = {}
        rejected: list[dict[str, Any]] = []
        count = duplicates = 0
        for count, (number, row) in enumerate(chain(head, lines), 1):
            if count % 5000 == 0:
                work.say(f"{count:,} rows read")
            if isinstance(row, str):
                rejected.append({"line": number, "reason": row, "row": None})
                continue
            columns |= set(row)
            layout = layout or self._layout(columns)
            try:
                good = convert(layout, self._renamed(row))
            except BadRow as reason:
                rejected.append({"line": number, "reason": str(reason), "row": row})
                continue
            same = identity(layout, good)
            duplicates += same in kept
            kept.setdefault(same, good)
        if not count:
            raise UserError("{source} has no rows: choose another file", field="source", source=source["source"])
        self._report_rejected(work, rejected, count)
        told = source | {"columns": sorted(columns), "recognised_as": layout, "rejected": len(rejected), "duplicates": duplicates}
        self._write(work, list(kept.values()), rejected, told)

    def _write(self, work: "Work", rows: list[Row], rejected: list[dict[str, Any]], told: dict[str, Any]) -> None:
        apart = [is_heldout(prompt_of(row), self.heldout, self.seed) for row in rows]
        if all(apart):
            raise UserError("all {n} rows fell into the held-out share: lower it", field="heldout", n=len(rows))
        folder = work.output("dataset")
        write_rows(folder / "train.jsonl", [row for row, out in zip(rows, apart, strict=True) if not out])
        write_rows(folder / "heldout.jsonl", [row for row, out in zip(rows, apart, strict=True) if out])
        if rejected:
            write_rows(folder / "rejected.jsonl", rejected)
        train, held = len(rows) - sum(apart), sum(apart)
        layout = told["recognised_as"]
        told = {"format": layout_format(layout), "rows": train, "heldout": held, "heldout_share": self.heldout, "seed": self.seed} | told
        (folder / "card.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
        work.describe("dataset", **told)
        left_out = f"{told['duplicates']:,} duplicates and {len(rejected):,} bad rows left out"
        work.say(f"{train:,} rows and {held:,} held out, read as {layout}; {left_out}")
        if self.heldout and not held:
            work.warn("no prompt fell into the held-out share: with so few rows, try another seed or a larger share")

    def _report_rejected(self, work: "Work", rejected: list[dict[str, Any]], rows: int) -> None:
        for bad in rejected[:LISTED]:
            work.warn(f"line {bad['line']}: {bad['reason']}", line=bad["line"])
        if len(rejected) > LISTED:
            work.warn(f"and {len(rejected) - LISTED:,} more bad rows: see rejected.jsonl in the dataset's folder")
        if len(rejected) == rows or len(rejected) > self.max_rejected * rows:
            raise UserError(
                "{bad} of {rows} rows cannot be used, and {share} may be bad: {reasons}. Mend them, map the columns, or allow more",
                field="max_rejected", bad=len(rejected), rows=rows, share=f"{self.max_rejected:.0%}",
                reasons="; ".join(f"line {bad['line']}: {bad['reason']}" for bad in rejected[:3]),
            )  # fmt: skip

    def _lines(self, work: "Work") -> tuple[Iterator[Line], dict[str, Any]]:
        """The rows, and what the card says about where they came from."""
        path = self._file()
        if path is not None:
            work.say(f"reading {path}")
            return read(path), {"source": path.name, "sha256": _sha256(path)}
        require_hub()
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        work.say(f"asking the hub for {self.source}")
        try:
            rows = load_dataset(self.source, split=self.split)
        except (DatasetsError, FileNotFoundError, ConnectionError, ValueError) as error:  # no such data set or split; or gated
            why, message = " ".join(str(error).split())[:300], "the hub does not give {source}, split {split}: {why}"
            raise UserError(message, field="source", source=self.source, split=self.split, why=why) from None
        return ((number, dict(row)) for number, row in enumerate(rows, 1)), {"source": self.source, "split": self.split}

    def _file(self) -> Path | None:
        """The file meant, or None if it is a hub id. Raises UserError if it is not there or cannot be read."""
        return None if _is_hub_id(self.source) else readable(Path(self.source), "source")

    def _layout(self, columns: set[str]) -> str:
        wanted = self.columns.wanted()
        unknown = sorted(set(wanted.values()) - columns)
        if unknown:
            raise UserError(
                "there is no column {unknown}; the columns are {columns}",
                field="columns", unknown=", ".join(unknown), columns=", ".join(sorted(columns)),
            )  # fmt: skip
        present = (columns - set(wanted.values())) | set(wanted)
        chosen = None if self.columns.layout == "recognise" else self.columns.layout
        if chosen == "preference" and "prompt" not in present:
            chosen = "preference (implicit prompt)"
        layout = chosen or recognise(present)
        if layout is None or LAYOUTS[layout][0] - present:
            missing = f"{layout} needs {', '.join(sorted(LAYOUTS[layout][0] - present))}" if layout else "no known layout has them"
            raise UserError(
                "the columns are {columns}, and {missing}: say under Columns which one holds what",
                field="columns.layout", columns=", ".join(sorted(columns)) or "none", missing=missing,
            )  # fmt: skip
        return layout

    def _renamed(self, row: Row) -> Row:
        wanted = self.columns.wanted()
        return {name: value for name, value in row.items() if name not in wanted.values()} | {n: row.get(c) for n, c in wanted.items()}


def _is_hub_id(source: str) -> bool:
    """org/name, unless there is such a file or it ends like one: in .csv, not in .5 as names with a version do."""
    named = re.fullmatch(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", source) and not re.fullmatch(r"\.[A-Za-z]\w{1,6}", Path(source).suffix)
    return bool(named) and not Path(source).exists()


def _columns(head: list[Line]) -> set[str]:
    return set().union(*(row for _, row in head if isinstance(row, dict)))


def write_rows(path: Path, rows: list[Row]) -> None:
    """One JSON object a line; half a surrogate pair, which UTF-8 cannot hold, as JSON's own escape."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def write_parquet(path: Path, rows: list[Row]) -> None:
    """The same as a Parquet file; what a row does not say is null."""
    from pyarrow import Table
    from pyarrow.parquet import write_table

    columns = dict.fromkeys(name for row in rows for name in row)
    write_table(Table.from_pylist([{name: row.get(name) for name in columns} for row in rows]), path)


def _shown(row: Row | str, number: int, layout: str, chat: Chat | None) -> PreviewRow:
    try:
        if isinstance(row, str):
            raise BadRow(row)
        good = convert(layout, row)
        return _as_read(good, layout_format(layout), chat) if chat else _as_told(good, layout_format(layout))
    except (BadRow, UserError) as reason:
        return PreviewRow((), problem=f"line {number}: {reason}")


def _as_told(row: Row, format: str) -> PreviewRow:
    """Roles and text, where there is no model to say how it reads them."""
    if format == "text":
        return PreviewRow(((row["text"], True),))
    pieces = [(f"{turn['role']}: {turn['content']}\n", turn["role"] == "assistant") for turn in _said(row, format)]
    worse = row["rejected"] if format == "preference" else []
    return PreviewRow((*pieces, *((f"rejected: {turn['content']}\n", False) for turn in worse)))


def _as_read(row: Row, format: str, chat: Chat) -> PreviewRow:
    """The tokens this model reads, and which of them it would learn from."""
    if format == "prompts":
        return PreviewRow(((chat.render(row["prompt"], ask=True), False),), len(chat.prompt_ids(row["prompt"])))
    encoded = chat.encode_text(row["text"]) if format == "text" else chat.encode(_said(row, format))
    return PreviewRow(encoded.pieces(), len(encoded.ids))


def _said(row: Row, format: str) -> list[Row]:
    """A row as one conversation; of several answers, the best one."""
    if format == "tiers":
        return [*row["prompt"], {"role": "assistant", "content": row["responses"][row["tiers"][0][0]]}]
    names = {"messages": ("messages",), "prompts": ("prompt",), "preference": ("prompt", "chosen"), "unpaired": ("prompt", "completion")}
    return [turn for name in names[format] for turn in row[name]]


def is_heldout(prompt: str, share: float, seed: int) -> bool:
    """Whether a prompt is held out, drawn by its hash: the same in every dataset of one share and seed."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
