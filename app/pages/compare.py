"""Compare: two to four models on the same prompts, stored answers here, a live conversation beside it (talk.py).

Everything a person chose stands in the address, so a copied link shows the same thing to somebody else.
"""

from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import QUIET, Place, all_asked, as_id, compare_start, compare_view, next_token, run_title, talk
from app.pages.compare_address import measures_of, read
from app.pages.compare_sides import look
from app.view import Node, action, h, link, problem, view
from app.wording import ago, error, say
from engine import comparison
from engine.catalogue import scorers
from engine.comparison import MOST
from engine.errors import UserError
from storage import answers, queries
from storage.tables import Artifact, Run


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    state = gr.State({})
    shown = view()
    talk.build(place, demo)
    next_token.build(place, demo)

    def load(request: gr.Request) -> list[Any]:
        if talk.wanted(request) or next_token.wanted(request):
            return [{}, []]
        known = start(request)
        return [known, tree(place, known)]

    def act(event: gr.EventData, known: dict[str, Any], request: gr.Request) -> list[Any]:
        known = known or start(request)
        try:
            do(action(event), known)
        except UserError as refused:
            return [known, [problem(error(refused)), *tree(place, known)]]
        return [known, tree(place, known)]

    demo.load(load, None, [state, shown], **QUIET)
    shown.act(act, state, [state, shown], trigger_mode="multiple", **QUIET)


def start(request: gr.Request | None) -> dict[str, Any]:
    """What the address asks for, and what only this visit knows."""
    return {**read(all_asked(request)), "draft": "", "read": "", "picked": []}


def do(data: dict[str, Any], known: dict[str, Any]) -> None:
    """Carry out an action. Raises UserError."""
    name, value = str(data.get("name", "")), data.get("value", data.get("to"))
    if name in ("at", "pin", "tag", "only", "base", "read"):
        known[name] = "" if known[name] == value and name in ("pin", "tag", "read") else str(value)
    elif name in ("rows", "plain", "sample"):
        known[name] = as_id(str(value))
    elif name == "words":
        known["words"] = str(value).strip()
    elif name == "add" and value and len(known["answers"]) < MOST:
        known["answers"] = list(dict.fromkeys([*known["answers"], str(value)]))
    elif name == "remove":
        known["answers"] = [one for one in known["answers"] if one != value]
    elif name == "pick":
        rest = [one for one in known["picked"] if one != data.get("model")]
        known["picked"] = [*rest, as_id(str(data.get("model")))][:MOST] if value else rest
    elif name == "scorer":
        known["draft"] = str(value)
        if str(value) in scorers() and not scorers()[str(value)].reference:
            _measure(known, str(value), [])
    elif name == "measure":
        _measure(
            known, known["draft"], [str(value)] if known["draft"] == "regex" else [one for one in str(value).split("|") if one.strip()]
        )
    elif name == "unmeasure":
        known["measures"] = [one for place, one in enumerate(known["measures"]) if str(place) != str(value)]
    if name in ("words", "tag", "only", "base"):
        known["at"] = ""


def _measure(known: dict[str, Any], scorer: str, reference: list[str]) -> None:
    measure = comparison.measure_named(scorer, [one.strip() for one in reference] if scorer != "regex" else reference)
    wanted = [measure.scorer, list(measure.reference)]
    if wanted not in known["measures"]:
        known["measures"] = [*known["measures"], wanted]
    known["draft"] = ""


def tree(place: Place, known: dict[str, Any]) -> list[Node]:
    """The page: what can be compared, or the answers side by side."""
    with Session(place.database) as session:
        if not known["answers"]:
            return compare_start.tree(session, known)
        columns, gone = [], []
        for key in known["answers"]:
            column, row = answers.column_named(session, key)
            if column is None:
                gone.append(_gone(session, key, row))
            else:
                columns.append(column)
        if not columns:
            return [h("h1", say("Compare")), *gone, h("p", link(say("What can be compared"), "/compare"))]
        try:
            measures = measures_of(known)
        except UserError as refused:
            known["measures"], measures = [], []
            gone.append(problem(error(refused)))
        return [*gone, *compare_view.tree(look(place, session, known, columns, measures))]


def _gone(session: Session, key: str, row: Artifact | None) -> Node:
    if row is None:
        return problem(say("The answers {key} are not here: they may be in another home, or the address is mistyped.", key=key))
    maker = session.get(Run, row.made_by) if row.made_by else None
    by = h("p", link(f"{maker.id} {run_title(maker)}", f"/runs?run={maker.id}")) if maker else None
    if row.deleted_at:
        return problem(say("{name} was deleted {when}. It was made by", name=row.name, when=ago(row.deleted_at, queries.utc_now())), by)
    if row.ready_at is None:
        return problem(say("{name} is not ready yet. It is being made by", name=row.name), by)
    return problem(say("{name} has no answers of {key}.", name=row.name, key=key), by)
