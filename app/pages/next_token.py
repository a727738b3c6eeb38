"""What comes next: one text, and the ten likeliest next tokens of several models beside each other.

Everything stands in the address: /compare?next=3,8&text=The+capital+of+France+is. A click on a token reads on with it.
"""

import json
from contextlib import closing
from typing import Any

import gradio as gr
from sqlmodel import Session

from app.pages import Place, all_asked, as_id, model_look
from app.view import Node, action, empty, h, link, problem, view
from app.wording import say
from engine.comparison import MOST
from engine.inference import Asked, Said, ask
from engine.settings import SamplingSettings
from storage import queries
from storage.tables import Artifact

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
SEEN = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥"})


def wanted(request: gr.Request) -> bool:
    """Whether the address asks for next tokens."""
    return "next" in all_asked(request)


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the panel; it shows only when the address asks for it."""
    models = gr.State([])
    top = view()
    with gr.Column(visible=False) as box:
        question = gr.Textbox(label=say("Question before it"), placeholder=say("Empty: the text stands alone"), lines=1, max_lines=4)
        text = gr.Textbox(label=say("Text"), placeholder=say("The capital of France is"), lines=2, max_lines=8)
        show = gr.Button(say("What comes next?"), variant="primary")
    shown = view()

    def load(request: gr.Request) -> list[Any]:
        if not wanted(request):
            return [[], [], gr.update(visible=False), gr.skip(), gr.skip(), []]
        known = all_asked(request)
        there = chosen(place, known["next"])
        head = _head(place, there)
        return [list(there), head, gr.update(visible=bool(there)), known.get("question", ""), known.get("text", ""), []]

    def weigh(ids: list[int], asked: str, begun: str) -> list[Node]:
        return columns(place, ids, asked, begun)

    def act(event: gr.EventData, ids: list[int], asked: str, begun: str) -> list[Any]:
        longer = begun + str(action(event).get("token", ""))
        return [longer, columns(place, ids, asked, longer)]

    demo.load(load, None, [models, top, box, question, text, shown], queue=False, **QUIET)
    gr.on([show.click, text.submit], weigh, [models, question, text], shown, concurrency_id="live", concurrency_limit=4, **QUIET)
    shown.act(act, [models, question, text], [text, shown], concurrency_id="live", **QUIET)


def chosen(place: Place, ids: str) -> dict[int, str]:
    """The models an address names, of those that are there: names by id."""
    with Session(place.database) as session:
        rows = [session.get(Artifact, as_id(part)) for part in ids.split(",")][:MOST]
    return {row.id or 0: row.name for row in rows if row and row.kind == "model" and row.ready_at}


def columns(place: Place, ids: list[int], asked: str, text: str) -> list[Node]:
    """Each model's ten likeliest next tokens with their probabilities, or why there are none."""
    if not text and not asked:
        return [empty(say("Type a text first."))]
    messages = [{"role": "user", "content": asked}] if asked.strip() else []
    with Session(place.database) as session:
        names = {id: row.name for id in ids if (row := session.get(Artifact, id))}
    questions = [Asked(id, messages, text) for id in names]
    with closing(ask(place.database, place.home, questions, SamplingSettings())) as told:
        ends = {said.model: said for said in told if said.kind in ("done", "error")}
    return [h("div", *[_column(id, name, ends.get(id)) for id, name in names.items()], class_=f"columns n{len(names)}")]


def _column(id: int, name: str, said: Said | None) -> Node:
    head = h("b", name, class_=f"raw {model_look(id)}")
    if said is None or said.kind == "error":
        return h("div", head, problem(said.text if said else say("It said nothing.")), class_="side")
    rows = [
        h("tr", h("td", h("button", h("code", token.translate(SEEN) or say("(nothing)"), class_="raw"), on="token", data={"token": token})),
          h("td", f"{share:.1%}" if share >= 0.001 else f"{share:.0e}"), h("td", h("progress", value=str(share), max="1")))
        for token, share in json.loads(said.text)
    ]  # fmt: skip
    about = h("small", say("{n} tokens read · {place}", n=said.tokens, place=said.device))
    return h("div", head, h("div", h("table", h("tbody", *rows)), class_="table narrow"), about, class_="side")


def _head(place: Place, models: dict[int, str]) -> list[Node]:
    back = h("p", link(say("← What can be compared"), "/compare"), class_="soft")
    title = [back, h("h1", say("What comes next?")), h("p", say("The ten likeliest next tokens of each model, with their probabilities."))]
    if models:
        return [*title, h("p", " · ".join(models.values()), class_="raw soft")]
    with Session(place.database) as session:
        there = [one for one in queries.artifacts(session, "model") if one.summary.get("format") in ("full", "adapter")]
    links = [h("li", link(one.name, f"/compare?next={one.id}")) for one in there]
    return [*title, h("ul", *links, class_="raw") if links else empty(say("There is no model yet."))]
