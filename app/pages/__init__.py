"""One file, one page. Pages are built empty and filled by a load handler; the truth is in the database."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
from sqlalchemy import Engine
from sqlmodel import Session

from app.view import GLYPHS, Node, Tree, action, h, link, problem, state, view
from app.wording import ago, duration, error, number, say
from engine.catalogue import stages
from engine.errors import UserError
from storage import labels, queries
from storage.files import Home
from storage.tables import FINAL, QUEUED, RUNNING, Project, Run

LOCAL = "local owner"  # whoever sits at the machine, where nobody has to sign in


@dataclass(frozen=True)
class Place:
    """Where a page finds everything."""

    database: Engine
    home: Home


QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}  # events that only read and write rows
State = dict[str, Any]  # what a tab is looking at: ids and words


def one_view(
    demo: gr.Blocks,
    start: Callable[[gr.Request], State],
    tree: Callable[[State], list[Node]],
    do: Callable[[dict[str, Any], State, str], list[Node] | Node | None],
) -> None:
    """A page that is one view. `start` reads its address; `do` does what somebody pressed, and may return nodes to show above
    `tree` this once, or one node to show instead."""
    kept, shown = gr.State({}), view()

    def load(request: gr.Request) -> tuple[State, Any]:
        known = start(request)
        return known, tree(known)

    def act(event: gr.EventData, known: State, request: gr.Request) -> tuple[State, Any]:
        known = known or start(request)
        try:
            told = do(action(event), known, request.username or LOCAL) or []
        except UserError as refused:
            told = [problem(error(refused))]
        return known, [*told, *tree(known)] if isinstance(told, list) else told

    demo.load(load, None, [kept, shown], **QUIET)
    shown.act(act, kept, [kept, shown], trigger_mode="multiple", **QUIET)


def asked(request: gr.Request | None, name: str) -> str:
    """A value of the page's address; in events after the page was loaded it comes from the referer."""
    return all_asked(request).get(name, "")


def all_asked(request: gr.Request | None) -> dict[str, str]:
    """All values of the page's address."""
    if request is None:
        return {}
    given = dict(request.query_params) or dict(parse_qsl(urlsplit(request.headers.get("referer", "")).query))
    return {name: str(value) for name, value in given.items()}


def asked_id(request: gr.Request | None, name: str) -> int | None:
    """An id in the page's address; 0 for one that is not a number, which finds nothing."""
    text = asked(request, name)
    return as_id(text) if text else None


def as_id(text: str) -> int:
    """The id that a text of the address means; 0, which finds nothing, for what no row can have."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def signed_in(request: gr.Request) -> list[Node]:
    """Who is signed in, and the way out; nothing where nobody has to."""
    if request.username in (None, LOCAL):
        return []
    return [h("p", say("Signed in as {name}.", name=request.username), " ", link(say("Sign out"), "/logout"), class_="soft")]


def unless_seen(seen: dict[str, Any], name: str, tree: Tree | None) -> Any:
    """The tree, or nothing at all when this page shows it already."""
    digest = hashlib.sha256(json.dumps(tree).encode()).hexdigest()
    if seen.get(name) == digest:
        return gr.skip()
    seen[name] = digest
    return tree


def model_look(model: int) -> str:
    """The class that gives a model its colour, the same on every page."""
    return f"m{model % 6}"


def status(run: Run, told: str = "") -> Node:
    """A run's state for people; once it has ended, with what is told to somebody who asked for it."""
    word = say("stopping" if run.stop_requested and run.status == RUNNING else run.status)
    return state(run.status, word, **({"ended": _ending(run, word, told)} if run.status in FINAL else {}))


def tell_button(run: Run) -> Node:
    """Asks to be told when a run ends, in this browser."""
    note = h("small", say("No notifications here: this tab's title will say it."), class_="soft")
    return h("span", h("button", say("Tell me when it ends"), on="tell", data={"run": _once(run)}), note, class_="row tell")


def _ending(run: Run, word: str, told: str) -> dict[str, str]:
    title = f"{GLYPHS[run.status]} {run.id} {run_title(run)}: {word}"
    return {"run": _once(run), "title": title, "body": (told or run.error or "")[:200], "href": f"/runs?run={run.id}"}


def _once(run: Run) -> str:
    """A run from queued to settled: resumed, it is another one, and so is the run of this number in another home."""
    return f"{run.id} {run.queued_at.isoformat()}"


def progress(run: Run) -> list[Node]:
    """A bar with figures while a run goes on, with the time left."""
    if run.status != RUNNING or not run.total:
        return []
    bar = h("progress", value=str(run.step), max=str(run.total), aria_label=say("progress"))
    left: list[Node] = []
    if run.started_at and run.step:
        taken = (queries.utc_now() - run.started_at).total_seconds()
        left = [h("span", say("about {time} left", time=duration(taken / run.step * (run.total - run.step))), class_="soft")]
    return [bar, h("span", f"{run.step:,}/{run.total:,}", class_="soft"), *left]


def people_awaited(session: Session, run: Run) -> list[Node]:
    """Where people rank what a queued run waits for, and how far they are."""
    found: list[Node] = []
    for project in queries.people_awaited(session, run.id or 0) if run.status == QUEUED else ():
        done, of = labels.progress(session, session.get_one(Project, project))
        text = say("waiting for people, {done} of {of}", done=f"{done:,}", of=f"{of:,}")
        found.append(link(text, f"/rankings?project={project}"))
    return found


def run_title(run: Run) -> str:
    """The stage's name, for people."""
    stage = stages().get(run.stage)
    return say(stage.title() if stage else run.stage)


def when(run: Run) -> str:
    """When it happened and how long it took."""
    now = queries.utc_now()
    if run.status == QUEUED:
        return say("queued {when}", when=ago(run.queued_at, now))
    if run.started_at and run.ended_at:
        return say("{when}, took {time}", when=ago(run.ended_at, now), time=duration((run.ended_at - run.started_at).total_seconds()))
    return say("started {when}", when=ago(run.started_at, now)) if run.started_at else say("never started")


def settings_table(settings: dict[str, Any]) -> Node:
    """Settings as rows, groups indented by their name."""
    rows: list[list[Node]] = []
    for name, value in settings.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        rows += [[h("code", f"{name}.{key}" if key else name), h("span", number(given), class_="raw")] for key, given in inner]
    body = [h("tr", *[h("td", cell) for cell in row]) for row in rows]
    return h("div", h("table", h("tbody", *body)), class_="table narrow")


def missing(what: str, address: str, back: str) -> Node:
    """A deep link to what is not there."""
    return problem(say("{what} is not here: it may be in another home, or the address is mistyped.", what=what), link(back, address))
