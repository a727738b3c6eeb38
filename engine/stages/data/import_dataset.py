"""Bring rows in from a file or the hub, each checked, none silently dropped.

What TRL, Alpaca and ShareGPT call a row is recognised by its columns; anything else is mapped in the form. Rows that
cannot be used are listed with line and reason, and too many of them refuse the import. Duplicates are counted and left
out. The held-out share is drawn by a seeded hash of the prompt, so all rows of one prompt lie on one side, and stay
there when the dataset grows.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from engine.chat import Chat, prompt_key
from engine.errors import UserError
from engine.hub import require_hub
from engine.stage import Group, Input, Kind, Model, Preview, PreviewRow, Stage
from engine.stages.data._formats import LAYOUTS, BadRow, Row, convert, layout_format, recognise
from engine.stages.data._read import SUFFIXES, Line, first_rows, read

if TYPE_CHECKING:
    from engine.work import Work

PREVIEWED, LISTED = 5, 20


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

    def wanted(self) -> dict[str, str]:
        """The column to read each field from, where the person named one."""
        names = ("prompt", "completion", "messages", "chosen", "rejected", "label", "text")
        return {name: column for name in names if (column := getattr(self, name).strip())}


class ImportDataset(Stage):
    """Bring in conversations, preference pairs, prompts or text from a file or the hub."""

    outputs = {"dataset": Kind.DATASET}
    heavy = False
    online = True

    source: str = Field(
        title="File or hub id",
        description="A JSONL, JSON, CSV, Parquet or text file, or a hub id such as org/name.",
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
        """The run works in a folder of its own, so a path must not depend on where we stand."""
        source = source.strip()
        return source if not source or _is_hub_id(source) else str(Path(source).expanduser().absolute())

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The file's name."""
        return Path(self.source).stem or "dataset"

    def check(self, inputs: Mapping[int, Input]) -> None:
        """The file is there, can be read and says what its rows are."""
        if not self.source:
            raise UserError("there is no file yet: choose one, or type a path or a hub id", field="source")
        path = self._path()
        if path is None:
            return
        if not path.exists():
            raise UserError("there is no file {path}: check the path", field="source", path=path)
        if path.is_dir():
            raise UserError("{path} is a folder: name one file in it", field="source", path=path)
        try:
            rows = first_rows(path)
        except PermissionError:
            raise UserError("{path} may not be read by this user: change its permissions", field="source", path=path) from None
        if rows:
            self._layout(set().union(*rows))

    def preview(self, inputs: Mapping[int, Input]) -> Preview | None:
        """The first rows, rendered by the chosen model if there is one."""
        path = self._path()
        if path is None or not path.is_file():
            return None
        rows = first_rows(path)
        columns = tuple(sorted(set().union(*rows))) if rows else ()
        try:
            layout = self._layout(set(columns))
        except UserError as error:
            return Preview(str(error), columns=columns)
        chat = Chat.open(inputs[self.preview_with].folder) if self.preview_with else None
        shown = tuple(_shown(self._renamed(row), layout, chat) for row in rows[:PREVIEWED])
        return Preview(f"{path.name}: read as {layout}, stored as {layout_format(layout)}", shown, columns=columns)

    def run(self, work: "Work") -> None:
        """Read, check, deduplicate, split, write."""
        lines, where = self._lines(work)
        layout = ""
        kept: dict[str, Row] = {}
        rejected: list[dict[str, Any]] = []
        read_rows = duplicates = 0
        columns: set[str] = set()
        for number, row in lines:
            read_rows += 1
            if isinstance(row, dict):
                columns |= set(row)
                layout = layout or self._layout(set(row))
                try:
                    good = convert(layout, self._renamed(row))
                except BadRow as reason:
                    rejected.append({"line": number, "reason": str(reason), "row": row})
                    continue
                identity = _identity(good)
                duplicates += identity in kept
                kept.setdefault(identity, good)
            else:
                rejected.append({"line": number, "reason": row, "row": None})
            if read_rows % 5000 == 0:
                work.say(f"{read_rows:,} rows read")
        self._report_rejected(work, rejected, read_rows)
        if not kept:
            raise UserError("{where} has no rows: choose another file", field="source", where=where)
        self._write(work, list(kept.values()), layout, columns, where, rejected, duplicates)

    def _write(
        self, work: "Work", rows: list[Row], layout: str, columns: set[str], where: str, rejected: list[dict[str, Any]], duplicates: int
    ) -> None:
        apart = [_is_heldout(_prompt_of(row), self.heldout, self.seed) for row in rows]
        if all(apart):
            raise UserError("all {n} rows fell into the held-out share: lower it", field="heldout", n=len(rows))
        folder = work.output("dataset")
        write_rows(folder / "train.jsonl", [row for row, out in zip(rows, apart, strict=True) if not out])
        write_rows(folder / "heldout.jsonl", [row for row, out in zip(rows, apart, strict=True) if out])
        if rejected:
            write_rows(folder / "rejected.jsonl", rejected)
        told = {
            "format": layout_format(layout), "recognised_as": layout, "rows": len(rows) - sum(apart), "heldout": sum(apart),
            "rejected": len(rejected), "duplicates": duplicates, "columns": sorted(columns), "source": where, "seed": self.seed,
        }  # fmt: skip
        (folder / "card.json").write_text(json.dumps(told, indent=1, ensure_ascii=False))
        work.describe("dataset", **told)
        work.say(
            f"{told['rows']:,} rows and {told['heldout']:,} held out, read as {layout}; "
            f"{duplicates:,} duplicates and {len(rejected):,} bad rows left out"
        )

    def _report_rejected(self, work: "Work", rejected: list[dict[str, Any]], rows: int) -> None:
        for bad in rejected[:LISTED]:
            work.warn(f"line {bad['line']}: {bad['reason']}", line=bad["line"])
        if len(rejected) > LISTED:
            work.warn(f"and {len(rejected) - LISTED:,} more bad rows: see rejected.jsonl in the dataset's folder")
        if len(rejected) > self.max_rejected * rows:
            raise UserError(
                "{bad} of {rows} rows cannot be used, more than {share}: {reasons}. Mend them, map the columns, or allow more",
                field="max_rejected", bad=len(rejected), rows=rows, share=f"{self.max_rejected:.0%}",
                reasons="; ".join(f"line {bad['line']}: {bad['reason']}" for bad in rejected[:3]),
            )  # fmt: skip

    def _lines(self, work: "Work") -> tuple[Iterator[Line], str]:
        path = self._path()
        if path is not None:
            work.say(f"reading {path}")
            return read(path), f"{path.name} (sha256 {_sha256(path)[:16]})"
        require_hub()
        from datasets import load_dataset

        work.say(f"asking the hub for {self.source}")
        rows = load_dataset(self.source, split=self.split)
        return ((number, dict(row)) for number, row in enumerate(rows, 1)), f"{self.source} ({self.split}) from the hub"

    def _path(self) -> Path | None:
        """The file meant, or None if it is a hub id."""
        return None if _is_hub_id(self.source) else Path(self.source)

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
    """One slash, no extension that is read here, and no such file."""
    path = Path(source)
    return source.count("/") == 1 and source[0] not in "/.~" and path.suffix.lower() not in SUFFIXES and not path.exists()


def write_rows(path: Path, rows: list[Row]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _shown(row: Row, layout: str, chat: Chat | None) -> PreviewRow:
    try:
        good = convert(layout, row)
    except BadRow as reason:
        return PreviewRow((), problem=str(reason))
    turns = good.get("messages") or [*good.get("prompt", []), *good.get("chosen", []), *good.get("completion", [])]
    if not turns:
        encoded = chat.encode_text(good["text"]) if chat else None
        return PreviewRow(encoded.pieces(), len(encoded.ids)) if encoded else PreviewRow(((good["text"], True),))
    if chat is None:
        return PreviewRow(tuple((f"{turn['role']}: {turn['content']}\n", turn["role"] == "assistant") for turn in turns))
    if "prompt" in good and len(turns) == len(good["prompt"]):
        return PreviewRow(((chat.render(turns, ask=True), False),), len(chat.prompt_ids(turns)))
    encoded = chat.encode(turns)
    return PreviewRow(encoded.pieces(), len(encoded.ids))


def _prompt_of(row: Row) -> str:
    """What the split goes by: the messages before the first answer, or the text."""
    if "messages" in row:
        first = next((i for i, turn in enumerate(row["messages"]) if turn["role"] == "assistant"), len(row["messages"]))
        return prompt_key(row["messages"][:first])
    return prompt_key(row["prompt"]) if "prompt" in row else str(row["text"])


def _identity(row: Row) -> str:
    fields = ("messages", "prompt", "chosen", "rejected", "completion", "label", "text")
    return hashlib.sha256(json.dumps([row.get(name) for name in fields], sort_keys=True).encode()).hexdigest()


def _is_heldout(prompt: str, share: float, seed: int) -> bool:
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
