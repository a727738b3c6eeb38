"""Home: what is running, what was found last, and where to begin."""

from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import Place, people_awaited, progress, run_title, signed_in, status, unless_seen, when
from app.view import ASSETS, Node, action, go, h, link, served, view
from app.wording import say
from engine import submit
from engine.catalogue import find, recipes, stages
from storage import listings, queries
from storage.tables import QUEUED, RUNNING, Run


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the page."""
    seen = gr.State({})
    shown = view()
    timer = gr.Timer(2)

    def draw(known: dict[str, Any], request: gr.Request) -> tuple[Any, dict[str, Any]]:
        return unless_seen(known, "page", [*tree(place), *signed_in(request)]), known

    def act(event: gr.EventData) -> Any:
        if action(event).get("name") == "quickstart":
            submitted = submit.submit(place.database, place.home, find("quickstart")())
            return go(f"/runs?plan={submitted.plan}")
        return gr.skip()

    gr.on([demo.load, timer.tick], draw, seen, [shown, seen], queue=False, show_progress="hidden", api_visibility="private")
    shown.act(act, None, shown, queue=False, show_progress="hidden", api_visibility="private")


def tree(place: Place) -> list[Node]:
    """The page from the rows."""
    with Session(place.database) as session:
        active = [*queries.runs(session, RUNNING), *reversed(queries.runs(session, QUEUED))]
        recent = queries.runs(session, limit=5)
        found = listings.reports(session)
        going = [_running(session, run) for run in active[:8]]
    brand = h("div", h("img", src=served(ASSETS / "logo.svg"), alt=""), h("h1", "Dianjing"), class_="brand")
    claim = h("p", say("Align a language model, and see what alignment changed and what it broke."), class_="soft")
    parts: list[Node] = [brand, claim]
    if not recent:
        parts.append(
            h("div",
              h("h2", say("What does alignment change?")),
              h("p", say("Fine-tune a small model on 200 short answers and read before and after. It takes a few minutes on two cores.")),
              h("button", say("Start the quickstart"), class_="primary", on="quickstart"),
              class_="card"))  # fmt: skip
    if active:
        parts += [h("h2", say("Going on")), h("div", *going, class_="card")]
    if found:
        parts.append(h("h2", say("Found last")))
        for report in found:
            sentence = str(report.summary.get("sentence", report.name))
            parts.append(h("a", h("b", sentence), h("span", report.name, class_="soft"), href=f"/report?report={report.id}", class_="card"))
    parts.append(h("h2", say("Begin something")))
    cards = [_card(form.title(), form.summary(), f"/new?recipe={name}", main=True) for name, form in recipes().items()]
    cards += [_card(form.title(), form.summary(), f"/new?stage={name}") for name, form in stages().items()]
    parts.append(h("div", *cards, class_="cards"))
    if recent and not active:
        rows = [
            h("p", link(f"{run.id} {run_title(run)}", f"/runs?run={run.id}"), " ", status(run), " ", h("small", when(run)))
            for run in recent
        ]
        parts += [h("h2", say("Recent runs")), h("div", *rows)]
    return parts


def _running(session: Session, run: Run) -> Node:
    name = link(f"{run.id} {run_title(run)}", f"/runs?run={run.id}")
    return h("div", status(run), name, *progress(run), *people_awaited(session, run), class_="row")


def _card(title: str, text: str, address: str, main: bool = False) -> Node:
    return h("a", h("b", say(title)), h("span", say(text), class_="soft"), href=address, class_="card main" if main else "card")
