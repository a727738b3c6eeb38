"""Curate: one dataset row by row, to tag, edit and leave out; what comes of it is a new dataset."""

from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import Place, as_id, asked, asked_id, curate_view, missing, one_view
from app.view import Node, h, link, problem
from app.wording import error, say
from engine import curating, curation
from engine.curating import Curated, now_of
from engine.curation import Search
from engine.errors import UserError
from storage import queries
from storage.database import transaction

PAGE, GROUPS = 10, 5  # rows and groups of rows at once


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    one_view(demo, _start, partial(tree, place), partial(do, place))


def _start(request: gr.Request) -> dict[str, Any]:
    return start(asked_id(request, "dataset") or 0, **{name: asked(request, name) for name in ("words", "tag", "state", "by")})


def start(dataset: int, words: str = "", tag: str = "", state: str = "", by: str = "") -> dict[str, Any]:
    """What the page remembers: which rows are looked for, those on this page, the one being edited, and what was refused."""
    looked = {"words": words, "tag": tag, "state": state, "by": as_id(by)}
    return {"dataset": dataset, **looked, "start": 0, "ids": None, "total": 0, "open": "", "refused": ("", "")}


def do(place: Place, data: dict[str, Any], known: dict[str, Any], person: str) -> None:
    """What was pressed. What is refused is said beside the row it belongs to, and nothing is written."""
    name, key = str(data.get("name")), str(data.get("key", ""))
    known["refused"] = ("", "")
    if name in ("words", "tag", "state", "by"):
        chosen = as_id(str(data.get("value"))) if name == "by" else str(data.get("value", ""))
        known.update({name: chosen, "start": 0, "ids": None, "open": ""})
    elif name == "page":
        known.update(start=as_id(str(data.get("start"))), ids=None, open="")
    elif name in ("open", "close"):
        known["open"] = key if name == "open" else ""
    else:
        try:
            with transaction(place.database) as session:
                _say(session, place, name, key, data, known, person)
        except UserError as refused:
            known["refused"] = (key, error(refused))


def _say(session: Session, place: Place, name: str, key: str, data: dict[str, Any], known: dict[str, Any], person: str) -> None:
    """Something about a row. Raises UserError."""
    told, now = curating.read(session, place.home, known["dataset"]), queries.utc_now()
    line, value = told.line(key), str(data.get("value", ""))
    change = now_of(line)
    if name == "tagged":
        change = replace(change, tags=curation.tag(line.tags, value))
    elif name == "untag":
        change = replace(change, tags=tuple(tag for tag in line.tags if tag != value))
    elif name == "exclude":
        change = replace(change, excluded=curation.reason(value))
    elif name == "keep":
        change = replace(change, excluded=None)
    elif name == "save":
        typed = data.get("typed")
        texts = {str(place): str(text) for place, text in typed.items()} if isinstance(typed, dict) else {}
        change = replace(change, row=curation.rewritten(told.format, line.row, texts))
        known["open"] = ""
    elif name == "undo":
        change = replace(change, row=None)
    elif name == "only":
        group: list[str] = next((keys for keys in known["ids"] or [] if key in keys), [])
        for other in map(told.line, (one for one in group if one != key)):
            if other.excluded is None:
                curating.say(session, known["dataset"], other, replace(now_of(other), excluded="near-duplicate"), person, now)
        change = replace(change, excluded=None)
    curating.say(session, known["dataset"], line, change, person, now)


def tree(place: Place, known: dict[str, Any]) -> list[Node]:
    """The dataset, what was changed, what is looked for, and a page of it. A page's rows stay until another is asked for."""
    with Session(place.database) as session:
        try:
            told = curating.read(session, place.home, known["dataset"])
        except UserError as refused:
            if known["dataset"]:
                return [h("h1", say("Curate")), problem(error(refused), link(say("The whole library"), "/library"))]
            return [missing(say("A dataset to curate"), "/library?kind=dataset", say("All datasets"))]
        measured = curating.losses(session, place.home, known["dataset"])
        losses = next((one for one in measured if one.scores.id == known["by"]), next(iter(measured), None))
        if known["ids"] is None:
            _look(told, known, losses.first() if losses else {})
        return curate_view.page(told, known, measured, losses, GROUPS if known["state"] == "alike" else PAGE)


def _look(told: Curated, known: dict[str, Any], losses: dict[str, float]) -> None:
    """Choose the rows of this page: lists of one, or of all that are alike."""
    alike = known["state"] == "alike"
    search = Search(known["words"], known["tag"], "" if alike else known["state"], bool(known["by"]))
    fitting = [line.key for line in curation.found(told.lines, search, losses)]
    if alike:
        kept, wanted = {line.key for line in told.lines if line.excluded is None}, set(fitting)
        groups = [keys for keys in curating.alike(told.lines) if len(kept & set(keys)) > 1 and wanted & set(keys)]
    else:
        groups = [[key] for key in fitting]
    size = GROUPS if alike else PAGE
    known["total"], known["ids"] = len(groups), groups[known["start"] : known["start"] + size]
