"""Rows of a file with their line numbers; a line that cannot be read comes as the reason why."""

import csv
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import UserError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
Line = tuple[int, dict[str, Any] | str]  # line or row number from 1; a row, or why there is none


def read(path: Path) -> Iterator[Line]:
    """Every row of a file. Raises UserError for a kind of file that is not read here."""
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".txt": _txt}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        message = "{name} is a {suffix} file; these are read: {known}. Save it as one of them"
        raise UserError(message, field="source", name=path.name, suffix=path.suffix or "nameless", known=", ".join(SUFFIXES))
    return reader(path)


def first_rows(path: Path, count: int = 200) -> list[dict[str, Any]]:
    """The first readable rows, for a preview and for recognising the layout."""
    return [row for _, row in islice(read(path), count) if isinstance(row, dict)]


def _jsonl(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except ValueError as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"a JSON {type(row).__name__}, not an object"


def _json(path: Path) -> Iterator[Line]:
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError("{name} is not JSON: {why}", field="source", name=path.name, why=error) from None
    if isinstance(held, dict):  # {"data": [...]} and the like: the one list of objects in it
        lists = [value for value in held.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        held = lists[0] if len(lists) == 1 and "messages" not in held else [held]
    for number, row in enumerate(held, 1):
        yield number, row if isinstance(row, dict) else f"a JSON {type(row).__name__}, not an object"


def _csv(path: Path) -> Iterator[Line]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = next(rows, [])
        for cells in rows:
            if not cells:
                continue
            if len(cells) != len(header):
                yield rows.line_num, f"{len(cells)} fields where the header has {len(header)}"
            elif any("\udc80" <= c <= "\udcff" for cell in cells for c in cell):
                yield rows.line_num, "not UTF-8 text"
            else:
                yield rows.line_num, {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}


def _cell(text: str) -> Any:
    """A CSV cell: lists of messages are written as JSON, labels as true and false; an empty one is missing."""
    if text[:1] in "[{" and text:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return {"true": True, "false": False, "": None}.get(text.lower(), text)


def _parquet(path: Path) -> Iterator[Line]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except ArrowInvalid as error:
        raise UserError("{name} is not a Parquet file: {why}", field="source", name=path.name, why=error) from None
    number = 0
    for batch in file.iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _txt(path: Path) -> Iterator[Line]:
    """Paragraphs: stretches of lines between blank ones, each a row of text."""
    paragraph: list[str] = []
    began = 1
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate([*file, ""], 1):
            if line.strip():
                began = began if paragraph else number
                paragraph.append(line)
            elif paragraph:
                text = "".join(paragraph).strip()
                yield began, "not UTF-8 text" if any("\udc80" <= c <= "\udcff" for c in text) else {"text": text}
                paragraph = []
