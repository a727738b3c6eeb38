"""How a dataset looks while it is curated: what was changed so far, the ways to look through it, and row after row."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from app.pages.run_view import marked
from app.view import Node, empty, h, link, problem
from app.wording import say
from engine.curating import Curated, Losses
from engine.curation import REASONS, Line, described, texts
from engine.differences import alike
from engine.stages.measure.row_losses import MEASURED

STATES = {"": "all", "kept": "kept", "excluded": "excluded", "edited": "edited", "tagged": "tagged", "heldout": "held out"}
TAGS, SIDES = 12, 12  # tags to choose from, and rows of one group, shown at most
LONG = 1500  # letters from which on a text scrolls in its place


def page(told: Curated, known: dict[str, Any], measured: Sequence[Losses], losses: Losses | None, size: int) -> list[Node]:
    """The whole page."""
    lines, (key, text) = {line.key: line for line in told.lines}, known["refused"]
    numbers = {line.key: place + 1 for place, line in enumerate(told.lines)}
    shown = [[lines[one] for one in group if one in lines] for group in known["ids"]]
    beside = any(key == line.key for group in shown for line in group)
    problems = h("div", problem(text) if text and not beside else None)
    head = [*_head(told), problems, *_controls(told, known, measured)]
    if not shown:
        hint = say("No rows are nearly alike.") if known["state"] == "alike" else say("No row fits.")
        return [*head, empty(hint, link(say("All rows"), f"/curate?dataset={known['dataset']}")), _here(known)]
    body: list[Node] = []
    for group in shown:
        items = [_row(line, numbers[line.key], known, losses, group[0] if len(group) > 1 else None) for line in group[:SIDES]]
        body.append(_group(group, items) if len(group) > 1 else items[0])
    return [*head, h("div", *body), _moves(known, size), _here(known)]


def _here(known: dict[str, Any]) -> Node:
    asked = {name: known[name] for name in ("dataset", "words", "tag", "state", "by") if known[name]}
    return h("here", href=f"/curate?{urlencode(asked)}")


def _head(told: Curated) -> list[Node]:
    kept = [line for line in told.lines if line.excluded is None]
    held = sum(line.split == "heldout" for line in kept)
    counts = say("{rows} rows, {held} held out", rows=f"{len(kept) - held:,}", held=f"{held:,}")
    make = link(say("Make the new dataset"), f"/new?stage=curate&dataset={told.artifact.id}", class_="button primary")
    sentence = say("{name}: {changes}.", name=told.artifact.name, changes=described(told.lines))
    how = say("The dataset itself stays as it is: what is said here is kept, and goes into the new one.")
    return [
        h("p", link(say("← The dataset"), f"/library?artifact={told.artifact.id}"), class_="soft"),
        h("h1", sentence, class_="sentence raw"),
        h("div", h("span", how, class_="soft"), h("div", h("span", counts, class_="soft"), make, class_="row"), class_="row between"),
    ]


def _controls(told: Curated, known: dict[str, Any], measured: Sequence[Losses]) -> list[Node]:
    def choice(name: str, value: Any, text: str) -> Node:
        on = known[name] == value
        there = urlencode({"dataset": known["dataset"], **{n: known[n] for n in ("words", "tag", "state", "by") if known[n]}, name: value})
        return h("a", text, href=f"/curate?{there}", on=name, data={"value": value}, class_="on" if on else "")

    counts = {
        "": len(told.lines), "kept": sum(line.excluded is None for line in told.lines),
        "excluded": sum(line.excluded is not None for line in told.lines), "edited": sum(line.edited for line in told.lines),
        "tagged": sum(line.tagged for line in told.lines), "heldout": sum(line.split == "heldout" for line in told.lines),
    }  # fmt: skip
    states = [choice("state", one, f"{say(word)} {counts[one]:,}") for one, word in STATES.items() if counts[one] or one == known["state"]]
    used = _tags(told)[:TAGS]
    used += [known["tag"]] if known["tag"] and known["tag"] not in used else []
    tags = [choice("tag", "", say("any tag")), *[choice("tag", tag, f"#{tag}") for tag in used]] if used else []
    order = [choice("by", 0, say("in order"))]
    order += [choice("by", one.scores.id, say("highest loss under {model} first", model=one.model)) for one in measured]
    words = say("words in any text")
    search = h("input", type="search", placeholder=words, value=known["words"], on="words", aria_label=say("Search the rows"))
    measure = [link(say("Measure the loss of each row"), f"/new?stage=row_losses&data={told.artifact.id}", class_="button small")]
    return [
        h("div", h("div", *states, choice("state", "alike", say("near-duplicates")), class_="filters row"), search, class_="row between"),
        h("div", *tags, class_="filters row raw") if tags else h("div"),
        h("div", *(order if measured and known["state"] != "alike" else []), *(measure if told.format in MEASURED else []),
          class_="filters row raw"),
    ]  # fmt: skip


def _tags(told: Curated) -> list[str]:
    """Tags in use, the most frequent first."""
    counts: dict[str, int] = {}
    for line in told.lines:
        for tag in line.tags:
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(counts, key=lambda tag: (-counts[tag], tag))


def _group(group: list[Line], items: list[Node]) -> Node:
    left = sum(line.excluded is None for line in group)
    more = say("; the first {n} are shown, and all of them are left out together", n=SIDES) if len(group) > SIDES else ""
    head = say("{n} rows that are nearly alike, {left} of them kept", n=len(group), left=left) + more
    return h("div", h("h3", head), h("div", *items, class_=f"columns n{min(len(items), 3)}"), class_="item", key=group[0].key)


def _row(line: Line, number: int, known: dict[str, Any], losses: Losses | None, first: Line | None) -> Node:
    about = [h("small", say("row {n}", n=f"{number:,}") + (say(", held out") if line.split == "heldout" else ""))]
    if losses and (found := losses.values.get(line.key)):
        figures = ", ".join(f"{say(name)} {value:.2f}" for name, value in found.items())
        before = say(" before the edit") if line.edited else ""
        about.append(h("small", say("{figures} under {model}", figures=figures, model=losses.model) + before, class_="raw"))
    if line.edited:
        about.append(h("small", say("edited")))
    if line.excluded is not None:
        about.append(h("small", say("excluded: {reason}", reason=line.excluded), class_="raw"))
    refused = known["refused"][1] if known["refused"][0] == line.key else ""
    editing = known["open"] == line.key
    return h(
        "div",
        h("div", *about, class_="row about"),
        _form(line) if editing else h("div", *_said(line, first), class_="left-out" if line.excluded is not None else ""),
        h("div", h("p", refused, class_="fielderror", role="alert") if refused else None),
        *([] if editing else [_before(line), _tools(line, number, first is not None)]),
        class_="curated" if first else "item curated",
        key=line.key,
    )


def _said(line: Line, first: Line | None) -> list[Node]:
    """What a row says; marked is what the first of its group has not, or what it did not say before it was rewritten."""
    other = line.was if first is None or first is line else first.row
    told = {text.place: text.content for text in texts(other)}
    shown: list[Node] = []
    for text in texts(line.row):
        long, base = len(text.content) > LONG, told.get(text.place, text.content)
        content = marked(base, text.content) if base != text.content and alike(base, text.content) else text.content
        body = h("pre", content, class_="raw long" if long else "raw", tabindex="0" if long else None)
        shown.append(h("div", h("span", text.label, class_="role"), body, class_="turn"))
    return shown


def _before(line: Line) -> Node:
    """What a row that was rewritten said, folded."""
    if not line.edited:
        return h("div")
    was, now = texts(line.was), {text.place: text.content for text in texts(line.row)}
    parts = [
        h("div", h("span", text.label, class_="role"), h("pre", text.content, class_="raw"), class_="turn")
        for text in was
        if now.get(text.place) != text.content
    ]
    return h("details", h("summary", say("What it said before")), *parts)


def _form(line: Line) -> Node:
    fields = [
        h(
            "label",
            h("span", text.label, class_="role"),
            h("textarea", name=text.place, value=text.content, rows=str(_height(text.content)), aria_label=text.label),
        )
        for text in texts(line.row)
    ]
    save = h("button", say("Save"), on="save", data={"key": line.key, "form": True})
    close = h("button", say("Cancel"), on="close", data={"key": line.key})
    return h("div", *fields, h("div", save, close, class_="row"), class_="typed", key="form")


def _height(text: str) -> int:
    return max(2, min(16, sum(1 + len(line) // 90 for line in text.split("\n"))))


def _tools(line: Line, number: int, beside: bool) -> Node:
    key = {"key": line.key}
    tags = [
        h("button", tag, " ✕", on="untag", data={**key, "value": tag}, class_="tag raw", aria_label=say("Take away the tag {tag}", tag=tag))
        for tag in line.tags
    ]
    add = h("input", type="text", placeholder=say("add a tag"), on="tagged", data={**key, "fresh": len(line.tags)}, class_="short",
            aria_label=say("Add a tag to row {n}", n=number))  # fmt: skip
    edit = h("button", say("Edit"), on="open", data=key, class_="small", aria_label=say("Edit row {n}", n=number))
    undo = [h("button", say("Undo the edit"), on="undo", data=key, class_="small")] if line.edited else []
    only = [h("button", say("Exclude all but this"), on="only", data=key, class_="small")] if beside else []
    return h("div", h("span", *tags, class_="row own"), add, edit, *undo, *only, _leaving(line, number), class_="row tools")


def _leaving(line: Line, number: int) -> Node:
    """To leave a row out, for one of the usual reasons or another; or to take it back."""
    key = {"key": line.key}
    if line.excluded is not None:
        return h("button", say("Put it back"), on="keep", data=key, class_="small", aria_label=say("Put row {n} back", n=number))
    presets = [h("button", say(reason), on="exclude", data={**key, "value": reason}, class_="small") for reason in REASONS]
    own = h("input", type="text", placeholder=say("another reason"), on="exclude", data=key, class_="short",
            aria_label=say("Another reason to exclude row {n}", n=number))  # fmt: skip
    return h("details", h("summary", say("Exclude")), h("div", *presets, own, class_="row tools"), key="exclude")


def _moves(known: dict[str, Any], size: int) -> Node:
    begin, total = known["start"], known["total"]
    span = say("{low} to {high} of {n}", low=begin + 1, high=min(begin + size, total), n=f"{total:,}")
    parts: list[Node] = []
    if begin:
        parts.append(h("button", say("← Previous"), on="page", data={"start": max(0, begin - size)}))
    parts.append(h("span", span, class_="soft"))
    if begin + size < total:
        parts.append(h("button", say("Next →"), on="page", data={"start": begin + size}))
    return h("div", *parts, class_="row")
