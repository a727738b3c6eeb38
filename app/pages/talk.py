"""The live half of Compare: one question, all models answer at once, word by word; several turns; stop, edit and ask again."""

import secrets
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr
from pydantic import ValidationError
from sqlmodel import Session

from app import form
from app.pages import QUIET, Place, as_id, asked, asked_id, talk_view
from app.pages.talk_view import Growing
from app.view import Node, action, problem, view
from app.wording import error, say
from engine import conversations
from engine.comparison import MOST
from engine.conversations import Talk
from engine.errors import UserError
from storage.tables import Artifact, Response, Run

PAUSE = 0.1  # seconds between two updates of the screen


def wanted(request: gr.Request) -> bool:
    """Whether the address asks for a live conversation."""
    return bool(asked(request, "live") or asked(request, "talk"))


def build(place: Place, demo: gr.Blocks) -> None:
    """Draw the live half; it shows only when the address asks for it."""
    stopping: set[int] = set()  # conversations whose answers a person wants to end
    speaking: set[str] = set()  # visits whose models are answering
    questions: dict[str, int] = {}  # how many each visit asked; a question carries how many were on its screen
    counting = threading.Lock()
    state = gr.State({})
    shown = view()
    with gr.Column(visible=False, elem_classes="dj-talk") as box:
        seen = gr.Number(0, visible=False)
        typed = gr.Textbox(label=say("Your turn"), placeholder=say("Ask all of them something"), lines=1, max_lines=8, interactive=True)
        with gr.Row():
            send = gr.Button(say("Send"), variant="primary")
            stop = gr.Button(say("Stop"))
    with gr.Column(visible=False) as how:
        fields = form.draw(Talk, {}, lambda _kind, _formats: [])
    chosen = [field.component for field in fields]

    def load(request: gr.Request) -> list[Any]:
        if not wanted(request):
            return [{}, [], gr.update(visible=False), gr.update(visible=False), gr.skip()]
        known = _start(place, request)
        there = bool(known["models"])
        first = gr.update(value=_question(place, request)) if not known["run"] else gr.skip()
        return [known, _tree(place, known), gr.update(visible=there), gr.update(visible=there and not known["run"]), first]

    def again(visit: str, before: int) -> bool:
        """Whether this is the second press of Enter: a question was asked that its screen did not show yet."""
        with counting:
            if before < questions.get(visit, 0):
                return True
            questions[visit] = before + 1
            return False

    def ask(known: dict[str, Any], text: str, before: float, request: gr.Request, *settings: Any) -> Iterator[list[Any]]:
        known = dict(known) or _start(place, request)  # a restarted dashboard has forgotten its states
        visit = known["visit"]
        if not text.strip() or again(visit, int(before)):
            yield [gr.skip()] * 5
            return
        yield [gr.skip(), gr.skip(), "", gr.skip(), questions[visit]]
        while visit in speaking:  # the last answer is on the screen and about to be stored
            time.sleep(PAUSE)
        speaking.add(visit)
        try:
            if not known["run"]:
                how_ = Talk.model_validate(form.collect(fields, list(settings)))
                known["run"] = conversations.start(place.database, place.home, known["models"], how_.system, how_.sampling)
            growing = yield from _stream(place, known, text, stopping)
            shown_last = [known, _tree(place, known, growing), gr.skip(), gr.skip(), gr.skip()]
        except (UserError, ValidationError) as refused:
            told = form.messages(fields, refused)[1] or error(refused)
            shown_last = [known, [problem(told), *_tree(place, known)], text, gr.skip(), gr.skip()]  # what was typed stays
        finally:
            speaking.remove(visit)  # before the browser hears that it is over
        yield shown_last

    def halt(known: dict[str, Any]) -> None:
        if known.get("run"):
            stopping.add(known["run"])

    def act(event: gr.EventData, known: dict[str, Any], request: gr.Request) -> list[Any]:
        data, known = action(event), known or _start(place, request)
        if data.get("name") == "edit":
            known = {**known, "edit": int(data.get("turn", 0))}
            return [known, _tree(place, known), gr.update(value=str(data.get("text", "")))]
        known = {**known, "edit": None}
        return [known, _tree(place, known), gr.update(value="")]

    demo.load(load, None, [state, shown, box, how, typed], **QUIET)
    shown.act(act, state, [state, shown, typed], trigger_mode="multiple", **QUIET)
    stop.click(halt, state, None, **QUIET)
    gr.on(
        [send.click, typed.submit],
        ask,
        [state, typed, seen, *chosen],
        [state, shown, typed, how, seen],
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="multiple",  # once would drop a question that comes while the last answer is still being drawn
        concurrency_id="live",
        concurrency_limit=4,
    )


def _start(place: Place, request: gr.Request) -> dict[str, Any]:
    run, visit = asked_id(request, "talk"), secrets.token_hex(8)
    models = list(dict.fromkeys(as_id(part) for part in asked(request, "live").split(",")))[:MOST]
    with Session(place.database) as session:
        row = session.get(Run, run) if run else None
        if row and row.stage == "conversation":
            return {"models": list(row.settings["models"]), "run": run, "edit": None, "visit": visit}
        there = [id for id in models if (one := session.get(Artifact, id)) and one.kind == "model" and one.ready_at]
    return {"models": there, "run": None, "edit": None, "visit": visit}


def _question(place: Place, request: gr.Request) -> str:
    """The last turn of a stored prompt that somebody wants to ask live."""
    with Session(place.database) as session:
        row = session.get(Response, asked_id(request, "ask") or 0)
    return str(row.prompt[-1]["content"]) if row and row.prompt else ""


def _stream(place: Place, known: dict[str, Any], text: str, stopping: set[int]) -> Generator[list[Any], None, Growing]:
    """Pass on what the models say, at most ten times a second; what they said in the end."""
    run, turn = known["run"], known["edit"]
    known["edit"] = None
    stopping.discard(run)
    with Session(place.database) as session:
        at = len(conversations.turns(session, run)) if turn is None else turn
    growing = Growing(at, text, {})
    said = conversations.say(place.database, place.home, run, text, turn)
    yield [known, _tree(place, known, growing), gr.skip(), gr.update(visible=False), gr.skip()]
    drawn = time.monotonic()
    for one in said:
        growing.add(one)
        if run in stopping:
            said.close()  # what was said so far is stored as stopped
            break
        if time.monotonic() - drawn >= PAUSE:
            yield [known, _tree(place, known, growing), *[gr.skip()] * 3]
            drawn = time.monotonic()
    return growing.ended()


def _tree(place: Place, known: dict[str, Any], growing: Growing | None = None) -> list[Node]:
    with Session(place.database) as session:
        return talk_view.tree(session, known, growing)
