"""Curating a dataset: what people change about its rows, laid over what lies in its folder. The dataset itself stays.

A row's key is a hash of its split and content, so it holds on every machine; exact duplicates get a number each.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import UserError
from engine.stages.data._formats import LAYOUTS, BadRow, convert

Row = dict[str, Any]
SPLITS = ("train", "heldout")
REASONS = ("wrong", "off topic", "low quality", "near-duplicate", "unsafe", "private data")
MOST_TAGS, TAG_LENGTH, REASON_LENGTH = 20, 40, 200


@dataclass(frozen=True)
class Change:
    """What people last said of a row: all its tags, why it is left out, and what it says now where it was rewritten."""

    tags: tuple[str, ...] = ()
    excluded: str | None = None
    row: Row | None = None


@dataclass(frozen=True)
class Line:
    """One row of a dataset with what was changed about it."""

    key: str
    split: str
    was: Row
    change: Change | None = None

    @property
    def row(self) -> Row:
        """What it says now."""
        return self.change.row if self.change and self.change.row is not None else self.was

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags now: those people gave it, else those it came with."""
        return self.change.tags if self.change else tags_of(self.was)

    @property
    def excluded(self) -> str | None:
        """Why it is left out, if it is."""
        return self.change.excluded if self.change else None

    @property
    def edited(self) -> bool:
        """Whether it was rewritten."""
        return bool(self.change and self.change.row is not None)

    @property
    def tagged(self) -> bool:
        """Whether its tags are others than it came with."""
        return self.tags != tags_of(self.was)

    def result(self) -> Row:
        """The row as the new dataset holds it."""
        if not self.tagged:
            return self.row
        rest = {name: value for name, value in self.row.items() if name != "tags"}
        return rest | ({"tags": list(self.tags)} if self.tags else {})


def row_keys(split: str, rows: Iterable[Row]) -> list[str]:
    """A key for each row of a split, stable while its content is; the second of two equal rows ends in "-2"."""
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        digest = hashlib.sha256(json.dumps([split, row], sort_keys=True).encode()).hexdigest()[:20]
        seen[digest] += 1
        keys.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return keys


def laid(rows: Mapping[str, Sequence[Row]], changes: Mapping[str, Change]) -> list[Line]:
    """The rows of a dataset by split, with what was changed about each, held-out ones last."""
    splits = [(split, list(rows.get(split, ()))) for split in SPLITS]
    return changed([Line(key, split, row) for split, some in splits for key, row in zip(row_keys(split, some), some, strict=True)], changes)


def changed(lines: Iterable[Line], changes: Mapping[str, Change]) -> list[Line]:
    """The lines with these changes, and none but these."""
    return [replace(line, change=changes.get(line.key)) if line.change or line.key in changes else line for line in lines]


def tags_of(row: Row) -> tuple[str, ...]:
    """The tags a row came with."""
    told = row.get("tags")
    told = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    return tuple(dict.fromkeys(tag for tag in told if isinstance(tag, str) and tag.strip()))


# what a row says, text by text


@dataclass(frozen=True)
class Text:
    """One text of a row: where it stands ("messages.1"), whose it is ("assistant"), and what it says."""

    place: str
    label: str
    content: str


def texts(row: Row) -> list[Text]:
    """Every text of a row that can be rewritten: each message, each column that is a text, each text of one that is a list."""
    found = []
    for name, value in row.items():
        if isinstance(value, str) and name != "tags":
            found.append(Text(name, name, value))
        elif isinstance(value, bool) and name == "label" and "completion" in row:
            found.append(Text(name, name, str(value).lower()))
        elif isinstance(value, list):
            for number, turn in enumerate(value):
                if isinstance(turn, str) and name != "tags":
                    found.append(Text(f"{name}.{number}", f"{name} {number + 1}", turn))
                elif isinstance(turn, dict) and isinstance(turn.get("content"), str):
                    role = str(turn.get("role", ""))
                    found.append(Text(f"{name}.{number}", role if name == "messages" else f"{name}: {role}", turn["content"]))
    return found


def rewritten(format: str, row: Row, typed: Mapping[str, str]) -> Row:
    """The row with these texts, by place. Raises UserError as an import would, for a row that cannot be used."""
    new, known = deepcopy(row), {text.place: text.content for text in texts(row)}
    if unknown := sorted(set(typed) - set(known)):
        raise UserError("this row has no text {place}: reload the page", field="row", place=repr(unknown[0])[:60])
    for place, content in typed.items():
        if content == "\n".join(known[place].splitlines()):  # a browser's text field knows one line end only
            continue
        name, _, number = place.rpartition(".") if place not in row else (place, "", "")
        if not number:
            new[name] = content
        elif isinstance(new[name][int(number)], str):
            new[name][int(number)] = content
        else:
            new[name][int(number)]["content"] = content
    return valid(format, new)


def valid(format: str, row: Row) -> Row:
    """A row in its format's layout. Raises UserError with the reason an import would give."""
    if format not in LAYOUTS:
        raise UserError("rows of the format {format} cannot be rewritten here: exclude the row instead", field="row", format=format)
    try:
        return convert(format, row)
    except BadRow as reason:
        raise UserError("{reason}: mend it, or exclude the row", field="row", reason=str(reason)) from None


# what was said of a row


def tag(tags: Sequence[str], added: str) -> tuple[str, ...]:
    """The tags with one more. Raises UserError for one that cannot be a tag."""
    name = " ".join(added.split())
    if not name or len(name) > TAG_LENGTH or "," in name or ";" in name or not name.isprintable():
        message = "{tag} cannot be a tag: type 1 to {most} letters without a comma"
        raise UserError(message, field="tag", tag=repr(added)[:60], most=TAG_LENGTH)
    if len({*tags, name}) > MOST_TAGS:
        raise UserError("a row can have {most} tags: take one away first", field="tag", most=MOST_TAGS)
    return tuple(dict.fromkeys([*tags, name]))


def reason(told: str) -> str:
    """Why a row is left out. Raises UserError for none, and for one too long to be read in a list."""
    text = " ".join(told.split())
    if not text or len(text) > REASON_LENGTH or not text.isprintable():
        raise UserError("say why in 1 to {most} letters: it stands in the new dataset's note", field="reason", most=REASON_LENGTH)
    return text


# what comes of it


def described(lines: Iterable[Line], left_out: Mapping[str, str] | None = None) -> str:
    """What was changed, as a sentence without its stop; `left_out` says of more rows, by key, why they are not kept."""
    lines = list(lines)
    why = {line.key: line.excluded for line in lines if line.excluded is not None} | dict(left_out or {})
    kept = [line for line in lines if line.key not in why]
    reasons = Counter(why[line.key] for line in lines if line.key in why)
    told = [f"{count:,} {name}" for name, count in sorted(reasons.items(), key=lambda item: (-item[1], str(item[0])))]
    counts = [
        (f"{_rows(len(why))} excluded ({', '.join(told)})", len(why)),
        (f"{sum(line.edited for line in kept):,} edited", sum(line.edited for line in kept)),
        (f"{sum(line.tagged for line in kept):,} tagged", sum(line.tagged for line in kept)),
    ]
    return ", ".join(text for text, count in counts if count) or "nothing changed"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


@dataclass(frozen=True)
class Search:
    """Which rows are shown, and in which order. Empty fields ask for nothing."""

    words: str = ""
    tag: str = ""
    state: str = ""  # kept, excluded, edited, tagged, heldout
    by_loss: bool = False


def found(lines: Iterable[Line], search: Search, losses: Mapping[str, float]) -> list[Line]:
    """The lines that fit, as they lie in the dataset or with the highest loss first; those without a loss come last."""
    words = search.words.casefold().split()
    fitting = [line for line in lines if _is(line, search.state) and (not search.tag or search.tag in line.tags) and _says(line, words)]
    if search.by_loss:
        fitting.sort(key=lambda line: -losses.get(line.key, float("-inf")))
    return fitting


def _is(line: Line, state: str) -> bool:
    told = {"kept": line.excluded is None, "excluded": line.excluded is not None, "heldout": line.split == "heldout"}
    return told.get(state, getattr(line, state, False) if state in ("edited", "tagged") else True)


def _says(line: Line, words: Sequence[str]) -> bool:
    if not words:
        return True
    text = "\n".join(one.content for one in texts(line.row)).casefold()
    return all(word in text for word in words)
