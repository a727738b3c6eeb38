"""Label: the raters' own app, mounted beside the owners'. People rank answers here, and never learn who gave them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from sqlalchemy import Engine
from sqlmodel import Session

from app.pages import LOCAL, QUIET, Place, as_id, asked, signed_in
from app.rank_widget import rank_widget, setup
from app.view import Node, action, empty, go, h, link, problem, view
from app.wording import error, say
from engine import labelling
from engine.errors import UserError
from engine.labelling import GuidelineChanged, Shown
from engine.rankings import title
from storage import labels, queries
from storage.tables import Artifact, Project

LONGEST_NAME = 60


def build(place: Place) -> gr.Blocks:
    """An app of its own, since Gradio shows all of an app's components to whoever may see one page of it."""

    def load(request: gr.Request) -> tuple[Any, Any]:
        return opened(place, request)

    def submit(event: gr.EventData, request: gr.Request) -> Shown:
        return answered(place, event, request, labelling.submit)

    def undo(event: gr.EventData, request: gr.Request) -> Shown:
        def act(database: Engine, project: int, who: str, said: dict[str, Any], now: datetime) -> Shown:
            return labelling.undo(database, project, who, said.get("client_event_id", ""), now)

        return answered(place, event, request, act)

    def more(event: gr.EventData, request: gr.Request) -> Shown:
        return answered(place, event, request, lambda database, project, who, _, now: labelling.next_item(database, project, who, now))

    with gr.Blocks(title="Dianjing", analytics_enabled=False) as demo:
        shown, widget = view(), rank_widget()
        demo.load(load, None, [shown, widget], **QUIET)
        shown.act(named, None, shown, **QUIET)
        for name, act in (("submit", submit), ("undo", undo), ("more", more)):
            getattr(widget, name)(act, None, widget, trigger_mode="multiple", **QUIET)
    return demo


def rater(request: gr.Request, given: object) -> str:
    """Who ranks: whoever is signed in, or, where nobody has to, who they say they are."""
    name = " ".join(str(given or "").split())[:LONGEST_NAME] if request.username in (None, LOCAL) else str(request.username)
    return name if name.isprintable() and name else LOCAL


def _typed(request: gr.Request, who: str) -> str:
    """The name that stays in addresses: one that was typed."""
    return who if request.username in (None, LOCAL) and who != LOCAL else ""


def opened(place: Place, request: gr.Request) -> tuple[Any, Any]:
    """The head of the page, and what the widget starts with: nothing where no project is named."""
    who, wanted, now = rater(request, asked(request, "as")), asked(request, "project"), queries.utc_now()
    if not wanted:
        return overview(place, request, who, now), None
    project, typed = as_id(wanted), _typed(request, who)
    try:
        first = labelling.next_item(place.database, project if project < 2**31 else 0, who, now)
    except UserError as refused:
        return [h("h1", say("Label")), problem(error(refused), link(say("All projects"), address(typed)))], None
    with Session(place.database) as session:
        name = title(session.get_one(Artifact, project))
    person = h("small", say("You rank as {name}.", name=who))
    head = h("div", h("h1", name), h("span", person, link(say("All projects"), address(typed)), class_="row"), class_="row between")
    return [head], setup() | {"project": project, "rater": who, "back": address(typed), "shown": first}


def overview(place: Place, request: gr.Request, who: str, now: datetime) -> list[Node]:
    """Every project that can be ranked, with how far this person is."""
    with Session(place.database) as session:
        found = sorted(labels.projects(session), key=lambda one: one[0].closed_at is not None)
        rows = [_card(session, project, artifact, who, _typed(request, who), now) for project, artifact in found]
    head: list[Node] = [h("h1", say("Label")), *signed_in(request)]
    if request.username in (None, LOCAL):
        box = h("input", on="name", type="text", value="" if who == LOCAL else who, placeholder=LOCAL, aria_label=say("Your name"))
        head.append(h("p", h("label", say("You rank as"), " ", box, class_="row"), class_="who"))
    if not rows:
        return [*head, empty(say("There is nothing to rank yet. A project appears here as soon as an owner makes one."))]
    told = say("Choose a project. You see answers without names, and put them in order.")
    return [*head, h("p", told, class_="soft"), h("div", *rows, class_="cards")]


def _card(session: Session, project: Project, artifact: Artifact, who: str, typed: str, now: datetime) -> Node:
    done = labels.done_by(session, project.artifact, who)
    of = done + labels.open_to(session, project, who, now)
    state = say("closed") if project.closed_at else say("paused") if project.paused_at else say("done") if of and done == of else ""
    text = labels.guideline(session, project.artifact).text.strip().split("\n")[0].strip("# *")
    bar = h("progress", value=str(done), max=str(max(of, 1)), aria_label=say("progress"))
    figures = [bar, h("small", say("{done} / {of}", done=done, of=of)), h("small", state, class_="tag") if state else None]
    first = h("p", text, class_="soft") if text else None
    return h("a", h("b", title(artifact)), first, h("span", *figures, class_="row"), href=address(typed, project.artifact), class_="card")


def named(event: gr.EventData) -> Node:
    """The list of somebody who says their name."""
    return go(address(" ".join(str(action(event).get("value") or "").split())[:LONGEST_NAME]))


def address(typed: str, project: int | None = None) -> str:
    """A label page, with the name that was typed where nobody signs in."""
    query = ({"project": str(project)} if project else {}) | ({"as": typed} if typed else {})
    return "/label/" + (f"?{urlencode(query)}" if query else "")


def answered(place: Place, event: gr.EventData, request: gr.Request, act: Callable[..., Shown]) -> Shown:
    """What the widget gets back: the next item, or why what it sent was refused. Who asks is known here and not believed."""
    given = action(event)
    said = given["said"] if isinstance(given.get("said"), dict) else {}
    reply: Shown = {"reply": str(said.get("client_event_id", ""))[:100].encode(errors="replace").decode()}  # half a surrogate is no JSON
    project = given.get("project")
    if isinstance(project, bool) or not isinstance(project, int) or not 0 < project < 2**31:
        return reply | {"error": error(UserError("there is no ranking project {project}", project=repr(project)[:60]))}
    who, now = rater(request, given.get("as")), queries.utc_now()
    try:
        return reply | {"shown": act(place.database, project, who, said, now)}
    except GuidelineChanged as changed:
        with Session(place.database) as session:
            newest = labels.guideline(session, project)
        return reply | {"error": error(changed), "guideline": {"version": newest.version, "text": newest.text}}
    except UserError as refused:
        return reply | {"error": error(refused)}
