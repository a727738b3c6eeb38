"""Rows of a file with their line numbers, read as they are asked for; a line that cannot be read comes as the reason why."""

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.work import Work

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
Line = tuple[int, dict[str, Any] | str]  # line or row number from 1; a row, or why there is none
CHUNK = 1 << 20
LISTED = 20  # bad rows that are told one by one
BETWEEN = re.compile(r"[\s,]*")


def whole_path(typed: str) -> str:
    """A path as a person types it, made absolute: a run works in a folder of its own, so it must not depend on where we stand."""
    try:
        return str(Path(typed).expanduser().absolute())
    except RuntimeError:  # ~somebody who has no home here
        return str(Path(typed).absolute())


def readable(path: Path, field: str) -> Path:
    """The path of a file that can be read. Raises UserError beside this field."""
    try:
        path.stat()
    except (OSError, ValueError):  # ValueError: a name with a null byte
        raise UserError("there is no file {path}: check the path", field=field, path=str(path)[:200]) from None
    if path.is_dir():
        raise UserError("{path} is a folder: name one file in it", field=field, path=path)
    if not os.access(path, os.R_OK):
        raise UserError("{path} may not be read by this user: change its permissions", field=field, path=path)
    return path


def read(path: Path) -> Iterator[Line]:
    """Every row of a file. Raises UserError for a kind of file that is not read here."""
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".txt": _txt}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        message = "{name} is a {suffix} file; these are read: {known}. Save it as one of them"
        raise UserError(message, field="source", name=path.name, suffix=path.suffix or "nameless", known=", ".join(SUFFIXES))
    return reader(path)


def refuse_too_many(work: "Work", rejected: list[tuple[int, str]], rows: int, allowed: float) -> None:
    """Warn of rows that cannot be used, by line; raise UserError if they are more than this share of all, or all."""
    for number, reason in rejected[:LISTED]:
        work.warn(f"line {number}: {reason}", line=number)
    if rejected and (len(rejected) == rows or len(rejected) > rows * allowed):
        message = "{bad} of {rows} rows cannot be used (line {line}: {reason}): mend the file, or allow more bad rows"
        number, reason = rejected[0]
        raise UserError(message, field="max_rejected", bad=len(rejected), rows=rows, line=number, reason=reason)


def _jsonl(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        return _object(json.loads(line.decode("utf-8-sig")))
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"


def _object(held: Any) -> dict[str, Any] | str:
    return held if isinstance(held, dict) else f"a JSON {type(held).__name__}, not an object"


def _json(path: Path) -> Iterator[Line]:
    """The objects of a list; of {"data": [...]} and the like, of the one list in it; or, misnamed, JSON lines."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        start = file.read(CHUNK).lstrip()
        first, _, rest = start.partition("\n")
        if not start:
            return
        if start.startswith("{") and rest.lstrip().startswith("{") and isinstance(_parsed(first.encode(errors="replace")), dict):
            yield from _jsonl(path)
            return
        file.seek(0)
        number = 0
        try:
            for number, held in enumerate(_items(file) if start.startswith("[") else _whole(file), 1):
                yield number, _object(held)
        except (ValueError, RecursionError) as error:
            message = "{name} is not JSON after its row {number}: {why}"
            raise UserError(message, field="source", name=path.name, number=number, why=error) from None


def _items(file: TextIO) -> Iterator[Any]:
    """The items of a JSON list, one by one: a preview must not read a file of gigabytes."""
    decoder = json.JSONDecoder()
    text = file.read(CHUNK)
    place = text.index("[") + 1
    while True:
        place = BETWEEN.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] == "]":
            return
        try:
            item, place = decoder.raw_decode(text, place)
            yield item
        except ValueError as error:
            more = file.read(max(CHUNK, len(text) - place))  # the item may go on; doubling keeps a long one cheap
            if not more:
                raise ValueError(getattr(error, "msg", error)) from None
            text, place = text[place:] + more, 0


def _whole(file: TextIO) -> list[Any]:
    held = json.load(file)
    if not isinstance(held, dict):
        return [held]
    lists = [value for value in held.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return lists[0] if len(lists) == 1 and not {"messages", "conversations", "prompt"} & set(held) else [held]


def _csv(path: Path) -> Iterator[Line]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = next(rows, [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice or _is_broken(header):
            message = "{name} has a header that cannot be used: {why}. Give each column one name, in UTF-8"
            why = f"{', '.join(twice)} stands in it twice" if twice else "it is not UTF-8 text"
            raise UserError(message, field="source", name=path.name, why=why)
        began = rows.line_num + 1
        for cells in rows:
            number, began = began, rows.line_num + 1  # a row may have many lines: name its first
            if not cells:
                continue
            if len(cells) != len(header):
                yield number, f"{len(cells)} fields where the header has {len(header)}"
            elif _is_broken(cells):
                yield number, "not UTF-8 text"
            else:
                yield number, {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}


def _is_broken(texts: list[str]) -> bool:
    return any("\udc80" <= letter <= "\udcff" for text in texts for letter in text)


def _cell(text: str) -> Any:
    """A CSV cell: a list of messages is written as JSON, anything else is text; an empty one is missing."""
    if text.startswith("[") and text.endswith("]"):
        try:
            held = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if held and all(isinstance(turn, dict) and {"role", "from"} & set(turn) for turn in held):
            return held
    return text or None


def _parquet(path: Path) -> Iterator[Line]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        for batch in ParquetFile(path).iter_batches(batch_size=200):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (ArrowException, OSError) as error:
        message = "{name} cannot be read as Parquet after its row {number}: {why}"
        raise UserError(message, field="source", name=path.name, number=number, why=error) from None


def _txt(path: Path) -> Iterator[Line]:
    """Paragraphs: stretches of lines between blank ones, each a row of text."""
    paragraph: list[str] = []
    began = 1
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(chain(file, [""]), 1):
            if line.strip():
                began = began if paragraph else number
                paragraph.append(line)
            elif paragraph:
                text = "".join(paragraph).strip()
                yield began, "not UTF-8 text" if _is_broken([text]) else {"text": text}
                paragraph = []
